"""Probes: everything that the guard can look at.

Each is a frozen dataclass whose fields are its parameters in YAML. A look returns a reading for
whatever it finds: a thing that cannot be reached, may not be read, hangs, or is empty has a verdict
of its own, and `UNKNOWN` is never "well".

Others are added by the entry-point group `pipeline_guard.probes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from pipeline_guard.model import Probe
from pipeline_guard.probes.accelerators import GpuProbe, XidProbe
from pipeline_guard.probes.beats import HeartbeatProbe, StragglerProbe
from pipeline_guard.probes.commands import CommandProbe, NagiosProbe, PythonProbe
from pipeline_guard.probes.drift import DriftProbe
from pipeline_guard.probes.endpoints import CertificateProbe, HttpProbe, TcpProbe
from pipeline_guard.probes.inputs import MetricReader, ProbeInputs, bound
from pipeline_guard.probes.machine import MemoryProbe, PressureProbe
from pipeline_guard.probes.metrics import MetricProbe
from pipeline_guard.probes.products import ExportProbe, QualityProbe, QueueProbe
from pipeline_guard.probes.running import ProcessProbe
from pipeline_guard.probes.storage import CheckpointProbe, DiskProbe, FreshnessProbe

if TYPE_CHECKING:
    from privacy_runtime.plugins import PluginRegistry

__all__ = ["GROUP", "PROBES", "MetricReader", "ProbeInputs", "PythonProbe", "bound", "probe_kinds"]

PROBES: Final[Mapping[str, type[Probe]]] = MappingProxyType(
    {
        "certificate": CertificateProbe,
        "checkpoint": CheckpointProbe,
        "command": CommandProbe,
        "disk": DiskProbe,
        "drift": DriftProbe,
        "export": ExportProbe,
        "freshness": FreshnessProbe,
        "gpu": GpuProbe,
        "heartbeat": HeartbeatProbe,
        "http": HttpProbe,
        "memory": MemoryProbe,
        "metric": MetricProbe,
        "nagios": NagiosProbe,
        "pressure": PressureProbe,
        "process": ProcessProbe,
        "python": PythonProbe,
        "quality": QualityProbe,
        "queue": QueueProbe,
        "straggler": StragglerProbe,
        "tcp": TcpProbe,
        "xid": XidProbe,
    }
)
"""Those that are built in, by the `type` that a check has."""

GROUP: Final = "pipeline_guard.probes"
"""Of entry points."""


def probe_kinds(registry: PluginRegistry) -> Mapping[str, type[Probe]]:
    """Those that are built in and the plugins that a registry lets in, by name; one door for both.

    Raises:
        PluginError: a plugin has a name that is taken, lacks a part, or was made for another
            version; none is loaded then.
    """
    from privacy_runtime.plugins import Plugin, PluginMetadata  # noqa: PLC0415 -- slow to load

    for name, factory in PROBES.items():
        made = PluginMetadata(name=name, version=registry.version, requires=f"=={registry.version}")
        registry.register(Plugin(group=GROUP, metadata=made, factory=factory))
    found: dict[str, Any] = {n: registry.get(GROUP, n).factory for n in registry.usable(GROUP)}
    return MappingProxyType(found)
