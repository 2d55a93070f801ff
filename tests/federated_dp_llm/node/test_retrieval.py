"""A record decides about its patient alone: in each answer, and in the ledger after it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federated_dp_llm.node.records import Record, Records
from federated_dp_llm.node.retrieval import Retrieval, public_weights, words_of

WORDS = ["fever", "cough", "rash", "ache", "amber", "birch", "cedar"]
TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join)
CORPORA = st.lists(st.tuples(st.integers(0, 9), TEXTS), min_size=2, max_size=12)
SLOTS = 3


def corpus(pairs: Sequence[tuple[int, str]]) -> Records:
    return Records.of([Record(patient=f"p-{who}", text=text) for who, text in pairs])


def answers(
    records: Records, prompts: Sequence[str], room: int
) -> tuple[list[tuple[str, ...]], Mapping[str, int]]:
    """Who fills the slots of each answer, and what everybody has paid, as the node does it."""
    retrieval, paid, slots = Retrieval(records), Counter[str](), []
    for prompt in prompts:
        found = retrieval.matching(prompt, "all")
        held = [who for who in found.patients if paid[who] < room]
        paid.update(held)
        slots.append(tuple(held[:SLOTS]))
    return slots, paid


@given(pairs=CORPORA, prompts=st.lists(TEXTS, min_size=1, max_size=6), room=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_without_a_patient_one_slot_changes_where_they_paid_and_no_other_ledger_does(
    pairs: list[tuple[int, str]], prompts: list[str], room: int
) -> None:
    gone = f"p-{pairs[0][0]}"
    rest = [pair for pair in pairs if f"p-{pair[0]}" != gone]
    if not rest:
        return
    slots, paid = answers(corpus(pairs), prompts, room)
    others, others_paid = answers(corpus(rest), prompts, room)

    charged = 0
    for with_them, without in zip(slots, others, strict=True):
        left, right = Counter(with_them), Counter(without)
        if with_them != without:
            charged += 1
            assert gone in with_them
        assert (left - right).total() <= 1
        assert (right - left).total() <= 1
    assert charged <= paid.get(gone, 0) <= room
    assert {who: n for who, n in paid.items() if who != gone} == dict(others_paid)


def test_the_usual_way_to_charge_would_fail_that_test() -> None:
    """Top k alone pay: a newcomer changes another one's ledger, and later answers with it."""
    pairs = [(0, "cough cough fever"), (1, "cough fever rash"), (2, "ache")]
    prompts = ["cough fever", "cough fever rash"]

    def top_one_pays(records: Records) -> list[tuple[str, ...]]:
        retrieval, paid, slots = Retrieval(records), Counter[str](), []
        for prompt in prompts:
            top = [who for who in retrieval.matching(prompt, "all").patients if paid[who] < 1][:1]
            paid.update(top)
            slots.append(tuple(top))
        return slots

    with_newcomer = top_one_pays(corpus(pairs))
    without = top_one_pays(corpus(pairs[1:]))

    assert with_newcomer[0] == ("p-0",)  # pays here, and has nothing left
    assert with_newcomer[1] != without[1]  # an answer that the newcomer does not pay for


def test_the_best_record_stands_for_its_patient() -> None:
    records = corpus([(1, "fever"), (1, "fever cough"), (2, "cough")])

    found = Retrieval(records).matching("fever cough", "all")

    assert found.patients == ("p-1", "p-2")
    assert found.texts[0] == "fever cough"
    assert repr(found) == "Found(***)"


def test_equal_ones_stay_in_the_files_order() -> None:
    found = Retrieval(corpus([(3, "fever"), (1, "fever"), (2, "fever")])).matching("fever", "all")

    assert found.patients == ("p-3", "p-1", "p-2")


@pytest.mark.parametrize("prompt", ["", "the of and", "xylophone", "?!"])
def test_nobody_matches_a_prompt_of_no_words_in_common(prompt: str) -> None:
    assert Retrieval(corpus([(1, "fever"), (2, "the cough")])).matching(prompt, "all").texts == ()


def test_who_shares_too_few_words_does_not_match() -> None:
    retrieval = Retrieval(corpus([(1, "fever"), (2, "rash cough amber")]), match=0.5)

    assert retrieval.matching("rash cough amber birch", "all").patients == ("p-2",)


def test_only_the_cohort_is_searched() -> None:
    records = Records.of(
        [
            Record(patient="a", text="fever", cohort="x"),
            Record(patient="b", text="fever", cohort="y"),
            Record(patient="a", text="fever cough", cohort="y"),
        ]
    )
    retrieval = Retrieval(records)

    assert retrieval.matching("fever", "x").patients == ("a",)
    assert set(retrieval.matching("fever", "y").patients) == {"a", "b"}
    assert set(retrieval.matching("fever", "all").patients) == {"a", "b"}
    assert retrieval.matching("fever", "z").patients == ()


def test_a_list_is_filled_without_a_look_at_the_texts() -> None:
    records = [Record(patient=f"p-{k}", text=f"text {k}") for k in range(5)]
    blanked = [*records[:1], Record(patient="p-1", text=" "), *records[2:]]

    whole = Retrieval(Records.of(records)).listed("all", most=3)
    without = Retrieval(Records.of(blanked)).listed("all", most=3)

    assert whole.patients == ("p-0", "p-1", "p-2")
    assert without.patients == ("p-0", "p-2")  # p-3 does not move up


def test_weights_come_from_public_texts_and_favour_what_is_rare() -> None:
    weights = public_weights(["cough fever", "cough rash", "cough"])
    retrieval = Retrieval(corpus([(1, "cough"), (2, "rash")]), match=0.1, weights=weights)

    assert retrieval.matching("cough rash", "all").patients == ("p-2", "p-1")


def test_words_are_folded_and_kept_whole() -> None:
    assert words_of("The patient's X-ray: NORMAL, beta-blocker_2") == [
        "patient's",
        "x-ray",
        "normal",
        "beta-blocker",
        "2",
    ]
