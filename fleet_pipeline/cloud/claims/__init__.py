"""The claim certificates of a fleet: where they lie, how one is made without leaving another behind, and what becomes
of them.
"""
