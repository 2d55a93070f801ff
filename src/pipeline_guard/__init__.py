"""Watches a machine-learning pipeline, finds faults, heals what it may, and proves it healed.

from pipeline_guard import SelfHealingPipelineGuard

guard = SelfHealingPipelineGuard("pipeline_guard.yaml")
guard.run()
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline_guard.config import GuardConfig
    from pipeline_guard.errors import (
        ConfigurationError,
        MonitoringError,
        PipelineGuardError,
        RecoveryError,
    )
    from pipeline_guard.guard import SelfHealingPipelineGuard
    from pipeline_guard.guard.configuration import ConfigManager
    from pipeline_guard.metrics_store import MetricsCollector
    from pipeline_guard.model import Alert, HealthStatus, MetricPoint, PipelineComponent
    from pipeline_guard.orchestrator import PipelineOrchestrator

__all__ = [
    "Alert",
    "ConfigManager",
    "ConfigurationError",
    "GuardConfig",
    "HealthStatus",
    "MetricPoint",
    "MetricsCollector",
    "MonitoringError",
    "PipelineComponent",
    "PipelineGuardError",
    "PipelineOrchestrator",
    "RecoveryError",
    "SelfHealingPipelineGuard",
]

_HOMES = {
    "Alert": "model",
    "ConfigManager": "guard.configuration",
    "ConfigurationError": "errors",
    "GuardConfig": "config",
    "HealthStatus": "model",
    "MetricPoint": "model",
    "MetricsCollector": "metrics_store",
    "MonitoringError": "errors",
    "PipelineComponent": "model",
    "PipelineGuardError": "errors",
    "PipelineOrchestrator": "orchestrator",
    "RecoveryError": "errors",
    "SelfHealingPipelineGuard": "guard",
}


def __getattr__(name: str) -> Any:
    """Load what is asked for: a program that only beats its heart loads nothing else."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
