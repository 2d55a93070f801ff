"""One attempt at a job: a child is listened to, its story is stored, its lease renewed.

All timing is on the monotonic clock. The database may be away for as long as the lease lasts: lines
wait in memory, the newest thousand of them; after that the child is stopped, for somebody else may
have the job.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from privacy_finetuner.jobs import lines
from privacy_finetuner.jobs.claims import Claim, Line
from privacy_finetuner.jobs.errors import JobStoreUnavailable, LeaseLost
from privacy_finetuner.jobs.leases import Leases
from privacy_finetuner.jobs.lines import SAVED, End, Garbled
from privacy_finetuner.jobs.model import EventKind
from privacy_finetuner.jobs.process import Child
from privacy_finetuner.jobs.verdicts import Outcome
from privacy_runtime.world import Clock

STORE_S: Final = 0.25
"""How often lines are stored; cancellation is looked for as often."""
CANCEL_GRACE_S: Final = 3.0
STOP_GRACE_S: Final = 10.0
_LISTEN_S: Final = 0.1
_OTHERS_S: Final = 1.0
_WAITING_MOST: Final = 1000
_FIGURES: Final = ("step", "steps", "epsilon", "delta", "epsilon_planned", "eta_s")
_METRICS: Final = ("loss", "accuracy", "gradient_norm", "clipping_rate")


@dataclass(slots=True)
class Attempt:
    """A child at work, for the holder of a claim.

    Args:
        claim, leases: of the job.
        child: just started.
        clock: measures.
        stop: set when the worker is to stop.
        meanwhile: called about once a second; returns soon.
    """

    claim: Claim
    leases: Leases
    child: Child
    clock: Clock
    stop: threading.Event
    meanwhile: Callable[[], None]
    story: list[Line] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    end: End | None = None
    garbled: Garbled | None = None
    is_cancelled: bool = False
    is_stopping: bool = False
    _deadline_s: float | None = None
    _saved_step: int | None = None
    _renewed_s: float = 0.0
    _stored_s: float = 0.0
    _other_s: float = 0.0

    def run(self) -> Outcome:
        """Listen until the child has ended; nothing of its group is left then.

        Raises:
            LeaseLost: the job is not ours any more; the group was killed.
        """
        self._renewed_s = self._stored_s = self._other_s = self.clock.monotonic_s()
        try:
            while not self.child.has_exited():
                self._listen(_LISTEN_S)
                self._keep()
                self._obey()
            while self._listen(0.0):
                continue
        finally:
            exit_code = self.child.reap()
        return Outcome(
            exit_code=exit_code,
            end=self.end,
            garbled=self.garbled,
            is_cancelled=self.is_cancelled,
            is_stopping=self.is_stopping,
        )

    def _listen(self, wait_s: float) -> bool:
        """Take what the child says; returns whether it said anything."""
        found = self.child.lines(wait_s)
        for line in found:
            said = line if isinstance(line, Garbled) else lines.parse(line)
            if self.garbled is not None:
                continue
            if isinstance(said, Garbled):
                self.garbled = said
                self.child.kill()
            elif isinstance(said, End):
                self.end = said
            else:
                self._hear(*said)
        return bool(found)

    def _hear(self, kind: EventKind, body: Mapping[str, Any]) -> None:
        if kind is EventKind.STEP:
            self._see_saved(body.get(SAVED))
            body = {name: value for name, value in body.items() if name != SAVED}
            self.figures |= {name: body[name] for name in _FIGURES if name in body}
        elif kind is EventKind.EPOCH:
            metrics = {name: body[name] for name in _METRICS if body.get(name) is not None}
            self.figures |= {"epoch": body.get("epoch", 0), "metrics": metrics}
        self.story.append((kind, body))
        if len(self.story) > _WAITING_MOST:  # the database is away: steps can be spared
            steps = [n for n, (each, _) in enumerate(self.story) if each is EventKind.STEP]
            del self.story[steps[0] if steps else 0]

    def _see_saved(self, step: Any) -> None:
        """A checkpoint newer than this attempt found is progress: earlier accidents count no more.

        A job that gets further between accidents ends; one that does not fails after some.
        """
        if not isinstance(step, int):
            return
        if self._saved_step is not None and step > self._saved_step:
            self.figures["losses"] = 0
        self._saved_step = max(step, self._saved_step or 0)

    def _keep(self) -> None:
        """Store the story, renew the lease, look for a cancellation; each when it is time."""
        now_s = self.clock.monotonic_s()
        if now_s - self._stored_s < STORE_S:
            return
        self._stored_s = now_s
        try:
            if self.story:
                self.leases.tell(self.claim, self.story, **self.figures)
                self.story, self.figures = [], {}
            if now_s - self._renewed_s >= self.leases.lease_s / 3:
                self.is_cancelled = self.leases.renew(self.claim) or self.is_cancelled
                self._renewed_s = now_s
            elif not self.is_cancelled:
                self.is_cancelled = self.leases.is_cancelled(self.claim)
            if now_s - self._other_s >= _OTHERS_S:
                self._other_s = now_s
                self.meanwhile()
        except JobStoreUnavailable:
            if self.clock.monotonic_s() - self._renewed_s >= self.leases.lease_s:
                raise LeaseLost(self.claim.job.id) from None

    def _obey(self) -> None:
        """Stop the child when it is to be cancelled or the worker is to stop."""
        if self._deadline_s is None:
            if self.is_cancelled:
                self._ask(CANCEL_GRACE_S)
            elif self.stop.is_set():
                self.is_stopping = True
                self._ask(STOP_GRACE_S)
        elif self.is_cancelled and self.is_stopping:
            self.is_stopping = False  # cancelled while it was stopping: the shorter grace counts
            self._deadline_s = min(self._deadline_s, self.clock.monotonic_s() + CANCEL_GRACE_S)
        elif self.clock.monotonic_s() >= self._deadline_s:
            self.child.kill()

    def _ask(self, grace_s: float) -> None:
        self.child.ask_to_stop()
        self._deadline_s = self.clock.monotonic_s() + grace_s
