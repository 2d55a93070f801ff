from __future__ import annotations

import asyncio
import threading

import pytest

from privacy_core.errors import InvalidParameter
from privacy_runtime.resilience import Event, EventBus, Hedge, RetryBudget


def hedge(after_s: float | None = 0.01, **options: object) -> tuple[Hedge, list[Event]]:
    bus, told = EventBus(), list[Event]()
    bus.subscribe(told.append)
    return Hedge(after_s, bus=bus, **options), told  # type: ignore[arg-type]


def test_a_quick_answer_is_asked_for_once() -> None:
    made, told = hedge(60)
    calls: list[int] = []

    made.call(calls.append, 1)

    assert (len(calls), told) == (1, [])


def test_the_second_call_answers_when_the_first_hangs() -> None:
    made, told = hedge()
    gate, calls = threading.Event(), list[int]()

    def work() -> str:
        calls.append(1)
        if len(calls) == 1:
            gate.wait(10)
        return f"answer {len(calls)}"

    assert made.call(work) == "answer 2"
    gate.set()
    assert len(told) == 1


def test_a_task_that_lost_is_cancelled() -> None:
    made, _ = hedge()
    ended: list[str] = []

    async def work() -> str:
        if not ended:
            ended.append("begun")
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise
        return "second"

    assert asyncio.run(made.acall(work)) == "second"
    assert ended == ["begun", "cancelled"]


def test_one_failure_of_two_is_no_failure() -> None:
    made, _ = hedge()
    calls: list[int] = []

    async def work() -> str:
        calls.append(1)
        if len(calls) == 1:
            await asyncio.sleep(0.05)
            raise ConnectionError
        await asyncio.sleep(0.1)
        return "second"

    assert asyncio.run(made.acall(work)) == "second"


def test_if_both_fail_the_error_is_theirs() -> None:
    made, _ = hedge()

    async def work() -> None:
        await asyncio.sleep(0.02)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        asyncio.run(made.acall(work))
    with pytest.raises(ZeroDivisionError):
        made.call(divmod, 1, 0)


def test_without_a_token_there_is_no_second_call() -> None:
    made, told = hedge(budget=RetryBudget(share=0, reserve=0))
    calls: list[int] = []

    async def work() -> None:
        calls.append(1)
        await asyncio.sleep(0.05)

    asyncio.run(made.acall(work))

    assert (len(calls), told) == (1, [])


def test_patience_is_learnt_from_the_answers() -> None:
    made, _ = hedge(None, quantile=0.5)
    assert made.patience_s is None
    for _ in range(20):
        made.call(int)

    assert made.patience_s is not None
    assert made.patience_s < 1


def test_a_quantile_lies_between_zero_and_one() -> None:
    with pytest.raises(InvalidParameter):
        Hedge(quantile=1)
