"""Doorsteps: the import paths that the guard's documents name, one line each."""
