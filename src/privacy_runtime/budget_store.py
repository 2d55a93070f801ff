"""The only door to the ledger: reserve, commit and refund in one transaction."""
