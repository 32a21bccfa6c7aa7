"""What the cloud side must withstand: deeds that policies must and must not allow, and settings of resources that
invite trouble.
"""
