"""What can go wrong in the guard, as a tree.

PipelineGuardError
+-- ConfigurationError     the configuration is not one; nothing was started or changed
+-- MonitoringError        something cannot be looked at, or what was seen cannot be kept
+-- RecoveryError          a recovery was refused, or did not do what it says; the fault stands

Every error names what was found and what was expected in `details`, never a record or a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar


class PipelineGuardError(Exception):
    """Base of every error that the guard raises on purpose.

    Args:
        message: what happened, what was expected, and what state we are in now.
        details: the same for machines: `parameter`, `value`, `constraint` where they apply.
    """

    code: ClassVar[str] = "pipeline_guard_error"

    def __init__(self, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = dict(details or {})

    def to_dict(self, at: datetime) -> dict[str, Any]:
        """Return the documented error body; `at` carries a time zone."""
        return {
            "error": {
                "type": type(self).__name__,
                "message": self.message,
                "details": self.details,
                "timestamp": at.isoformat().replace("+00:00", "Z"),
            }
        }


class ConfigurationError(PipelineGuardError):
    """The configuration is not one. Nothing was started or changed."""

    code: ClassVar[str] = "guard_configuration_error"


class MonitoringError(PipelineGuardError):
    """Something cannot be looked at, or what was seen cannot be kept."""

    code: ClassVar[str] = "guard_monitoring_error"


class RecoveryError(PipelineGuardError):
    """A recovery was refused, or did not do what it says. The fault stands."""

    code: ClassVar[str] = "guard_recovery_error"
