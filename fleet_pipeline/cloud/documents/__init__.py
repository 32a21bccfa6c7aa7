"""The JSON documents that AWS is given: base files beside this one, and the functions that fill them in. Pure."""
