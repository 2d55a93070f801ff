"""Evidence: audits, attacks, certificates, benchmarks, quality gates."""
