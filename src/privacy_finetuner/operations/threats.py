"""`ThreatDetector`: what threatens a training run, seen from what is public or released of it.

detector = ThreatDetector(alert_threshold=0.8)
for alert in detector.detect_threat({"privacy_epsilon_used": 1.8, "privacy_epsilon_total": 2.0}):
    print(alert.threat_type.value, alert.threat_level.value, alert.recommended_actions)

It looks at figures that it is given (`figures` says which may be), and at things that it is told to
watch: files of records by digest, sealed states, accounts of a ledger. A service has a monitor of
its own over logins, budgets and jobs (`monitoring`); rules and responses are the same.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from privacy_core.errors import InvalidParameter, PrivacyError
from privacy_finetuner.operations import doors, drills
from privacy_finetuner.operations.alerts import Alert, Facts, Severity, ThreatAlert, ThreatType
from privacy_finetuner.operations.drills import AttackSimulationResult
from privacy_finetuner.operations.figures import figures_of
from privacy_finetuner.operations.quarantine import Quarantine
from privacy_finetuner.operations.raised_alerts import RaisedAlerts, worst_of
from privacy_finetuner.operations.responses import Act, Door, Responses
from privacy_finetuner.operations.rules import judged
from privacy_finetuner.operations.run_context import RUN, RunContext, account_fact, sealed_fact
from privacy_finetuner.operations.run_rules import RunFacts, judged_run
from privacy_finetuner.operations.security_summary import SecuritySummary
from privacy_runtime.journal import Journal
from privacy_runtime.world import Clock, Entropy, SystemClock, SystemEntropy

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from privacy_runtime.blobs import SealedSets
    from privacy_runtime.budget_store import BudgetStore, Scope

__all__ = [
    "AttackSimulationResult",
    "SecuritySummary",
    "Severity",
    "ThreatAlert",
    "ThreatDetector",
    "ThreatType",
]

LOCAL: Final = "local"
"""The organisation of a detector that belongs to no service."""
_LOOK_LEAST_S: Final = 0.05
_log = logging.getLogger(__name__)
_Probe = Callable[[], Iterable[Alert]]


class ThreatDetector:
    """Looks, tells, and acts where it may. For any number of threads.

    Guarantee: no rule reads a record, a gradient before its noise or a loss that was not released;
    such a figure is refused. So what it says costs no privacy budget.

    Args:
        alert_threshold: the least confidence of an alert, in [0, 1]; see `confidence`.
        monitoring_interval: seconds between two looks of the thread, > 0.
        enable_automated_response: whether alerts are acted on; else they say what would be done.
        threat_types: what is watched for; None: all eight.
        journal: gets an entry of every response, and the digests that are set aside; None: a file
            of this account (~/.config/privacy-finetuner/security-journal.db), made when needed.
        more_doors: for responses, beside the detector's own; a service has all five (`doors`).
        clock, entropy: the outside world.

    Raises:
        InvalidParameter: a number is outside its domain.
    """

    def __init__(
        self,
        alert_threshold: float = 0.7,
        monitoring_interval: float = 1.0,
        enable_automated_response: bool = True,
        threat_types: Iterable[ThreatType] | None = None,
        *,
        journal: Journal | None = None,
        more_doors: Mapping[Act, Door] | None = None,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
    ) -> None:
        if not 0 <= alert_threshold <= 1:
            raise InvalidParameter("alert_threshold", found=alert_threshold, expected="in [0, 1]")
        if not 0 < monitoring_interval < float("inf"):
            raise InvalidParameter("monitoring_interval", found=monitoring_interval, expected="> 0")
        self.alert_threshold, self.monitoring_interval = alert_threshold, monitoring_interval
        self.enable_automated_response = enable_automated_response
        types = ThreatType if threat_types is None else map(ThreatType, threat_types)
        self.threat_types = frozenset(types)
        self._clock, self._entropy = clock or SystemClock(), entropy or SystemEntropy()
        self._journal, self._doors = journal, dict(more_doors or {})
        self._lock = threading.RLock()
        self._opened: tuple[Quarantine, Responses] | None = None
        self._probes: list[_Probe] = []
        self._handlers: defaultdict[ThreatType, list[Callable[[Alert], None]]] = defaultdict(list)
        self._raised, self._halts = RaisedAlerts(), doors.Halts()
        self._failed_handlers = 0
        self._outcomes: Counter[str] = Counter()
        self._ignored: set[str] = set()
        self._last_scan: datetime | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start_monitoring(self) -> None:
        """Look at what is watched, every `monitoring_interval` seconds, in a thread. Idempotent.

        The thread ends with `stop_monitoring`, and never keeps the interpreter from ending.
        """
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return
            self._stop = threading.Event()
            self._thread = threading.Thread(
                target=self._monitor, args=(self._stop,), name="threat-detector", daemon=True
            )
            self._thread.start()

    def stop_monitoring(self) -> None:
        """End the thread; returns when it has ended. Idempotent."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._stop.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def detect_threat(
        self, training_metrics: Mapping[str, float], context: Mapping[str, Any] | None = None
    ) -> list[Alert]:
        """Judge a run by figures that are public or released.

        A new alert is told to its handlers and acted on once; the same evidence again returns the
        same alert.

        Args:
            training_metrics: figures by name; `figures` says which, and which are refused.
            context: what else may be looked at, by name: `run`, `job`, `clip_norm`, `dataset` (a
                path), `references` (released accuracies of earlier runs: `{"accuracy",
                "accuracy_std"}`), `updates` (by silo), `sealed` (sets and a series), `plan` (of the
                run: `sample_rate`, `steps`, `delta`).

        Returns:
            Alerts whose confidence reaches the threshold, the worst first.

        Raises:
            PrivateFigure: a figure was never released; nothing was judged.
            InvalidParameter: a figure is not a finite number, or the context cannot be read.
            JournalError: a response could not be recorded.
            OSError: `dataset` cannot be read.
        """
        given = RunContext.of(context or {})
        figures, ignored = figures_of({**given.figures, **training_metrics})
        facts = RunFacts(
            tenant=LOCAL,
            run=given.run,
            now=self._clock.now(),
            figures=figures,
            references=given.references,
            updates=given.updates,
            source=given.source(self._quarantine, LOCAL),
            sealed=given.sealed(),
            about=given.about,
        )
        with self._lock:
            self._ignored |= set(ignored)
        return self._take(judged_run(facts))

    def register_alert_handler(
        self, threat_type: ThreatType, handler: Callable[[Alert], None]
    ) -> None:
        """Call `handler` with each new alert of a type, in the thread that found it.

        A handler that raises is logged and counted; the next one is called.
        """
        with self._lock:
            self._handlers[ThreatType(threat_type)].append(handler)

    def get_security_summary(self) -> SecuritySummary:
        """What was seen so far."""
        with self._lock:
            active = self._raised.of_last_day(self._clock.now())
            return SecuritySummary(
                monitoring_active=self._thread is not None and self._thread.is_alive(),
                threat_level=worst_of(active),
                total_threats_detected=self._raised.total,
                active_alerts=len(active),
                threats_by_type=self._raised.by_type(),
                threats_by_level=self._raised.by_level(),
                responses=dict(self._outcomes),
                ignored_figures=tuple(sorted(self._ignored)),
                failed_handlers=self._failed_handlers,
                last_scan=self._last_scan,
            )

    def simulate_attack(self, attack_type: str, intensity: float = 0.5) -> AttackSimulationResult:
        """Carry an attack out in a sandbox, and say whether, when and by what it was seen.

        Nothing is made up: the sandbox is a temporary folder with a real journal, ledger, identity
        and models, and it is gone afterwards. Thresholds, types and whether responses act are this
        detector's. Nothing of this detector's own changes.

        Args:
            attack_type: see `drills.ATTACKS`, or the value of a threat type.
            intensity: of the attack, in (0, 1].

        Raises:
            InvalidParameter: there is no such attack, or the intensity is outside its domain.
            SimulationFailed: it could not be carried out, so nothing is known.
        """
        settings = drills.Settings(
            least_confidence=self.alert_threshold,
            threat_types=self.threat_types,
            is_answering=self.enable_automated_response,
            interval_s=self.monitoring_interval,
        )
        return drills.carry_out(
            attack_type, intensity, settings, clock=self._clock, entropy=self._entropy
        )

    def watch_source(self, path: Path | str, name: str | None = None) -> None:
        """Watch a file of records by its digest, which is registered now if it is new."""
        where = Path(path)
        source = name or str(where.absolute())
        context = {"dataset": where, "source": source}
        self._quarantine.register(LOCAL, source, where)
        self._watch(lambda: judged_run(self._looked_at(context)))

    def watch_sealed(self, sets: SealedSets, series: str) -> None:
        """Watch the newest sealed state of a run."""

        def look() -> list[Alert]:
            sealed = (sealed_fact(sets, series),)
            now = self._clock.now()
            return judged_run(RunFacts(tenant=LOCAL, run=series, now=now, sealed=sealed))

        self._watch(look)

    def watch_account(self, ledger: BudgetStore, scope: Scope) -> None:
        """Watch an account of a ledger: nearly spent, or drained by many acts."""
        fact = account_fact(ledger, scope)

        def look() -> list[Alert]:
            now = self._clock.now()
            return judged(Facts(tenant=LOCAL, now=now, accounts=[fact(now)]))

        self._watch(look)

    def callback(
        self,
        *,
        dataset: Path | str | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> TrainerCallback:
        """A callback for `PrivateTrainer.train(..., callbacks=[...])` that asks after each release.

        It refuses a run on records that are set aside before the first step, and ends a run in
        order after the step in which an alert asked for a halt.

        Raises:
            ImportError: transformers is not installed.
        """
        from privacy_finetuner.operations.run_callback import (  # noqa: PLC0415 -- loads torch
            RunCallback,
        )

        more = {**(context or {}), **({} if dataset is None else {"dataset": Path(dataset)})}
        return RunCallback(self, more)

    def is_halted(self, run: str = RUN) -> bool:
        """Whether a response asked for the end of a run."""
        return run in self._halts

    def require_free(self, dataset: Path | str) -> None:
        """Refuse a file of records that is set aside.

        Raises:
            SourceSetAside: nothing was started.
        """
        self._quarantine.require_free(LOCAL, Path(dataset))

    @property
    def quarantine(self) -> Quarantine:
        """The digests that are set aside; `release` is a person's act."""
        return self._quarantine

    def _looked_at(self, context: Mapping[str, Any]) -> RunFacts:
        given = RunContext.of(context)
        source = given.source(self._quarantine, LOCAL)
        return RunFacts(
            tenant=LOCAL, run=given.run, now=self._clock.now(), source=source, about=given.about
        )

    def _watch(self, probe: _Probe) -> None:
        with self._lock:
            self._probes.append(probe)

    def _monitor(self, stop: threading.Event) -> None:
        while not stop.is_set():
            begun_s = self._clock.monotonic_s()
            self._scan()
            took_s = self._clock.monotonic_s() - begun_s
            stop.wait(max(self.monitoring_interval, _LOOK_LEAST_S, took_s))

    def _scan(self) -> None:
        with self._lock:
            probes = list(self._probes)
        for probe in probes:
            try:
                self._take(probe())
            except (PrivacyError, OSError):
                _log.exception("a look at what is watched failed")
        with self._lock:
            self._last_scan = self._clock.now()

    def _take(self, found: Iterable[Alert]) -> list[Alert]:
        """Keep what reaches the threshold; tell of and answer what is new or has grown worse."""
        wanted = [each for each in found if self._wants(each)]
        taken = [self._raised.known(each) or self._answered(each) for each in wanted]
        with self._lock:
            self._last_scan = self._clock.now()
        return taken

    def _wants(self, alert: Alert) -> bool:
        return alert.confidence >= self.alert_threshold and alert.threat_type in self.threat_types

    def _answered(self, alert: Alert) -> Alert:
        given = self._responses.answer(alert)
        answered = replace(alert, responses=tuple(each.document() for each in given))
        self._raised.keep(answered)
        with self._lock:
            self._outcomes.update(each.outcome.value for each in given)
            handlers = list(self._handlers[alert.threat_type])
        for handler in handlers:
            try:
                handler(answered)
            except Exception:  # noqa: BLE001  the caller's own code: whatever it raises, go on
                _log.exception("a handler of alerts failed")
                with self._lock:
                    self._failed_handlers += 1
        return answered

    @property
    def _quarantine(self) -> Quarantine:
        return self._parts()[0]

    @property
    def _responses(self) -> Responses:
        return self._parts()[1]

    def _parts(self) -> tuple[Quarantine, Responses]:
        """Made when they are first needed: a detector that finds nothing opens no file."""
        with self._lock:
            if self._opened is None:
                journal = self._journal or doors.own_journal(self._clock)
                quarantine = Quarantine(journal)
                own = {
                    Act.HALT: self._halts.door,
                    Act.QUARANTINE: doors.quarantine(quarantine),
                    Act.NEW_PLAN: doors.new_plan,
                }
                is_on = self.enable_automated_response
                responses = Responses({**own, **self._doors}, journal, is_on=is_on)
                self._opened = (quarantine, responses)
            return self._opened
