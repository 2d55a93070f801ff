"""The life of a session at a node, in process, over a model made of hashes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import pytest
from tests.federated_dp_llm.node.toy import (
    PROMPT,
    RECORDS,
    VOCABULARY,
    Hospital,
    numbers,
    opened,
)

from federated_dp_llm.errors import NodeRefused, NodeUnavailable
from federated_dp_llm.federation.amounts import price_of
from federated_dp_llm.federation.messages import Commit, PublicAsk, Step, VoteAsk
from federated_dp_llm.node.records import Record, Records
from federated_dp_llm.node.retrieval import Retrieval
from privacy_core.decoding.differences import clipped_sum
from privacy_core.decoding.terms import GRID
from privacy_runtime.signing import SigningKey
from privacy_runtime.testing import MemoryRows as JournalRows
from privacy_runtime.testing import SeededEntropy

T = TypeVar("T")


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    return Hospital(tmp_path)


def run(work: Awaitable[T]) -> T:
    async def main() -> T:
        return await work

    return asyncio.run(main())


def refused(work: Awaitable[Any], reason: str) -> None:
    with pytest.raises(NodeRefused) as caught:
        run(work)
    assert caught.value.reason == reason


def test_an_answer_costs_each_patient_what_was_released(hospital: Hospital) -> None:
    agent = hospital.agent
    handle = run(opened(agent, hospital.ask()))
    whole = price_of(hospital.terms(), tokens=24, voted=True)
    assert hospital.spent() == (0, whole)

    step = hospital.step(handle)
    run(agent.step(step))
    released = step.draft[:2]
    run(agent.step(hospital.step(handle, released)))
    run(agent.commit(Commit(handle=handle, tokens=5, voted=False)))

    assert hospital.spent() == (price_of(hospital.terms(), tokens=5, voted=False), 0)


def test_sums_are_those_of_the_matching_records_and_nothing_else(hospital: Hospital) -> None:
    handle = run(opened(hospital.agent, hospital.ask()))
    step = hospital.step(handle)

    sums = numbers(run(hospital.agent.step(step)).sums)

    for place, data in enumerate(step.logits):
        tokens = step.draft[:place]
        private = np.stack([hospital.model.logits(PROMPT, tokens, r.text) for r in RECORDS])
        public = np.frombuffer(data, dtype="<f4").astype(np.float32)
        assert sums[place] == clipped_sum(private, public, 1.0).tolist()
        assert max(map(abs, sums[place])) <= len(RECORDS) * GRID


@pytest.mark.parametrize("count", [0, 1, 4])
def test_all_slots_are_computed_however_few_are_filled(tmp_path: Path, count: int) -> None:
    records = [*RECORDS[:count], Record(patient="other", text="nothing of the kind")]
    hospital = Hospital(tmp_path, records)
    handle = run(opened(hospital.agent, hospital.ask()))

    sums = numbers(run(hospital.agent.step(hospital.step(handle))).sums)
    run(hospital.agent.vote(VoteAsk(handle=handle, question="q", options=("amber", "birch"))))

    assert hospital.model.scored == [8, 8]
    assert (not any(map(any, sums))) == (count == 0)


def test_a_patient_without_room_is_an_empty_slot_and_pays_nothing_more(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path)
    one = price_of(hospital.terms(), tokens=24, voted=True)
    hospital = Hospital(tmp_path / "b", promise=one)
    first = run(opened(hospital.agent, hospital.ask("request-1")))
    second = run(opened(hospital.agent, hospital.ask("request-2")))

    full = numbers(run(hospital.agent.step(hospital.step(first))).sums)
    empty = numbers(run(hospital.agent.step(hospital.step(second))).sums)

    assert any(map(any, full))
    assert not any(map(any, empty))
    assert hospital.spent() == (0, one)


def test_a_record_that_the_model_breaks_on_adds_nothing(hospital: Hospital) -> None:
    hospital.model.poison = RECORDS[0].text
    handle = run(opened(hospital.agent, hospital.ask()))
    step = hospital.step(handle, draft=0)

    (sums,) = numbers(run(hospital.agent.step(step)).sums)

    public = np.frombuffer(step.logits[0], dtype="<f4").astype(np.float32)
    others = np.stack([hospital.model.logits(PROMPT, (), r.text) for r in RECORDS[1:]])
    assert sums == clipped_sum(others, public, 1.0).tolist()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"node_id": "south"}, "mismatch"),
        ({"protocol": 2}, "mismatch"),
        ({"weights": "x" * 64}, "mismatch"),
        ({"tokenizer": "x" * 64}, "mismatch"),
        ({"prompt_digest": "x" * 64}, "mismatch"),
        ({"issued_at": 0.0}, "stale"),
        ({"issued_at": float("nan")}, "stale"),
        ({"expires_at": 0.0}, "stale"),
        ({"expires_at": 1e12}, "stale"),
        ({"expires_at": float("nan")}, "stale"),
        ({"slots_here": 9}, "terms"),
        ({"slots_here": 0}, "terms"),
        ({"slots": 4}, "terms"),
        ({"clip": 65.0}, "terms"),
        ({"clip": float("nan")}, "terms"),
        ({"clip": float("inf")}, "terms"),
        ({"temperature": 0.0}, "terms"),
        ({"temperature": 1e-9}, "terms"),
        ({"max_tokens": -1}, "terms"),
        ({"max_tokens": 1 << 20}, "terms"),
        ({"max_tokens": 0, "vote_rho": 0.0}, "terms"),
        ({"vote_rho": float("nan")}, "terms"),
        ({"vote_rho": -1.0}, "terms"),
        ({"vote_rho": 2.0}, "terms"),
        ({"adjacency": "null"}, "terms"),
        ({"adjacency": "none"}, "terms"),
        ({"cohort": "others"}, "terms"),
        ({"request_id": ""}, "terms"),
        ({"request_id": "é"}, "terms"),
        ({"max_tokens": 240}, "prompt_too_long"),
    ],
)
def test_terms_outside_the_policy_hold_nothing(
    hospital: Hospital, changes: dict[str, Any], reason: str
) -> None:
    refused(hospital.agent.open(hospital.ask(**changes)), reason)

    assert hospital.spent() == (0, 0)
    assert hospital.model.held == 0


def test_forged_terms_hold_nothing(hospital: Hospital, tmp_path: Path) -> None:
    ask = hospital.ask()
    other = SigningKey.create(tmp_path / "o.pem", SeededEntropy(9), now=hospital.clock.now())
    more = msgspec.msgpack.encode(hospital.terms(max_tokens=23))
    forgeries = [
        replace_fields(ask, terms=more),
        replace_fields(ask, signature=bytes(64)),
        replace_fields(ask, signature=b""),
        replace_fields(ask, signature=bytes.fromhex(other.sign(ask.terms))),
        replace_fields(ask, key_id=other.public.key_id),
        replace_fields(ask, terms=ask.terms + b"\x00"),
        replace_fields(ask, terms=bytes(9000)),
    ]
    garbage = b"\xc1"
    forgeries.append(
        replace_fields(ask, terms=garbage, signature=bytes.fromhex(hospital.key.sign(garbage)))
    )

    for forgery in forgeries:
        refused(hospital.agent.open(forgery), "unsigned")
    assert hospital.spent() == (0, 0)


def test_a_key_that_is_over_opens_nothing(hospital: Hospital) -> None:
    hospital.clock.advance(3 * 365 * 86400)

    refused(hospital.agent.open(hospital.ask()), "unsigned")


def test_a_request_opens_one_session_ever(hospital: Hospital) -> None:
    ask = hospital.ask()
    handle = run(opened(hospital.agent, ask))
    refused(hospital.agent.open(ask), "replayed")
    run(hospital.agent.commit(Commit(handle=handle, tokens=0, voted=False)))

    refused(hospital.agent.open(ask), "replayed")
    refused(hospital.restart().open(ask), "replayed")
    assert hospital.spent() == (0, 0)


def test_a_restart_forgets_the_session_and_its_price_is_spent(hospital: Hospital) -> None:
    handle = run(opened(hospital.agent, hospital.ask()))
    step = hospital.step(handle)
    run(hospital.agent.step(step))
    whole = price_of(hospital.terms(), tokens=24, voted=True)

    agent = hospital.restart()
    refused(agent.step(step), "unknown_session")
    refused(agent.commit(Commit(handle=handle, tokens=1, voted=False)), "unknown_session")
    assert hospital.spent() == (0, whole)
    hospital.clock.advance(181)
    hospital.ledger.expire()

    assert hospital.spent() == (whole, 0)


def test_a_session_that_is_not_settled_is_spent_in_full(hospital: Hospital) -> None:
    handle = run(opened(hospital.agent, hospital.ask()))
    whole = price_of(hospital.terms(), tokens=24, voted=True)
    hospital.clock.advance(120)

    refused(hospital.agent.commit(Commit(handle=handle, tokens=0, voted=False)), "unknown_session")

    assert hospital.spent() == (whole, 0)
    assert hospital.model.held == 0


def test_closing_charges_what_stands(hospital: Hospital) -> None:
    run(opened(hospital.agent, hospital.ask()))

    run(hospital.agent.aclose())

    hospital.restart()
    assert hospital.spent() == (price_of(hospital.terms(), tokens=24, voted=True), 0)


def test_less_than_was_seen_is_not_charged(hospital: Hospital) -> None:
    handle = run(opened(hospital.agent, hospital.ask()))
    first = hospital.step(handle)
    run(hospital.agent.step(first))
    run(hospital.agent.step(hospital.step(handle, first.draft)))
    run(hospital.agent.vote(VoteAsk(handle=handle, question="q", options=("amber", "birch"))))

    run(hospital.agent.commit(Commit(handle=handle, tokens=0, voted=False)))

    assert hospital.spent() == (price_of(hospital.terms(), tokens=len(first.draft), voted=True), 0)


def test_a_commit_may_be_repeated_but_not_changed(hospital: Hospital) -> None:
    handle = run(opened(hospital.agent, hospital.ask()))
    commit = Commit(handle=handle, tokens=3, voted=False)
    run(hospital.agent.commit(commit))

    run(hospital.agent.commit(commit))
    refused(hospital.agent.commit(Commit(handle=handle, tokens=2, voted=False)), "over_limit")
    refused(hospital.agent.step(hospital.step(handle)), "unknown_session")

    assert hospital.spent() == (price_of(hospital.terms(), tokens=3, voted=False), 0)


def test_a_commit_beyond_the_session_leaves_it_open(hospital: Hospital) -> None:
    handle = run(opened(hospital.agent, hospital.ask()))

    refused(hospital.agent.commit(Commit(handle=handle, tokens=25, voted=False)), "over_limit")
    refused(hospital.agent.commit(Commit(handle=handle, tokens=-1, voted=False)), "over_limit")

    run(hospital.agent.step(hospital.step(handle)))


def test_a_repeated_step_gets_the_same_bytes_and_scores_nothing(hospital: Hospital) -> None:
    handle = run(opened(hospital.agent, hospital.ask()))
    step = hospital.step(handle)
    first = run(hospital.agent.step(step))

    again = run(hospital.agent.step(step))

    assert again == first
    assert hospital.model.scored == [8]


def _changed(step: Step, **fields: Any) -> Step:
    return replace_fields(step, **fields)


def replace_fields(message: T, **fields: Any) -> T:
    return msgspec.structs.replace(message, **fields)  # type: ignore[type-var]


Change = Callable[[Step], Step]
ZERO = np.zeros(VOCABULARY, dtype="<f4")
BAD_STEPS: dict[str, tuple[Change, str]] = {
    "no candidates": (lambda s: _changed(s, candidates=()), "malformed"),
    "one position short": (lambda s: _changed(s, logits=s.logits[1:]), "malformed"),
    "an empty position": (lambda s: _changed(s, candidates=((), *s.candidates[1:])), "malformed"),
    "a token twice": (
        lambda s: _changed(s, candidates=((1,) * VOCABULARY, *s.candidates[1:])),
        "malformed",
    ),
    "a token beyond the vocabulary": (
        lambda s: _changed(s, candidates=((99, *range(1, 16)), *s.candidates[1:])),
        "malformed",
    ),
    "a negative token": (
        lambda s: _changed(s, candidates=((-1, *range(1, 16)), *s.candidates[1:])),
        "malformed",
    ),
    "logits cut": (lambda s: _changed(s, logits=(s.logits[0][:-1], *s.logits[1:])), "malformed"),
    "logits that are NaN": (
        lambda s: _changed(s, logits=((ZERO * np.nan).tobytes(), *s.logits[1:])),
        "malformed",
    ),
    "logits that are infinite": (
        lambda s: _changed(s, logits=((ZERO - np.inf).tobytes(), *s.logits[1:])),
        "malformed",
    ),
    "a draft beyond the vocabulary": (lambda s: _changed(s, draft=(16, *s.draft[1:])), "malformed"),
    "a longer draft": (
        lambda s: _changed(
            s, draft=(1,) * 9, candidates=s.candidates[:1] * 10, logits=s.logits[:1] * 10
        ),
        "malformed",
    ),
    "tokens before any was scored": (lambda s: _changed(s, released=(1,)), "discontinuous"),
    "another session": (lambda s: _changed(s, handle="0" * 32), "unknown_session"),
}


@pytest.mark.parametrize("name", BAD_STEPS)
def test_a_step_that_breaks_the_protocol_is_refused_and_the_session_goes_on(
    hospital: Hospital, name: str
) -> None:
    change, reason = BAD_STEPS[name]
    handle = run(opened(hospital.agent, hospital.ask()))
    step = hospital.step(handle)

    refused(hospital.agent.step(change(step)), reason)

    assert hospital.model.scored == []
    run(hospital.agent.step(step))


@pytest.mark.parametrize("case", ["same place", "left the draft", "not a candidate", "rewritten"])
def test_released_tokens_continue_what_was_scored(hospital: Hospital, case: str) -> None:
    handle = run(opened(hospital.agent, hospital.ask()))
    narrow = hospital.step(handle)
    drafted = tuple(dict.fromkeys(narrow.draft))
    likeliest = (*drafted, *(t for t in range(VOCABULARY) if t not in drafted))[:8]
    first = replace_fields(
        narrow,
        candidates=(likeliest,) * len(narrow.candidates),
        logits=tuple(data[: 4 * len(likeliest)] for data in narrow.logits),
    )
    run(hospital.agent.step(first))
    off_draft = next(t for t in likeliest if t != first.draft[0])
    outside = next(t for t in range(VOCABULARY) if t not in likeliest)
    released = {
        "same place": (),
        "left the draft": (off_draft, 1),
        "not a candidate": (outside,),
        "rewritten": (off_draft,),
    }[case]
    if case == "rewritten":
        run(hospital.agent.step(hospital.step(handle, first.draft[:1])))
        released = (off_draft, 1)

    again = hospital.step(handle, released, draft=1)
    refused(hospital.agent.step(again), "discontinuous")


def test_no_position_beyond_the_tokens_paid_for_is_scored(hospital: Hospital) -> None:
    handle = run(opened(hospital.agent, hospital.ask(max_tokens=3)))

    refused(hospital.agent.step(hospital.step(handle, draft=3)), "over_limit")
    run(hospital.agent.step(hospital.step(handle, draft=2)))


def test_votes_count_the_records_and_are_held_once(hospital: Hospital) -> None:
    handle = run(opened(hospital.agent, hospital.ask(max_tokens=0)))
    ballot = VoteAsk(handle=handle, question="q", options=("amber", "birch"))

    counts = run(hospital.agent.vote(ballot)).counts
    assert counts == (3, 1)  # the toy takes the first option where it finds none
    assert run(hospital.agent.vote(ballot)).counts == counts
    refused(
        hospital.agent.vote(VoteAsk(handle=handle, question="r", options=("a", "b"))), "over_limit"
    )
    refused(hospital.agent.step(hospital.step(handle, draft=0)), "over_limit")
    run(hospital.agent.commit(Commit(handle=handle, tokens=0, voted=False)))

    assert hospital.spent() == (price_of(hospital.terms(), tokens=0, voted=True), 0)


def test_votes_that_nobody_pays_are_refused(hospital: Hospital) -> None:
    handle = run(opened(hospital.agent, hospital.ask(vote_rho=0.0)))

    ballot = VoteAsk(handle=handle, question="q", options=("a", "b"))
    refused(hospital.agent.vote(ballot), "over_limit")


@pytest.mark.parametrize("options", [(), ("a",), ("a", "a"), ("a", ""), ("a",) * 65])
def test_a_ballot_has_different_options(hospital: Hospital, options: tuple[str, ...]) -> None:
    handle = run(opened(hospital.agent, hospital.ask()))

    ballot = VoteAsk(handle=handle, question="q", options=options)
    refused(hospital.agent.vote(ballot), "malformed")


def test_so_many_sessions_stand_at_once(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path, sessions_max=1)
    handle = run(opened(hospital.agent, hospital.ask("request-1")))
    with pytest.raises(NodeUnavailable):
        run(hospital.agent.open(hospital.ask("request-2")))

    run(hospital.agent.commit(Commit(handle=handle, tokens=0, voted=False)))

    run(hospital.agent.open(hospital.ask("request-2")))


@pytest.mark.parametrize(
    "changes",
    [
        {"draft": 9},
        {"draft": -1},
        {"candidates": 0},
        {"candidates": 5000},
        {"reach_logits": float("nan")},
        {"reach_logits": -1.0},
        {"released": (16,)},
    ],
)
def test_a_public_request_of_another_shape_is_refused(
    hospital: Hospital, changes: dict[str, Any]
) -> None:
    ask = PublicAsk(prompt=PROMPT, released=(), draft=3, candidates=4, reach_logits=0.0)

    refused(hospital.agent.public(replace_fields(ask, **changes)), "malformed")


def test_a_public_continuation_reads_no_record_and_proposes_the_likeliest(
    hospital: Hospital,
) -> None:
    ask = PublicAsk(prompt=PROMPT, released=(), draft=3, candidates=16, reach_logits=0.5)

    public = run(hospital.agent.public(ask))

    assert public.draft == hospital.model.continuation(PROMPT, (), 3).draft
    assert [ids[0] for ids in public.candidates[:-1]] == list(public.draft)
    for ids, data in zip(public.candidates, public.logits, strict=True):
        logits = np.frombuffer(data, dtype="<f4")
        assert len(logits) == len(ids)
        assert sorted(logits, reverse=True) == logits.tolist()
    assert hospital.model.scored == []


def test_what_is_noted_names_no_patient_and_no_prompt(hospital: Hospital) -> None:
    handle = run(opened(hospital.agent, hospital.ask()))
    run(hospital.agent.commit(Commit(handle=handle, tokens=1, voted=False)))

    lines = [entry.line() for entry in hospital.journal.read("node/north")]

    assert len(lines) == 2
    assert not any(word in "".join(lines) for word in ("p-00", "cough", "amber"))


def test_the_card_does_not_depend_on_records(tmp_path: Path) -> None:
    many = run(Hospital(tmp_path / "a").agent.card())
    one = run(Hospital(tmp_path / "b", RECORDS[:1]).agent.card())

    assert many == one


def test_other_records_are_answered_from_after_a_reload_and_nobody_starts_anew(
    hospital: Hospital,
) -> None:
    first = run(opened(hospital.agent, hospital.ask("request-1")))
    newcomer = Record(patient="p-new", text="cough and drug ebony")
    hospital.agent.reload(Retrieval(Records.of([RECORDS[0], newcomer])))
    second = run(opened(hospital.agent, hospital.ask("request-2")))
    old = numbers(run(hospital.agent.step(hospital.step(first))).sums)
    new = numbers(run(hospital.agent.step(hospital.step(second))).sums)
    whole = price_of(hospital.terms(), tokens=24, voted=True)

    assert old != new
    assert hospital.spent("p-00") == (0, 2 * whole)
    assert hospital.spent("p-01") == (0, whole)
    assert hospital.spent("p-new") == (0, whole)


def test_a_lost_audit_does_not_let_a_request_in_twice(hospital: Hospital) -> None:
    ask = hospital.ask()
    handle = run(opened(hospital.agent, ask))
    run(hospital.agent.commit(Commit(handle=handle, tokens=1, voted=False)))
    hospital.entries = JournalRows()

    refused(hospital.restart().open(ask), "replayed")


def test_without_its_ledger_a_node_answers_nothing(hospital: Hospital) -> None:
    hospital.store.close()

    with pytest.raises(NodeUnavailable) as caught:
        run(hospital.agent.open(hospital.ask()))
    assert caught.value.reason == "unavailable"
    assert hospital.model.held == 0
