"""What the guard speaks of: components, readings, faults, alerts, and what heals them.

A probe looks and returns a `Reading`. A remedy is asked what it would do, and does it. Neither
decides anything: that is `assess` and `decide`, which see only the values of this module.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, IntEnum, StrEnum
from typing import Any, Protocol, TypeAlias


class HealthStatus(Enum):
    """How a component is. `FAILED`: recovery was given up, and a person was called."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    CRITICAL = "critical"
    RECOVERING = "recovering"
    FAILED = "failed"


class PipelineComponent(StrEnum):
    """The components that every pipeline has. Others are declared by name: `component_of`."""

    MODEL_TRAINING = "model_training"
    QUANTIZATION = "quantization"
    MOBILE_EXPORT = "mobile_export"
    TESTING = "testing"
    DEPLOYMENT = "deployment"
    MONITORING = "monitoring"
    STORAGE = "storage"
    COMPUTE = "compute"
    CUSTOM = "custom"


class NamedComponent(str):
    """A component that a configuration declares; reads like a `PipelineComponent`."""

    __slots__ = ()

    @property
    def value(self) -> str:
        """Its name."""
        return str(self)


Component: TypeAlias = PipelineComponent | NamedComponent


def component_of(name: str) -> Component:
    """Return the component of this name: one of the enumeration where it has one."""
    try:
        return PipelineComponent(name)
    except ValueError:
        return NamedComponent(name)


class Verdict(IntEnum):
    """The result of one look, numbered as the exit codes of Nagios plugins."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


class Fault(StrEnum):
    """The classes of fault that recoveries are written for (`docs/guard_faults.md`)."""

    CRASH = "crash"
    OUT_OF_MEMORY = "out_of_memory"
    ACCELERATOR_OUT_OF_MEMORY = "accelerator_out_of_memory"
    HANG = "hang"
    NOT_FINITE = "not_finite"
    LOSS_SPIKE = "loss_spike"
    DISK_FULL = "disk_full"
    CORRUPT_CHECKPOINT = "corrupt_checkpoint"
    STALE_DATA = "stale_data"
    DRIFTED_DATA = "drifted_data"
    EXPORT_FAILED = "export_failed"
    DEAD_ENDPOINT = "dead_endpoint"
    ACCELERATOR_FAULT = "accelerator_fault"
    STRAGGLER = "straggler"
    CLIENT_LOST = "client_lost"
    BUDGET_BURN = "budget_burn"
    UPSTREAM_FAILING = "upstream_failing"
    OVERLOAD = "overload"
    CERTIFICATE_EXPIRY = "certificate_expiry"
    MODEL_QUALITY = "model_quality"
    ANOMALY = "anomaly"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Moment:
    """When a look happens.

    Attributes:
        at: with a time zone; may jump, never measure with it.
        monotonic_s: seconds since an arbitrary start; never goes back.
    """

    at: datetime
    monotonic_s: float


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a kind of check is looked at, and how many bad looks confirm its fault.

    Some looks find a fact: a process that ended, a step that did not come within its limit, bytes
    that are not what was written. A second look at a fact says nothing new, so a kind may name its
    own pace: `pace: ClassVar[Pace]` of a probe. It is looked at as often as its pace or `defaults`
    say, whichever is oftener; what a check says itself stands above both.
    """

    interval_s: float
    for_: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one look of a probe found.

    Attributes:
        verdict: how it looks. `UNKNOWN`: it could not be looked at, which is not "well".
        summary: one line for people; never a record, a prompt or a secret.
        fault: the class of fault; `None` where all is well, or where the probe cannot tell.
        measurements: figures to keep in the metrics store, by metric name.
        evidence: what an engineer wants to see: paths, exit codes, digests; JSON values.
    """

    verdict: Verdict
    summary: str
    fault: Fault | None = None
    measurements: Mapping[str, float] = field(default_factory=dict)
    evidence: Mapping[str, Any] = field(default_factory=dict)


class Probe(Protocol):
    """Something that can be looked at.

    `look` either returns a reading (it runs on a thread, and may block) or is a coroutine function.
    It is cut off at the check's timeout, which counts as `UNKNOWN`. It raises only what is a fault
    of its own program: whatever it finds outside is a reading.
    """

    def look(self, moment: Moment) -> Reading | Awaitable[Reading]:
        """Look once."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A fault of a component, as a remedy gets it.

    Attributes:
        id: of the alert that it belongs to.
        component, fault, check: what is wrong, and which check says so.
        since: when it began.
        reading: the newest of the check.
        attempt: 1 for the first in the window of the recovery's limits.
        settings: the component's `settings` of the configuration.
    """

    id: str
    component: Component
    fault: Fault
    check: str
    since: datetime
    reading: Reading
    attempt: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What a remedy did.

    Attributes:
        summary: one line for people.
        evidence: what was changed, so that it can be found and undone; JSON values.
    """

    summary: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


class Remedy(Protocol):
    """Something that can be done about a fault. It is done when the probes say so, not before."""

    def objection(self, case: Case) -> str | None:
        """Return why it must not be done now, or `None`. Looks, changes nothing."""
        ...

    def intent(self, case: Case) -> str:
        """Return in one line what `apply` would do. Changes nothing."""
        ...

    def apply(self, case: Case, within_s: float) -> Applied:
        """Do it, on a thread, within so many seconds.

        Raises:
            RecoveryError: it could not; the error says what was changed so far.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """Whether a remedy may run, as a gate says.

    Attributes:
        is_allowed: `False`: the case is escalated.
        reason: one line.
        figures: the numbers behind it: what a recovery would cost and what is left.
    """

    is_allowed: bool
    reason: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)


class Gate(Protocol):
    """Asked before every remedy. A product registers one to say what a recovery would cost.

    An exception counts as a refusal: what cannot be priced is not done.
    """

    def permit(self, case: Case, remedy: str) -> Permit:
        """Say whether the remedy of this name may run in this case."""
        ...


@dataclass
class MetricPoint:
    """One measurement.

    Attributes:
        timestamp: a naive one is taken as UTC.
        component: whose.
        metric_name: which.
        value: finite, or NaN for "there was none".
        labels: dimensions; their combinations are counted against the store's cap.
    """

    timestamp: datetime
    component: str
    metric_name: str
    value: float
    labels: dict[str, str] | None = None


@dataclass
class Alert:
    """A fault that was confirmed, what is known about it, and what was done.

    Attributes:
        component: whose.
        severity: `DEGRADED` or `CRITICAL` while it stands; `FAILED` once recovery was given up.
        message: one line for people.
        timestamp: when it was confirmed.
        metadata: the newest evidence; JSON values.
        resolved: whether the checks say that it is over.
        resolution_action: the recovery after which it was over; `None` where none was run.
        id: stable for as long as it stands.
        fault, check: what is wrong, and which check says so.
        since: when the first bad look was; last_seen: when the newest was; count: how many.
        root: the alert of the component below that explains this one; `None`: it is a root.
        runbook: where the procedure is described.
        actions: what was done, refused or suggested, oldest first; JSON values.
        is_flapping: its check swings; no recovery is run until it settles.
    """

    component: Component
    severity: HealthStatus
    message: str
    timestamp: datetime
    metadata: dict[str, Any] = field(default_factory=dict)
    resolved: bool = False
    resolution_action: str | None = None
    id: str = ""
    fault: Fault = Fault.OTHER
    check: str = ""
    since: datetime | None = None
    last_seen: datetime | None = None
    count: int = 1
    root: str | None = None
    runbook: str | None = None
    actions: list[dict[str, Any]] = field(default_factory=list)
    is_flapping: bool = False
