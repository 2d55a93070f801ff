"""The documented path of the guard, and its documented command line.

python3 -m src.mobile_multimodal.pipeline_guard --config config.yaml --daemon | --status
"""

from pipeline_guard.cli.documented import guard_main
from pipeline_guard.errors import (
    ConfigurationError,
    MonitoringError,
    PipelineGuardError,
    RecoveryError,
)
from pipeline_guard.guard import SelfHealingPipelineGuard
from pipeline_guard.model import Alert, HealthStatus, PipelineComponent

__all__ = [
    "Alert",
    "ConfigurationError",
    "HealthStatus",
    "MonitoringError",
    "PipelineComponent",
    "PipelineGuardError",
    "RecoveryError",
    "SelfHealingPipelineGuard",
]

if __name__ == "__main__":
    guard_main()
