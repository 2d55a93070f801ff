"""Durable training jobs: submitted, claimed by a worker, run in a process group, resumed."""
