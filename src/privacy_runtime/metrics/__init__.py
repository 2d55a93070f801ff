"""One table of Prometheus instruments, and the only way to them.

::

    metrics = Metrics()
    metrics.add(table.JOBS_FINISHED, state="succeeded")
    metrics.reads(table.WORKERS, lambda: {("busy",): 2.0, ("idle",): 1.0})
    body, media_type = metrics.exposition(Audience.OPERATOR)

`table` is what docs/observability.md, the dashboard and the alert rules are checked against. Labels
are closed sets or bounded; nothing that a client sends becomes a series.
"""

from privacy_runtime.metrics import table
from privacy_runtime.metrics.figures import Metrics, MetricsServer
from privacy_runtime.metrics.instruments import Audience, Instrument, Kind, Label

__all__ = ["Audience", "Instrument", "Kind", "Label", "Metrics", "MetricsServer", "table"]
