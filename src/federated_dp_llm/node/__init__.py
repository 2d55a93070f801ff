"""A node: its model, its records, its patients' ledgers."""
