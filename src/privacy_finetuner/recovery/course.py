"""The course of one recovery: the steps of a strategy, carried out in order and recorded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from privacy_finetuner.recovery.errors import RecoveryGivenUp
from privacy_finetuner.recovery.failures import FailureType
from privacy_finetuner.recovery.points import RecoveryPoint, RecoveryPoints
from privacy_finetuner.recovery.prices import Outlook, Replay, outlook_of_plan
from privacy_finetuner.recovery.runs import Changes, RunFolder, opened_ledger
from privacy_finetuner.recovery.strategies import STRATEGIES, Action, Condition, wait_s
from privacy_finetuner.training.ledger_account import LedgerSource
from privacy_finetuner.training.plan import DPTrainingPlan
from privacy_runtime.journal import StoreUnavailable
from privacy_runtime.resilience import Backoff, Retry
from privacy_runtime.resilience.deadlines import deadline
from privacy_runtime.resilience.retry import Pause
from privacy_runtime.world import Clock, Entropy

POINT: Final = "point.json"
"""What a point of `create_recovery_point` says of itself."""
_LOOKS_MOST: Final = 10_000  # the deadline comes first


@dataclass(slots=True)
class Attempt:
    """A recovery under way.

    Attributes:
        failure: what happened.
        number: at this failure, since the run last made progress.
        metadata: as `handle_failure` got it.
        done, point, step, changes, outlook: see `history.Recovery`.
        note: what an engineer should know though it was recovered.
    """

    failure: FailureType
    number: int
    metadata: Mapping[str, Any]
    done: list[Action] = field(default_factory=list)
    point: str = ""
    step: int = 0
    changes: Changes = field(default_factory=Changes)
    outlook: Outlook | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What a recovery works with.

    Attributes:
        points: what may be returned to.
        run: of our trainer; `None`: a loop of the caller's own, for which everything is made ready.
        ledger: that the run is charged to.
        privacy_threshold, store_deadline_s: see `FailureRecoverySystem`.
        held: changes that hold already, for a loop of the caller's own.
        clock, entropy, pause: the outside world.
    """

    points: RecoveryPoints
    run: RunFolder | None
    ledger: LedgerSource | None
    privacy_threshold: float
    store_deadline_s: float
    held: Changes
    clock: Clock
    entropy: Entropy
    pause: Callable[[float], None]

    def follow(self, attempt: Attempt) -> None:
        """Take the steps of the strategy; `attempt` says afterwards what was done.

        Raises:
            PrivacyError: a step could not be taken, or may not; those before it were.
        """
        acts = {
            Action.WAIT: self._wait,
            Action.FREE: self._free,
            Action.SET_ASIDE: self._set_aside,
            Action.SHRINK: self._shrink,
            Action.LOWER_RATE: self._lower_rate,
            Action.RETURN: self._return,
        }
        attempt.changes = self._now
        self.pause(wait_s(attempt.number, self.entropy))
        for step in STRATEGIES[attempt.failure].steps:
            self._require(step.needs)
            acts[step.action](attempt)
            attempt.done.append(step.action)

    @property
    def _now(self) -> Changes:
        return self.held if self.run is None else self.run.changes

    def _require(self, needs: Condition) -> None:
        if needs is Condition.RATE_IS_UNTOUCHED and self._now.learning_rate is not None:
            raise RecoveryGivenUp(
                "the learning rate was lowered once, and the weights broke again; the last good "
                "checkpoint is intact"
            )
        if needs is Condition.CAN_SHRINK and self._now.recompute_activations:
            raise RecoveryGivenUp(
                "a pass has one example, activations are recomputed, and it does not fit in memory"
            )

    def _wait(self, _: Attempt) -> None:
        """Wait until the ledger answers, or the deadline is over."""
        ledger = self.ledger
        if ledger is None:
            return  # what was away is the caller's; the wait between attempts is all there is

        def look() -> None:
            is_file = isinstance(ledger, str | Path) and "://" not in str(ledger)
            if is_file and not Path(str(ledger)).is_file():  # opening would make an empty one
                raise StoreUnavailable(str(ledger), reason="there is no such file")
            with opened_ledger(ledger) as store:
                store.head()

        retry = Retry(
            "ledger",
            attempts=_LOOKS_MOST,
            backoff=Backoff(base_s=0.2, most_s=10.0),
            when=lambda error: isinstance(error, StoreUnavailable),
            entropy=self.entropy,
            pause=Pause(thread=self.pause),
        )
        with deadline(self.store_deadline_s, self.clock):
            retry.call(look)

    def _free(self, _: Attempt) -> None:
        freed = self.points.free(1) + (0 if self.run is None else self.run.free())
        if freed > 0:
            return
        sizes = [self.points.point(number).size_bytes for number in self.points.numbers()[-1:]]
        place = self.points.folder if self.points.folder.is_dir() else Path()
        if shutil.disk_usage(place).free < 2 * max(sizes, default=1):
            raise RecoveryGivenUp(
                "the disk is full and the retention list is empty: nothing may be removed; make "
                f"room for {self.points.folder}"
            )

    def _set_aside(self, _: Attempt) -> None:
        for number in self.points.numbers():
            if self.points.damage(number):
                self.points.set_aside(number)

    def _shrink(self, attempt: Attempt) -> None:
        """Halve the micro-batch; where it is one example already, recompute activations."""
        given = attempt.metadata.get("micro_batch_size", attempt.metadata.get("batch_size"))
        size = given if self._now.micro_batch is None else self._now.micro_batch
        least = int(attempt.metadata.get("least", 1))
        if isinstance(size, int) and size > least:
            attempt.changes = self._change(micro_batch=max(size // 2, least))
        else:
            attempt.changes = self._change(recompute_activations=True)

    def _lower_rate(self, attempt: Attempt) -> None:
        rate = attempt.metadata.get("learning_rate")
        if not isinstance(rate, int | float):
            raise RecoveryGivenUp(
                "metadata has no learning_rate to lower; the last good checkpoint is intact"
            )
        attempt.changes = self._change(learning_rate=rate / 2)

    def _return(self, attempt: Attempt) -> None:
        """Make the newest verified state ready, if the budget reaches from there to the end."""
        attempt.note = self.points.rolled_back()
        if self.run is not None:
            back = self.run.go_back(self.points)
            attempt.point, attempt.step = back.point or "", back.step
            attempt.outlook = self.run.outlook(back.step, self.ledger)
        else:
            point = self.points.newest_verified()
            attempt.point, attempt.step = point.id, point.step
            attempt.outlook = self._outlook_of(point, attempt.metadata)
        if attempt.outlook is not None:
            attempt.outlook.require(self.privacy_threshold)

    def _outlook_of(self, point: RecoveryPoint, metadata: Mapping[str, Any]) -> Outlook:
        """The price of finishing a loop of the caller's own, from what the point says of it."""
        number = self.points.named(point.id)
        privacy = json.loads(self.points.read(number, POINT))["privacy_state"]
        spent = float(metadata.get("epsilon_spent", privacy.get("epsilon_spent", 0.0)))
        total = float(privacy.get("epsilon_total", 0.0))
        if "plan" not in privacy:
            return Outlook(
                epsilon_total=total, epsilon_spent=spent, epsilon_needed=spent, is_priced=False
            )
        given, now = privacy.get("replay"), metadata.get("replay")
        return outlook_of_plan(
            DPTrainingPlan.from_json(dict(privacy["plan"])),
            reached=point.step,
            charged=int(metadata.get("charged_steps", privacy.get("charged_steps", point.step))),
            epsilon_total=total,
            is_repeated=bool(metadata.get("repeat_lost_steps", True)),
            recorded=None if given is None else Replay(**given),
            replayed=None if now is None else Replay(**now),
        )

    def _change(self, **fields: Any) -> Changes:
        if self.run is not None:
            return self.run.change(**fields)
        return Changes(**{**asdict(self._now), **fields})
