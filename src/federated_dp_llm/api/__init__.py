"""The router's HTTP interface."""
