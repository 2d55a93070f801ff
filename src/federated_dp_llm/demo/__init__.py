"""The router's demonstration: three hospitals, a few questions, and what everybody paid.

`run.run_demo` does it; `sample` is what it ships. Nothing here is imported by the router.
"""
