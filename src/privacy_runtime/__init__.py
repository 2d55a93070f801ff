"""Everything impure that two rooms need: clock, entropy, files, processes."""
