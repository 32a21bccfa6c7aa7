"""What the cloud side must withstand: actions that policies must and must not allow, and settings of resources that
invite trouble.
"""
