"""The guard's configuration as values: what a file says, read and checked.

A file's keys are these fields without their units: `interval_s` is written `interval: 10s`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pipeline_guard.config.gates import GateSettings
from pipeline_guard.config.values import POSITIVE, Within
from pipeline_guard.model import Fault
from privacy_runtime.secret import Secret

_HISTORY: Final = 21
"""Results that a check remembers: what flapping is judged by, and the widest window."""

Few = Annotated[int, Within(1, _HISTORY)]
Count = Annotated[int, Within(1, 1_000)]
Span = Annotated[float, POSITIVE]


class Mode(StrEnum):
    """What a recovery may do.

    `OBSERVE`: write down what would be done. `SUGGEST`: tell people as well. `ACT`: do it.
    """

    OBSERVE = "observe"
    SUGGEST = "suggest"
    ACT = "act"


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What checks have that say nothing of their own.

    Attributes:
        interval_s: from one look to the next.
        timeout_s: a look that takes longer counts as unknown.
        for_: so many bad looks among the newest `of` confirm a fault.
        of: the window, in looks; none: as many as `for`.
        clear_after: so many good looks in a row clear it.
        grace_after_start_s: no recovery of a component runs so soon after the guard's start, after
            a recovery of it, or after a component that it depends on came back.
    """

    interval_s: Span = 10.0
    timeout_s: Span = 5.0
    for_: Few = 3
    of: Few | None = None
    clear_after: Few = 2
    grace_after_start_s: float = 60.0

    def __post_init__(self) -> None:
        """Refuse a window that never has enough bad looks."""
        if self.of is not None and self.of < self.for_:
            raise ValueError(f"of is {self.of}, expected at least for, which is {self.for_}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentSettings:
    """A component.

    Attributes:
        depends_on: components below it: their fault explains its own, and holds its recoveries.
        description: for people.
        heartbeat: short for a check `COMPONENT.progress` of type `heartbeat` with these parameters.
        settings: handed to its remedies.
    """

    depends_on: tuple[str, ...] = ()
    description: str = ""
    heartbeat: Mapping[str, Any] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSettings:
    """A check. Keys of its own `type` stand beside these.

    Attributes:
        id: of this check; unique.
        component: what it looks at.
        type: which probe: see `pipeline-guard probes`.
        interval_s, timeout_s, for_, of, clear_after: as in `defaults`; none: what that says.
        fault: the class of fault where the probe cannot tell.
        runbook: where the procedure is described.
        parameters: of the probe.
        where: file and line.
    """

    id: str
    component: str
    type: str
    interval_s: Span | None = None
    timeout_s: Span | None = None
    for_: Few | None = None
    of: Few | None = None
    clear_after: Few | None = None
    fault: Fault | None = None
    runbook: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict, metadata={"is_internal": True})
    where: str = field(default="", compare=False, metadata={"is_internal": True})


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """What a recovery is for.

    Attributes:
        component: whose fault.
        fault: which; none: any but statistical ones.
        severity: from which on.
    """

    component: str
    fault: Fault | None = None
    severity: Literal["degraded", "critical"] = "critical"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a recovery. Written as a name, `{name: {parameters}}`, or with `type`.

    Attributes:
        type: which remedy: see `pipeline-guard remedies`.
        timeout_s: it is given up after so long.
        parameters: of the remedy.
        rollback: steps that undo it, run when a later one fails.
        where: file and line.
    """

    type: str
    timeout_s: Span = 60.0
    parameters: Mapping[str, Any] = field(default_factory=dict, metadata={"is_internal": True})
    rollback: tuple[Step, ...] = ()
    where: str = field(default="", compare=False, metadata={"is_internal": True})


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """How a recovery is known to have worked.

    Attributes:
        check: which check must be well; none: the one that found the fault.
        within_s: until when, counted from the end of the last step.
    """

    check: str | None = None
    within_s: Span = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How often a recovery may run. Windows slide; nothing is counted per calendar hour.

    Attributes:
        cooldown_s: from the end of one run to the next, at least.
        max_attempts: runs in any `window`, whether they helped or not.
        window_s: the sliding window.
        no_progress: so many runs in a row without progress are the last; healing resets it.
        backoff_s: the wait after the first failed run; each further one is five times longer.
        most_backoff_s: the longest wait; a quarter more or less is added by chance.
    """

    cooldown_s: float = 300.0
    max_attempts: Count = 3
    window_s: Span = 3_600.0
    no_progress: Count = 3
    backoff_s: float = 1.0
    most_backoff_s: float = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoverySettings:
    """What is done about a fault. The first one of a file that fits and is not exhausted is run.

    Attributes:
        on: what it is for.
        steps: in order.
        id: of this recovery; none: `COMPONENT.FAULT`.
        verify: how it is known to have worked.
        limits: how often it may run.
        mode: none: the mode of the file; without that, `observe`.
        escalate: destinations of `notify` that hear when it is exhausted or refused.
        runbook: where the procedure is described.
        is_statistical: whether it may also run on an anomaly or a drift, which are no proof.
        promote_after: so many right verdicts in a row, and its promotion is suggested.
    """

    on: Trigger
    steps: tuple[Step, ...]
    id: str = ""
    verify: Verification = field(default_factory=Verification)
    limits: Limits = field(default_factory=Limits)
    mode: Mode | None = None
    escalate: tuple[str, ...] = ()
    runbook: str | None = None
    is_statistical: bool = False
    promote_after: Count = 20

    def __post_init__(self) -> None:
        """Refuse a recovery that does nothing."""
        if not self.steps:
            raise ValueError("steps is empty; expected at least one")

    @property
    def name(self) -> str:
        """Its id, or what it is for."""
        return self.id or f"{self.on.component}.{self.on.fault or 'any'}"


Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaintenanceWindow:
    """When people work on something: no recovery runs, and nobody is paged.

    Attributes:
        name: for people.
        components: which; none: all.
        start, end: one window, with time zones.
        days: or every week on these days,
        from_, to: between these times; `to` before `from` is on the next day.
        timezone: of `from` and `to`, such as `Europe/Berlin`.
    """

    name: str
    components: tuple[str, ...] = ()
    start: datetime | None = None
    end: datetime | None = None
    days: tuple[Weekday, ...] = ()
    from_: str = ""
    to: str = ""
    timezone: str = "UTC"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How many recoveries may run on this host, of all components together.

    Attributes:
        actions: so many,
        per_s: in any such span.
    """

    actions: Count = 3
    per_s: Span = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where notices go.

    Attributes:
        kind: `slack`, `webhook` (signed), `email` or `alertmanager`.
        url: the address; a mailbox for `email`.
        secret: that signs a webhook's messages.
        events: which notices; none: all.
    """

    kind: Literal["slack", "webhook", "email", "alertmanager"]
    url: Secret
    secret: Secret | None = None
    events: tuple[Literal["opened", "resolved", "repeated", "escalated", "suggested"], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """Who takes e-mail.

    Attributes:
        host, port, sender: of the server, and in whose name.
        security: `none` only for a server on this machine.
        user, password: to log in with.
    """

    host: str
    sender: str
    port: Annotated[int, Within(1, 65_535)] = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: str | None = None
    password: Secret | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifySettings:
    """Who is told.

    Attributes:
        destinations: by name.
        group_wait_s: so long others of the same root are waited for before the first notice.
        repeat_s: a fault that stands is told again so often.
        mail: for destinations of kind `email`.
        outbox: the file that keeps what was not delivered yet.
        allow_networks: private networks that notices may go to, such as `10.0.0.0/8`.
        allow_http: whether an address may be without TLS.
    """

    destinations: Mapping[str, Destination] = field(default_factory=dict)
    group_wait_s: float = 30.0
    repeat_s: Span = 14_400.0
    mail: Mail | None = None
    outbox: Path = Path("pipeline_guard_outbox.db")
    allow_networks: tuple[str, ...] = ()
    allow_http: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """What is kept.

    Attributes:
        path: the guard's own state: incidents, what was done, verdicts.
        metrics: measurements of probes; none: they are not kept.
        keep_s: how long readings and closed incidents are kept.
    """

    path: Path = Path("pipeline_guard.db")
    metrics: Path | None = None
    keep_s: Span = 30 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """The HTTP server of `pipeline-guard run`.

    Attributes:
        enabled: whether there is one.
        host, port: where it listens.
        jwt_key: the secret that callers' tokens are signed with; none: only `/health` answers.
        jwt_public_key: or the file of a public key.
        jwt_audience, jwt_issuer: what a token must name; none: anything.
    """

    enabled: bool = False
    host: str = "127.0.0.1"
    port: Annotated[int, Within(0, 65_535)] = 8080
    jwt_key: Secret | None = None
    jwt_public_key: Path | None = None
    jwt_audience: str | None = None
    jwt_issuer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardConfig:
    """Everything that a guard is told.

    Attributes:
        version: of this form; 1.
        mode: what a recovery may do that says nothing itself, and the most that any may do.
        defaults: of checks.
        components: by name.
        checks: what is looked at.
        recoveries: what is done.
        gates: asked before every recovery.
        maintenance: when nothing is done.
        kill_switch: while this file exists, no recovery runs.
        rate: of recoveries on this host.
        notify: who is told.
        store: what is kept.
        http: the server.
        source: the file that it was read from.
    """

    version: Literal[1] = 1
    mode: Mode | None = None
    defaults: Defaults = field(default_factory=Defaults)
    components: Mapping[str, ComponentSettings] = field(default_factory=dict)
    checks: tuple[CheckSettings, ...] = ()
    recoveries: tuple[RecoverySettings, ...] = ()
    gates: tuple[GateSettings, ...] = ()
    maintenance: tuple[MaintenanceWindow, ...] = ()
    kill_switch: Path | None = None
    rate: Rate = field(default_factory=Rate)
    notify: NotifySettings = field(default_factory=NotifySettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    http: HttpSettings = field(default_factory=HttpSettings)
    source: str = field(default="", compare=False, metadata={"is_internal": True})

    def mode_of(self, recovery: RecoverySettings) -> Mode:
        """What a recovery may do."""
        order = list(Mode)
        own = recovery.mode or self.mode or Mode.OBSERVE
        return min(own, self.mode or Mode.ACT, key=order.index)

    def beside(self, path: Path) -> Path:
        """A path of the file; relative ones begin at the folder of the file."""
        return Path(self.source).parent / path if self.source else path
