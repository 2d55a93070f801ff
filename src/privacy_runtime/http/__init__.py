"""Shared plumbing of the web applications: errors, identifiers, limits, access, streams.

Knows requests and answers, and no product.
"""
