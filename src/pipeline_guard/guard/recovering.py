"""One run of a recovery: gates, steps in order, and their way back when one of them fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from pipeline_guard.config import RecoverySettings, Step
from pipeline_guard.errors import PipelineGuardError
from pipeline_guard.guard.events import Happening
from pipeline_guard.model import Applied, Case, Gate, Permit, Remedy

T = TypeVar("T")
GATE_S: Final = 30.0
"""A gate that has not answered by then has refused."""
_SPARE_S: Final = 5.0
"""What a remedy may need beyond the time it was told, before its thread is given up."""

Steps = Sequence[tuple[Remedy, Sequence[Remedy]]]
Tell = Callable[[Happening, str, dict[str, Any]], Awaitable[None]]
"""Writes down what happens in a run: kind, one line, more as JSON values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How the steps of a recovery ended.

    Attributes:
        is_applied: whether all of them were done, so that the checks may judge.
        is_refused: whether nothing was changed, because a remedy objected or a gate refused.
        is_final: whether people are to be called, whatever attempts are left.
        is_hanging: whether a step was given up whose thread has not come back.
        reason: one line.
    """

    is_applied: bool = False
    is_refused: bool = False
    is_final: bool = False
    is_hanging: bool = False
    reason: str = ""


async def run_steps(
    recovery: RecoverySettings,
    remedies: Steps,
    case: Case,
    *,
    gates: Sequence[Gate],
    tell: Tell,
) -> Run:
    """Run a recovery's steps.

    Guarantee: every gate is asked about every step before the first one changes anything. A step
    that objects, fails or takes too long ends the run; the steps before it are undone by their
    `rollback`, the newest first. A step that does not come back is not undone: nobody knows what
    it still does.

    Args:
        recovery: what is run.
        remedies: of its steps, each with those that undo it.
        case: the fault.
        gates: of the products.
        tell: writes down every step before and after.
    """
    refusal = await _refused(recovery, case, gates)
    if refusal is not None:
        await tell(Happening.REFUSED, refusal.reason, {"figures": dict(refusal.figures)})
        return Run(is_refused=True, is_final=True, reason=refusal.reason)
    done: list[tuple[Step, Sequence[Remedy]]] = []
    for step, (remedy, undo) in zip(recovery.steps, remedies, strict=True):
        failed = await _failed(step, remedy, case, tell)
        if failed is None:
            done.append((step, undo))
            continue
        if failed.is_hanging:
            return failed
        await _roll_back(done, case, tell)
        return Run(is_refused=failed.is_refused and not done, reason=failed.reason)
    return Run(is_applied=True)


async def intent_of(recovery: RecoverySettings, remedies: Steps, case: Case) -> str:
    """What a recovery would do, in one line."""
    lines = []
    for step, (remedy, _) in zip(recovery.steps, remedies, strict=True):
        try:
            lines.append(await in_thread(partial(remedy.intent, case), GATE_S))
        except Exception as error:  # noqa: BLE001  # a remedy that cannot say is named all the same
            lines.append(f"{step.type} ({type(error).__name__} when asked)")
    return ", then ".join(lines)


async def _refused(recovery: RecoverySettings, case: Case, gates: Sequence[Gate]) -> Permit | None:
    for gate in gates:
        for step in recovery.steps:
            name = type(gate).__name__
            try:
                permit = await in_thread(partial(gate.permit, case, step.type), GATE_S)
            except TimeoutError:
                return Permit(is_allowed=False, reason=f"{name} did not answer; so it is not done")
            except Exception as error:  # noqa: BLE001  # what cannot be priced is not done
                said = f": {error}" if isinstance(error, PipelineGuardError) else ""
                reason = f"{name} failed with {type(error).__name__}{said}; so it is not done"
                return Permit(is_allowed=False, reason=reason)
            if not permit.is_allowed:
                return permit
    return None


async def _failed(step: Step, remedy: Remedy, case: Case, tell: Tell) -> Run | None:
    """Run one step; `None` where it was done."""
    try:
        objection = await in_thread(lambda: remedy.objection(case), GATE_S)
        if objection is not None:
            return Run(is_refused=True, reason=f"{step.type}: {objection}")
        await tell(Happening.STEP, f"{step.type} begins", {"step": step.type})
        applied = await in_thread(
            lambda: remedy.apply(case, step.timeout_s), step.timeout_s + _SPARE_S
        )
    except TimeoutError:
        reason = f"{step.type} did not come back within {step.timeout_s:g} s; it may still run"
        return Run(is_hanging=True, is_final=True, reason=reason)
    except Exception as error:  # noqa: BLE001  # whatever a remedy raises, the guard goes on
        said = f": {error}" if isinstance(error, PipelineGuardError) else ""
        return Run(reason=f"{step.type} failed with {type(error).__name__}{said}")
    await tell(Happening.APPLIED, applied.summary, _evidence(step, applied))
    return None


async def _roll_back(done: Sequence[tuple[Step, Sequence[Remedy]]], case: Case, tell: Tell) -> None:
    for step, undo in reversed(done):
        for rollback, remedy in zip(step.rollback, undo, strict=True):
            failed = await _failed(rollback, remedy, case, tell)
            said = failed.reason if failed else f"{rollback.type} undid {step.type}"
            await tell(Happening.ROLLED_BACK, said, {"step": step.type, "is_done": not failed})


def _evidence(step: Step, applied: Applied) -> dict[str, Any]:
    return {"step": step.type, "evidence": dict(applied.evidence)}


async def in_thread(work: Callable[[], T], within_s: float) -> T:
    """Do something that blocks, on a thread of its own that nobody waits for at the end.

    Raises:
        TimeoutError: it took longer; its thread goes on.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001  # whoever waits gets it
            future.set_exception(error)

    threading.Thread(target=run, name="guard-remedy", daemon=True).start()
    return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), within_s)
