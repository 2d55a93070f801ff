"""The client for programs that do one thing after another.

Generated from `asynchronous` by `scripts/blocking_client.py`, except `waiting.py`; a test compares.
"""
