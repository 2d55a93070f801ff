"""The loop that looks: collects facts, lets the rules judge them, keeps what they found.

Alerts are kept in the journal's stream `alerts`, so they outlive their evidence and the process:

::

    open -> acknowledged      by a person, with a reason
      '---> resolved          a condition that no longer holds, or an event that is a week old

A scan that fails is a scan that did not happen: `last_scan` is when one last ended. Scans take at
most a tenth of the loop's time: where the journal is slow, they come less often.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Self

from privacy_core.errors import PrivacyError
from privacy_finetuner.operations.alerts import (
    Alert,
    ChainFact,
    Event,
    Facts,
    Severity,
    ThreatType,
)
from privacy_finetuner.operations.errors import AlertClosed, UnknownAlert
from privacy_finetuner.operations.rules import judged
from privacy_finetuner.operations.run_rules import judged_run
from privacy_finetuner.operations.trail import STREAM, AuditTrail, body_of
from privacy_finetuner.operations.watch import Watch, Watched
from privacy_runtime.journal import REPAIRED, Change, Draft, Entry, Head, Journal, View
from privacy_runtime.world import Clock, Entropy, SystemEntropy

ALERTS: Final = "alerts"
LABEL: Final = "alerts-1"
LOOK_BACK: Final = timedelta(days=14)
"""How old an event may be to count in a rule."""
KEPT_OPEN: Final = timedelta(days=7)
"""How long an alert of events stays open when nobody acknowledges it."""
WALKED_AGAIN: Final = timedelta(days=1)
"""How often the audit chain is walked from its beginning."""
LEAST_INTERVAL_S: Final = 1.0
REST: Final = 9.0
"""Seconds of rest for each second that a scan took."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAlert:
    """An alert as it is kept, and what became of it."""

    alert: Alert
    status: str
    raised_at: datetime
    closed_at: datetime | None = None
    closed_by: str | None = None
    closed_reason: str | None = None

    @classmethod
    def of(cls, held: Mapping[str, Any]) -> Self:
        """Read a record."""
        alert, closed = dict(held["alert"]), held["closed_at"]
        alert |= {
            "threat_type": ThreatType(alert["threat_type"]),
            "severity": Severity(alert["severity"]),
            "at": datetime.fromisoformat(alert["at"]),
            "evidence": tuple(alert["evidence"]),
            "recommended_actions": tuple(alert["recommended_actions"]),
            "responses": tuple(alert.get("responses", ())),
        }
        return cls(
            alert=Alert(**alert),
            status=held["status"],
            raised_at=datetime.fromisoformat(held["raised_at"]),
            closed_at=None if closed is None else datetime.fromisoformat(closed),
            closed_by=held["closed_by"],
            closed_reason=held["closed_reason"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """An organisation's security at a glance. `threat_level` is the worst open alert's."""

    monitoring_active: bool
    threat_level: Severity
    active_alerts: int
    threats_detected_24h: int
    last_scan: datetime | None


class Monitor:
    """Scans, keeps alerts, and says what it found. One for a process; threads may share it.

    Args:
        journal: holds the streams.
        trail: whose entry is whose.
        watched: accounts, jobs and the ledger.
        clock: tells the time.
        budget_threshold: `monitoring.alerts.privacy_budget_threshold`.
        on_alert: told of each alert once, when it is raised; what it raises is logged.
        watch: what is watched for, and what is done about it.
        entropy: names entries that `watch.before` writes.
    """

    def __init__(
        self,
        journal: Journal,
        trail: AuditTrail,
        watched: Watched,
        *,
        clock: Clock,
        budget_threshold: float,
        on_alert: Callable[[Alert], None] | None = None,
        watch: Watch | None = None,
        entropy: Entropy | None = None,
    ) -> None:
        self._journal, self._trail, self._watched, self._clock = journal, trail, watched, clock
        self._watch, self._entropy = watch or Watch(), entropy or SystemEntropy()
        self._threshold, self._on_alert = budget_threshold, on_alert
        self._scanning = threading.Lock()
        self._events: list[Event] = []
        self._seen = 0
        self._checked = Head()
        self._walked: datetime | None = None
        self._is_projected = False
        self.last_scan: datetime | None = None
        self.is_running = False

    async def run(self, *, interval_s: float, stop: asyncio.Event) -> None:
        """Scan every `interval_s` seconds until `stop` is set, never more often than may be."""
        self.is_running = True
        try:
            while not stop.is_set():
                begun_s = self._clock.monotonic_s()
                try:
                    await asyncio.to_thread(self.scan)
                except (PrivacyError, OSError):
                    _log.exception("a security scan failed")
                took_s = self._clock.monotonic_s() - begun_s
                pause_s = max(interval_s, LEAST_INTERVAL_S, REST * took_s)
                pause = asyncio.wait_for(stop.wait(), pause_s)
                try:
                    await pause
                except TimeoutError:
                    continue
        finally:
            self.is_running = False

    def scan(self) -> None:
        """Look once, at every organisation; keep what is new, resolve what is over.

        Raises:
            JournalError: the database is away; the scan did not happen.
        """
        with self._scanning:
            for act in self._watch.before:
                act(self._write)
            now = self._clock.now()
            chains = [self._audit_chain(now), self._watched.ledger_chain(now)]
            self._collect(now)
            for tenant in sorted(self._trail.organisations):
                found = judged(self._facts(tenant, now, chains))
                for run in self._watched.released_runs(tenant):
                    found += judged_run(run)
                self._keep(tenant, [each for each in found if self._watch.wants(each)], now)
            self.last_scan = now

    def alerts(self, tenant: str, *, is_open: bool | None = None) -> list[KeptAlert]:
        """An organisation's alerts, newest first; only open or only closed ones if asked."""
        found = [KeptAlert.of(each) for each in self._documents(tenant)]
        chosen = [each for each in found if is_open in (None, each.status == "open")]
        return sorted(chosen, key=lambda each: (each.alert.at, each.alert.id), reverse=True)

    def summary(self, tenant: str) -> Summary:
        """An organisation's security at a glance."""
        kept, now = self.alerts(tenant), self._clock.now()
        active = [each for each in kept if each.status == "open"]
        worst = max((each.alert.severity for each in active), key=lambda s: s.rank, default=None)
        return Summary(
            monitoring_active=self.is_running,
            threat_level=worst or Severity.LOW,
            active_alerts=len(active),
            threats_detected_24h=sum(now - each.alert.at <= timedelta(days=1) for each in kept),
            last_scan=self.last_scan,
        )

    def acknowledge(self, tenant: str, alert: str, *, by: str, reason: str) -> KeptAlert:
        """Say that a person looked at it, and why it may be closed.

        Raises:
            UnknownAlert: there is none of this id in the organisation.
            AlertClosed: it is closed already.
        """
        return self._close(tenant, alert, "acknowledged", by=by, reason=reason)

    def _write(self, type_: str, body: dict[str, Any]) -> None:
        self._trail.write(type_, body, entropy=self._entropy)

    def _audit_chain(self, now: datetime) -> ChainFact:
        """Walk what was added to the audit chain since the last scan, and once a day all of it."""
        is_due = self._walked is None or now - self._walked >= WALKED_AGAIN
        found = self._trail.verify(after=None if is_due else self._checked)
        if found.is_intact:
            self._checked = Head(found.entries, found.head, "")
            self._walked = now if is_due else self._walked
        return ChainFact(
            stream=STREAM, is_intact=found.is_intact, broken_at=found.broken_at, at=now
        )

    def _collect(self, now: datetime) -> None:
        """Take in the events since the last scan, and let go of the old ones."""
        for entry in self._trail.since(self._seen):
            self._seen = entry.seq
            if entry.type != REPAIRED and entry.type not in _QUIET:
                self._events.append(_event(entry))
        oldest = now - LOOK_BACK
        self._events = [each for each in self._events if each.at >= oldest]

    def _facts(self, tenant: str, now: datetime, chains: Sequence[ChainFact]) -> Facts:
        own = set(self._trail.numbers(tenant))
        return Facts(
            tenant=tenant,
            now=now,
            events=[each for each in self._events if each.seq in own],
            accounts=self._watched.accounts(tenant, now),
            failures=self._watched.failures(tenant, now - LOOK_BACK),
            chains=chains,
            budget_threshold=self._threshold,
        )

    def _keep(self, tenant: str, found: Sequence[Alert], now: datetime) -> None:
        kept = {each.alert.id: each for each in self.alerts(tenant)}
        for alert in found:
            if alert.id not in kept and (alert.is_condition or now - alert.at <= KEPT_OPEN):
                self._raise(tenant, alert)
            elif alert.id in kept:
                self._go_on(tenant, kept[alert.id])
        standing = {alert.id for alert in found}
        for each in kept.values():
            is_over = each.alert.id not in standing if each.alert.is_condition else False
            is_old = not each.alert.is_condition and now - each.alert.at > KEPT_OPEN
            if each.status == "open" and (is_over or is_old):
                why = "it no longer holds" if is_over else "nobody acknowledged it for a week"
                self._close(tenant, each.alert.id, "resolved", by="service", reason=why)

    def _raise(self, tenant: str, alert: Alert) -> None:
        name = _name(tenant, alert.id)
        written: list[bool] = []

        def decide(view: View) -> Change:
            written[:] = [name not in view.documents]
            if name in view.documents:  # another process was first
                return Change()
            document = {
                "alert": _written(alert),
                "status": "open",
                "raised_at": view.at,
                **dict.fromkeys(("closed_at", "closed_by", "closed_reason")),
            }
            key = f"{name}:raised"
            body = {"tenant": tenant, "name": name, "document": document}
            return Change([Draft("alert.raised", key, body)], {name: document})

        self._journal.transact(ALERTS, decide, names=(name,))
        if not written[0]:
            return
        if self._on_alert is not None:
            try:
                self._on_alert(alert)
            except (PrivacyError, OSError):
                _log.exception("an alert could not be announced")
        self._answer(tenant, alert)

    def _answer(self, tenant: str, alert: Alert) -> None:
        """Respond, and keep with the alert what was done or would have been."""
        responses = self._watch.responses
        if responses is None or not (given := responses.answer(alert)):
            return
        answered = replace(alert, responses=tuple(each.document() for each in given))
        self._change(tenant, alert.id, "alert.answered", {"alert": _written(answered)}, _ANY)

    def _go_on(self, tenant: str, kept: KeptAlert) -> None:
        """A condition that was resolved and holds again is open again; who died is answered for."""
        if kept.status == "open" and not kept.alert.responses:
            self._answer(tenant, kept.alert)
        if kept.status == "resolved" and kept.alert.is_condition:
            self._change(tenant, kept.alert.id, "alert.reopened", {"status": "open"}, {"resolved"})

    def _close(self, tenant: str, alert: str, status: str, *, by: str, reason: str) -> KeptAlert:
        values = {"status": status, "closed_by": by, "closed_reason": reason}
        return self._change(tenant, alert, f"alert.{status}", values, {"open"})

    def _change(
        self, tenant: str, alert: str, type_: str, values: Mapping[str, Any], allowed: Set[str]
    ) -> KeptAlert:
        self._project()
        name = _name(tenant, alert)
        answer: list[Mapping[str, Any]] = []

        def decide(view: View) -> Change:
            held = view.documents.get(name)
            if held is None:
                raise UnknownAlert(alert)
            if held["status"] not in allowed:
                raise AlertClosed(alert, status=held["status"])
            document = {**held, **values}
            if "status" in values:
                document["closed_at"] = None if values["status"] == "open" else view.at
            answer[:] = [document]
            body = {"tenant": tenant, "name": name, "document": document}
            return Change([Draft(type_, f"{name}:{view.head.seq + 1}", body)], {name: document})

        self._journal.transact(ALERTS, decide, names=(name,))
        return KeptAlert.of(answer[0])

    def _documents(self, tenant: str) -> list[Mapping[str, Any]]:
        self._project()
        return [held for _, held in self._journal.documents(ALERTS, _name(tenant, ""))]

    def _project(self) -> None:
        if not self._is_projected:
            self._journal.project(ALERTS, LABEL, _fold)
            self._is_projected = True


_ANY: Final = frozenset({"open", "acknowledged", "resolved"})
_QUIET: Final = frozenset(
    {"identity.login", "identity.refresh", "identity.logout", "operations.response"}
)
"""Too many, and no rule looks at them."""


def _fold(entries: Any) -> dict[str, Mapping[str, Any]]:
    documents: dict[str, Mapping[str, Any]] = {}
    for entry in entries:
        if entry.type == REPAIRED:
            documents = dict(entry.body["documents"])
        else:
            documents[entry.body["name"]] = entry.body["document"]
    return documents


def _name(tenant: str, alert: str) -> str:
    return f"alert/{tenant}/{alert}"


def _written(alert: Alert) -> dict[str, Any]:
    return {**asdict(alert), "at": alert.at.isoformat()}


def _event(entry: Entry) -> Event:
    at = datetime.fromisoformat(entry.at)
    return Event(seq=entry.seq, at=at, type=entry.type, body=body_of(entry))
