"""The guard's configuration: YAML becomes frozen values, and every fault is said at once.

::

    config = read_config("pipeline_guard.yaml", Registries(PROBES, REMEDIES))
    probe = build(check.type, check.parameters, PROBES, check.where)
"""

from pipeline_guard.config.document import faults_of, parse_config, read_config
from pipeline_guard.config.forms import Registries, build
from pipeline_guard.config.rules import all_checks
from pipeline_guard.config.schema import described, json_schema
from pipeline_guard.config.settings import (
    CheckSettings,
    ComponentSettings,
    Defaults,
    Destination,
    GuardConfig,
    HttpSettings,
    Limits,
    Mail,
    MaintenanceWindow,
    Mode,
    NotifySettings,
    Rate,
    RecoverySettings,
    Step,
    StoreSettings,
    Trigger,
    Verification,
)
from pipeline_guard.config.values import (
    POSITIVE,
    Automatic,
    Within,
    bytes_of,
    duration_text,
    seconds_of,
)
from pipeline_guard.config.writing import written

__all__ = [
    "POSITIVE",
    "Automatic",
    "CheckSettings",
    "ComponentSettings",
    "Defaults",
    "Destination",
    "GuardConfig",
    "HttpSettings",
    "Limits",
    "Mail",
    "MaintenanceWindow",
    "Mode",
    "NotifySettings",
    "Rate",
    "RecoverySettings",
    "Registries",
    "Step",
    "StoreSettings",
    "Trigger",
    "Verification",
    "Within",
    "all_checks",
    "build",
    "bytes_of",
    "described",
    "duration_text",
    "faults_of",
    "json_schema",
    "parse_config",
    "read_config",
    "seconds_of",
    "written",
]
