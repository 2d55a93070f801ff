"""Assigning batches of tasks to nodes: one model, several named solvers."""
