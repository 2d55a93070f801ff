"""OpenTelemetry traces, where an exporter is configured."""
