"""The documented address of the metrics collector and its command line."""

import sys

from pipeline_guard.cli.metrics import main
from pipeline_guard.metrics_store import MetricsCollector
from pipeline_guard.model import MetricPoint

__all__ = ["MetricPoint", "MetricsCollector"]

if __name__ == "__main__":
    sys.exit(main())
