"""One table of Prometheus instruments."""
