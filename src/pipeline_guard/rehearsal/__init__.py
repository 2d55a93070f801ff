"""`test-recovery`: real faults, done to real programs, found and healed by a real guard."""
