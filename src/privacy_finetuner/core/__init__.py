"""Documented import paths, one line each. Nothing in the product imports from here."""
