"""A federation of three nodes on one machine, with invented records."""
