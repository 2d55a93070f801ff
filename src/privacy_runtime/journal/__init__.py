"""The append-only, hash-chained journal: one contract, three homes."""
