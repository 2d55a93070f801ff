"""Structured logs: JSON lines with correlation identifiers, and nothing sensitive in them."""
