"""A rehearsal: each fault is injected into a real run, in a process of its own, and measured.

The run trains the shipped sample model on shipped records in a temporary folder, charged to a
ledger of its own. Two processes load torch, once, and every run is forked from one (`nursery`).
What is done to it is done for real (`rehearsed_run`); the one thing that is made easy is that the
disk has room again, and the ledger is back, once the run waits.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

from privacy_core.errors import PrivacyError
from privacy_core.guarantee import Guarantee
from privacy_finetuner.recovery.errors import RehearsalFailed
from privacy_finetuner.recovery.failures import FailureType
from privacy_finetuner.recovery.history import FaultTrial, TestResults
from privacy_finetuner.recovery.nursery import Nursery
from privacy_runtime.budget_store import (
    BudgetStore,
    Charge,
    Reserved,
    Signature,
    protection,
)
from privacy_runtime.world import Clock

EPSILON: Final = 8.0
DELTA: Final = 1e-4
ACCOUNT: Final = ("rehearsal", "sample")
_SCOPE: Final = protection(*ACCOUNT)
_GUARANTEE: Final = Guarantee(epsilon=EPSILON, delta=DELTA)
_SIGNED: Final = Signature("rehearsal", "a ledger that is thrown away")
_MODULE: Final = "privacy_finetuner.recovery.rehearsed_run"
_WORDS_MOST: Final = 300
_STARTS_MOST: Final = 3
_AT_A_TIME: Final = 2


@dataclass(slots=True)
class _Story:
    """What the processes of one trial said, with the monotonic time of each event."""

    fault_s: float | None = None
    detected_s: float | None = None
    recovered_s: float | None = None
    end: dict[str, Any] = field(default_factory=dict)

    def hear(self, said: dict[str, Any]) -> None:
        match said.pop("event"):
            case "fault":
                self.fault_s = self.fault_s or said["at_s"]
            case "detected":
                self.detected_s = self.detected_s or said["at_s"]
            case "step" if self.detected_s is not None:
                self.recovered_s = self.recovered_s or said["at_s"]
            case "end":
                self.end = said


def rehearse(faults: Sequence[FailureType], *, clock: Clock) -> TestResults:
    """Inject each fault, two runs at a time.

    Raises:
        RehearsalFailed: a process did not begin, or no fault came about in it.
    """
    began_s = clock.monotonic_s()
    with ExitStack() as closing:
        free: SimpleQueue[Nursery] = SimpleQueue()
        for _ in range(min(_AT_A_TIME, len(faults))):
            free.put(closing.enter_context(Nursery(_MODULE)))
        pool = closing.enter_context(ThreadPoolExecutor(_AT_A_TIME))
        trials = tuple(pool.map(lambda fault: _sandboxed(fault, free, clock), faults))
    return TestResults(trials=trials, duration_s=clock.monotonic_s() - began_s)


def _sandboxed(fault: FailureType, free: SimpleQueue[Nursery], clock: Clock) -> FaultTrial:
    nursery = free.get()
    try:
        with tempfile.TemporaryDirectory(prefix="rehearsal-") as folder:
            return _trial(fault, Path(folder), nursery, clock)
    finally:
        free.put(nursery)


def _trial(fault: FailureType, folder: Path, nursery: Nursery, clock: Clock) -> FaultTrial:
    books, words = open_books(folder), folder / "words.txt"
    story = _Story()
    for start in range(1, _STARTS_MOST + 1):
        task = {"fault": fault.value if start == 1 else None, "folder": str(folder)}
        code = nursery.run(task, words, story.hear)
        said = words.read_text(errors="replace")[-_WORDS_MOST:]
        if story.fault_s is None:
            raise RehearsalFailed(
                f"{fault.value} did not come about: the process ended with {code} before it; it "
                f"said: {said or 'nothing'}"
            )
        if code >= 0:
            break
        if fault is FailureType.PROCESS_CRASH:  # else its death is not what has to be detected
            story.detected_s = story.detected_s or clock.monotonic_s()
    difference, note = ledger_difference(books / "ledger.db", folder)
    is_whole = bool(story.end) and story.detected_s is not None and difference == 0.0
    return FaultTrial(
        fault=fault,
        healed=is_whole,
        detected_s=_between(story.fault_s, story.detected_s),
        recovered_s=_between(story.detected_s, story.recovered_s),
        lost_steps=int(story.end.get("lost_steps", 0)),
        epsilon_difference=difference,
        note="" if is_whole else note or said,
    )


def open_books(folder: Path) -> Path:
    """Open the account of a rehearsal in a ledger of its own; returns the ledger's folder."""
    books = folder / "books"
    books.mkdir()
    with BudgetStore.open(books / "ledger.db") as store:
        store.open_account("open", _SCOPE, _GUARANTEE, signature=_SIGNED)
    return books


def ledger_difference(ledger: Path, folder: Path) -> tuple[float | None, str]:
    """What the account says more than one undisturbed run of the same plan, and why unknown."""
    try:
        with BudgetStore.open(ledger) as store:
            spent = store.balance(_SCOPE).epsilon_committed
            keys = [f.entry.key for f in store.history() if isinstance(f.entry, Reserved)]
            charges = [store.reservation(key).charge for key in keys]
        if not charges:
            return None, "nothing was reserved"
        return spent - _undisturbed(charges[0], folder), ""
    except PrivacyError as error:
        return None, str(error)


def _undisturbed(charge: Charge, folder: Path) -> float:
    """What an account says after one whole run, charged to a ledger that nothing happened to."""
    with BudgetStore.open(folder / "reference.db") as store:
        store.open_account("open", _SCOPE, _GUARANTEE, signature=_SIGNED)
        store.reserve("run", protection=(_SCOPE,), charge=charge, ttl_s=3600)
        store.commit("run:commit", "run")
        return store.balance(_SCOPE).epsilon_committed


def _between(start_s: float | None, end_s: float | None) -> float | None:
    return None if start_s is None or end_s is None else max(0.0, end_s - start_s)
