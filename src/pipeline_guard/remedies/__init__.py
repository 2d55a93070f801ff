"""Remedies: everything that the guard can do about a fault.

Each is a frozen dataclass whose fields are its parameters in YAML; where one is left out, the
component's `settings` are asked. Each says first what is against it (`objection`) and what it would
do (`intent`), holds a lock while it works, ends within its time, and leaves evidence by which the
change can be found and taken back. None knows whether it helped: the checks say that.

None sees a private value, and none changes batch size, sampling rate, clip norm or noise.

Others are added by the entry-point group `pipeline_guard.remedies`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from pipeline_guard.model import Remedy
from pipeline_guard.remedies.cleaning import Clean
from pipeline_guard.remedies.commands import Command, RerunJob
from pipeline_guard.remedies.options import HalveMicroBatch
from pipeline_guard.remedies.programs import Restart, ResumeTraining, Start, Terminate
from pipeline_guard.remedies.restoring import QuarantineCheckpoint, RestoreLastVerified
from pipeline_guard.remedies.services import (
    DrainNode,
    RestartContainer,
    RestartRollout,
    RestartUnit,
    RollBackRollout,
)
from pipeline_guard.remedies.stacks import CaptureStacks
from pipeline_guard.remedies.versions import FailOver, RollBack

if TYPE_CHECKING:
    from privacy_runtime.plugins import PluginRegistry

__all__ = ["GROUP", "REMEDIES", "remedy_kinds"]

REMEDIES: Final[Mapping[str, type[Remedy]]] = MappingProxyType(
    {
        "capture_stacks": CaptureStacks,
        "clean": Clean,
        "command": Command,
        "drain_node": DrainNode,
        "fail_over": FailOver,
        "halve_micro_batch": HalveMicroBatch,
        "quarantine_checkpoint": QuarantineCheckpoint,
        "rerun_job": RerunJob,
        "restart": Restart,
        "restart_container": RestartContainer,
        "restart_rollout": RestartRollout,
        "restart_unit": RestartUnit,
        "restore_last_verified": RestoreLastVerified,
        "resume_training": ResumeTraining,
        "roll_back": RollBack,
        "roll_back_rollout": RollBackRollout,
        "start": Start,
        "terminate": Terminate,
    }
)
"""Those that are built in, by the name that a step of a recovery has."""

GROUP: Final = "pipeline_guard.remedies"
"""Of entry points."""


def remedy_kinds(registry: PluginRegistry) -> Mapping[str, type[Remedy]]:
    """Those that are built in and the plugins that a registry lets in, by name; one door for both.

    Raises:
        PluginError: a plugin has a name that is taken, lacks a part, or was made for another
            version; none is loaded then.
    """
    from privacy_runtime.plugins import Plugin, PluginMetadata  # noqa: PLC0415 -- slow to load

    for name, factory in REMEDIES.items():
        made = PluginMetadata(name=name, version=registry.version, requires=f"=={registry.version}")
        registry.register(Plugin(group=GROUP, metadata=made, factory=factory))
    found: dict[str, Any] = {n: registry.get(GROUP, n).factory for n in registry.usable(GROUP)}
    return MappingProxyType(found)
