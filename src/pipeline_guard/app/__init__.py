"""The guard over HTTP: health, status, alerts, events, metrics in and out."""
