"""Settling a job's run in the ledger: the one function that ends its reservation.

A run reserves its whole plan under `training:RUN`, and before each group of steps marks how much of
it is certainly spent (`training.ledger_meter`). `RUN` is in the run record, which was on the disk
before the reservation. So at any time, whatever was killed:

=============================  ====================================================================
the reservation is             then
=============================  ====================================================================
not there, or ended            nothing is open; nothing is done
open, no step was marked       no step ran: it is refunded
open, steps were marked        it is committed by the newest mark, or whole if all steps are
                               charged; what may have run is never refunded
=============================  ====================================================================

What a stopped run counts as spent is its whole plan all the same (docs/decisions/0006): the ledger
gives back at its Renyi orders only.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from privacy_core.errors import ReservationClosed, UnknownReservation
from privacy_finetuner.training import run_record
from privacy_finetuner.training.plan import DPTrainingPlan
from privacy_finetuner.training.run_record import RunState
from privacy_runtime.append_log import RunRecordDamaged
from privacy_runtime.budget_store import BudgetStore, Reservation, Status
from privacy_runtime.world import Clock

_FIRST_LINE_MOST: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What a job has spent.

    Attributes:
        charged_steps, steps: steps that count as taken; planned ones.
        epsilon, delta: what counts as spent; 0.0 when no step was charged.
        epsilon_planned: the price of the plan; 0.0 when there is none.
        reservation: what was ended in the ledger just now; `None`: nothing was open.
    """

    charged_steps: int = 0
    steps: int = 0
    epsilon: float = 0.0
    delta: float = 0.0
    epsilon_planned: float = 0.0
    reservation: str | None = None


def settle(folder: Path, ledger: str | None, *, clock: Clock) -> Settlement:
    """End the reservation of the run in a folder, if one is open; say what the run has spent.

    Guarantee: afterwards no reservation of the run is open. Calling it again changes nothing.
    The caller holds the folder's lock: nobody trains there.

    Args:
        folder: of the run; it may be missing or empty.
        ledger: where the run was charged; `None`: only to its own record.
        clock: for the ledger.

    Raises:
        JournalError: the ledger is away or damaged; nothing was changed, settle again.
    """
    state = _state_of(folder)
    if state is None or not state.job_id:
        return Settlement()
    plan = None if state.plan is None else DPTrainingPlan.from_json(dict(state.plan))
    ended = None
    if ledger is not None:
        is_whole = plan is None or state.charged_steps >= plan.steps
        with BudgetStore.open(ledger, clock=clock) as store:
            ended = _end(store, state.job_id, is_whole=is_whole)
    if plan is None:
        return Settlement(reservation=ended)
    planned = plan.epsilon()
    return Settlement(
        charged_steps=state.charged_steps,
        steps=plan.steps,
        epsilon=planned if state.charged_steps else 0.0,
        delta=plan.delta if state.charged_steps else 0.0,
        epsilon_planned=planned,
        reservation=ended,
    )


def open_reservations(ledger: str, runs: list[str], *, clock: Clock) -> list[Reservation]:
    """The reservations of some runs that have not ended: for checks that there are none."""
    names = {f"training:{run}" for run in runs}
    with BudgetStore.open(ledger, clock=clock) as store:
        held = store.open_reservations()
    return [each for each in held if ":".join(each.key.split(":")[:2]) in names]


def _end(store: BudgetStore, run: str, *, is_whole: bool) -> str | None:
    """End the newest reservation of a run, in the way in which `LedgerMeter` would."""
    store.expire_due()
    name, attempt = f"training:{run}", 1
    while True:
        try:
            held = store.reservation(name)
        except UnknownReservation:
            return None
        if held.status is not Status.REFUNDED:
            break
        attempt += 1  # one that was refunded leaves the next name to the next attempt
        name = f"training:{run}:{attempt}"
    if held.status is not Status.OPEN:
        return None
    try:
        if held.watermark is None:
            store.refund(f"{name}:refund", name)
        else:
            store.commit(f"{name}:commit", name, actual=None if is_whole else held.watermark)
    except ReservationClosed:
        return None  # somebody else was first
    return name


def _state_of(folder: Path) -> RunState | None:
    """The run record's state; of a damaged record only the run's name, so that all of it counts."""
    try:
        return run_record.read_state(folder)
    except RunRecordDamaged:
        with (folder / run_record.FILE_NAME).open("rb") as file:
            line = file.readline(_FIRST_LINE_MOST)
        try:
            return RunState(job_id=str(json.loads(line)["body"]["job_id"]))
        except (ValueError, KeyError, TypeError):
            return None
