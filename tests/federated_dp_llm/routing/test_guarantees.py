"""Whatever nodes do and whenever the router dies: what was shown is paid, by everybody it is about.

And for neighbouring records: everything but the drawn tokens is the same.
"""

from __future__ import annotations

import tempfile
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.federated_dp_llm.routing.world import (
    NANO,
    RECORDS,
    Fault,
    Federation,
    question,
    run,
)

from federated_dp_llm.core.query import Answer, Piece
from federated_dp_llm.errors import FederatedError
from federated_dp_llm.node.records import Record
from privacy_core.decoding.prices import epsilon_of

QUICK = [Fault.NONE, Fault.AWAY, Fault.LOST, Fault.WILD, Fault.SHORT]
SCHEDULES = st.lists(st.sampled_from(QUICK), max_size=10)


@dataclass
class Seen:
    """What came out, and what was on disk at each of these moments."""

    tokens: int = 0
    answer: Answer | None = None
    error: FederatedError | None = None
    covered: list[tuple[int, int, dict[str, tuple[int, int]]]] = field(default_factory=list)


async def _watch(federation: Federation, *, leave_after: int | None) -> Seen:
    seen = Seen()
    router = await federation.router(limit_s=10.0)
    try:
        async with aclosing(router.stream(question(max_tokens=10))) as stream:
            async for part in stream:
                if isinstance(part, Piece):
                    seen.tokens += part.tokens
                else:
                    seen.answer = part
                balance = federation.balance()
                durable = balance.spent + balance.reserved
                seen.covered.append((seen.tokens, durable, federation.patients()))
                if leave_after is not None and len(seen.covered) >= leave_after:
                    break
    except FederatedError as error:
        seen.error = error
    await router.aclose()
    return seen


def _price(federation: Federation, seen: Seen) -> float:
    """Of one token, by what the accounts were asked to hold."""
    del federation
    assert seen.answer is not None
    return seen.answer.rho * NANO / len(seen.answer.tokens)


def _check(federation: Federation, seen: Seen, one: float) -> None:
    for tokens, durable, patients in seen.covered:
        # Had the router died here, the reservation would have ended as spent.
        assert durable >= tokens * one - 1
        for spent, held in patients.values():
            assert spent + held == 0 or spent + held >= tokens * one - 1
    federation.clock.advance(1000)
    federation.store.expire()
    balance = federation.balance()
    assert balance.reserved == 0
    if seen.answer is not None:
        assert balance.spent >= round(seen.answer.rho * NANO)
        assert seen.answer.privacy_cost <= question().privacy_budget
        assert seen.answer.privacy_cost == epsilon_of(seen.answer.rho, 1e-6)


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    faults=st.tuples(SCHEDULES, SCHEDULES),
    leave_after=st.none() | st.integers(1, 6),
    seed=st.integers(0, 50),
)
def test_what_was_shown_is_covered_at_every_moment(
    faults: tuple[list[Fault], list[Fault]], leave_after: int | None, seed: int
) -> None:
    _covered(faults, leave_after, seed)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    faults=st.tuples(
        st.lists(st.sampled_from(list(Fault)), max_size=12),
        st.lists(st.sampled_from(list(Fault)), max_size=12),
    ),
    leave_after=st.none() | st.integers(1, 10),
    seed=st.integers(0, 10_000),
)
def test_what_was_shown_is_covered_at_every_moment_at_length(
    faults: tuple[list[Fault], list[Fault]], leave_after: int | None, seed: int
) -> None:
    _covered(faults, leave_after, seed)


def _covered(faults: tuple[list[Fault], list[Fault]], leave_after: int | None, seed: int) -> None:
    async def main() -> None:
        with tempfile.TemporaryDirectory() as folder:
            sound = Federation(Path(folder), seed=seed)
            whole = await _watch(sound, leave_after=None)
            one = _price(sound, whole)
            _check(sound, whole, one)
        with tempfile.TemporaryDirectory() as folder:
            federation = Federation(Path(folder), seed=seed, faults=faults, step_timeout_s=0.1)
            seen = await _watch(federation, leave_after=leave_after)
            _check(federation, seen, one)
            if seen.error is not None and not seen.covered:
                assert federation.balance().spent == 0

    run(main())


@pytest.mark.parametrize("call", range(4))
def test_a_node_that_never_answers_holds_nothing_up_but_itself(tmp_path: Path, call: int) -> None:
    async def main() -> None:
        faults = [Fault.NONE] * call + [Fault.HANGS]
        federation = Federation(tmp_path, faults=[(), faults], step_timeout_s=0.5)
        seen = await _watch(federation, leave_after=None)

        assert seen.answer is not None
        _check(federation, seen, _price(federation, seen))

    run(main())


def test_a_database_that_is_gone_mid_answer_leaves_the_worst_case_spent(tmp_path: Path) -> None:
    async def main() -> None:
        federation = Federation(tmp_path)
        router = await federation.router()
        async with aclosing(router.stream(question())) as stream:
            async for _ in stream:
                break
            held = federation.balance().reserved
            federation.store.close()
        await router.aclose()
        federation.reopen()
        federation.clock.advance(1000)
        federation.store.expire()

        assert federation.balance().spent == held > 0

    run(main())


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


EXCHANGED = [
    Record(patient="p-01", text="patient 1 with fever was never given any drug"),
    Record(patient="p-01", text="a gardener who saw the sea in June"),
    Record(patient="p-01", text="patient 1 with cough was given drug zinc"),
]


@pytest.mark.parametrize("other", EXCHANGED)
def test_neighbouring_records_change_nothing_but_the_drawn_tokens(
    tmp_path: Path, other: Record
) -> None:
    async def observed(folder: Path, records: list[Record], seed: int) -> tuple[object, ...]:
        federation = Federation(_made(folder), (records, RECORDS[3:]), seed=seed)
        router = await federation.router()
        answer = await router.answer(question())
        await router.aclose()
        calls = {name: node.calls for name, node in federation.nodes.items()}
        return answer.tokens, answer, federation.coordinator.asks, calls, federation.balance()

    async def main() -> None:
        alike = 0
        for seed in range(6):
            mine = await observed(tmp_path / f"a{seed}", RECORDS[:3], seed)
            exchanged = [RECORDS[0], other, RECORDS[2]]
            theirs = await observed(tmp_path / f"b{seed}", exchanged, seed)
            if mine[0] == theirs[0]:
                alike += 1
                assert mine == theirs
        assert alike >= 1  # or nothing was compared

    run(main())


def test_errors_of_neighbouring_records_are_the_same(tmp_path: Path) -> None:
    async def refused(folder: Path, records: list[Record], **changes: object) -> str:
        router = await Federation(_made(folder), (records, RECORDS[3:])).router()
        try:
            await router.answer(question(**changes))
        except FederatedError as error:
            return str(error)
        finally:
            await router.aclose()
        raise AssertionError("it was answered")

    async def main() -> None:
        asks: list[dict[str, object]] = [
            {"privacy_budget": 0.01},
            {"require_consensus": True, "privacy_budget": 0.5},
            {"cohort": "nobody"},
            {"labels": ("a", "b"), "privacy_budget": 0.001},
        ]
        for place, changes in enumerate(asks):
            mine = await refused(tmp_path / f"a{place}", RECORDS[:3], **changes)
            theirs = await refused(tmp_path / f"b{place}", [RECORDS[0], EXCHANGED[1]], **changes)
            assert mine == theirs

    run(main())


def test_nodes_learn_neither_the_user_nor_the_request(tmp_path: Path) -> None:
    async def main() -> None:
        federation = Federation(tmp_path)
        said: list[bytes] = []
        for node in federation.nodes.values():
            node.said = said
        router = await federation.router()
        await router.answer(question(request_id="zebra-request"))
        await router.aclose()

        assert said
        assert not any(b"ada" in terms or b"zebra" in terms for terms in said)

    run(main())
