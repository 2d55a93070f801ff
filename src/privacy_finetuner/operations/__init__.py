"""What runs and how it fares: security alerts from evidence, workers and their number."""
