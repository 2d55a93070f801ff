"""A chaos driver: real workers and real training, and a seeded schedule of faults.

Read `site` first (what is put under strain), then `faults` (what strikes it), `campaign` (when) and
`invariants` (what must hold all the same).
"""
