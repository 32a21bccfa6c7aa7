"""What the lake holds on one vehicle: found by the hours in which it was seen, given out, and erased with
proof; and what of all vehicles goes because it is old.

Not for: its thing, its certificates and its folder, which are the cloud side's and the vehicle's.
"""
