"""Documented import paths of examples."""
