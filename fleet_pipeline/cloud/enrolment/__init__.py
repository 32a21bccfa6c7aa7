"""Which vehicles may come in, and which did: lists of serials, bulk registration, what the hook wrote
of its decisions.
"""
