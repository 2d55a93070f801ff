"""What a budget buys, decided before anything is asked."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.federated_dp_llm.routing.world import question

from federated_dp_llm.errors import BudgetTooSmall, ConsensusUnavailable
from federated_dp_llm.federation.amounts import nano_cap
from federated_dp_llm.routing.policy import AnswerPolicy, plan
from privacy_core.decoding.prices import CLIP_LEAST, rho_of
from privacy_core.errors import InvalidParameter

POLICY = AnswerPolicy()


@settings(max_examples=150, deadline=None)
@given(
    epsilon=st.floats(1e-6, 60),
    slots=st.integers(1, 2000),
    tokens=st.integers(1, 4096),
    temperature=st.floats(0.05, 3),
    consensus=st.booleans(),
    labels=st.sampled_from([(), ("a", "b"), ("a", "b", "c")]),
)
def test_a_plan_never_costs_more_than_the_budget_and_a_refusal_names_one_that_is_enough(
    epsilon: float,
    slots: int,
    tokens: int,
    temperature: float,
    consensus: bool,
    labels: tuple[str, ...],
) -> None:
    def asked(budget: float) -> None:
        query = question(
            privacy_budget=budget, max_tokens=tokens, temperature=temperature,
            require_consensus=consensus, labels=labels,
        )  # fmt: skip
        found = plan(query, slots, POLICY)
        price = found.tokens * found.terms.rho_per_token + found.vote_rho
        assert math.ceil(price * 1e9) <= nano_cap(rho_of(budget, POLICY.delta))
        assert CLIP_LEAST <= found.terms.clip <= POLICY.clip
        assert found.tokens <= tokens
        assert (found.tokens == 0) == bool(labels)

    try:
        asked(epsilon)
    except (BudgetTooSmall, ConsensusUnavailable) as error:
        least = error.least
        if least is None or math.isinf(least):
            return
        assert least > epsilon
        try:
            asked(least)
        except (BudgetTooSmall, ConsensusUnavailable) as other:
            if type(other) is type(error):
                raise  # what was named was not enough
            if other.least is not None and not math.isinf(other.least):
                asked(other.least)  # one of text and flag was paid, not yet the other


def test_the_documented_budget_buys_a_label_from_128_slots_and_no_text() -> None:
    label = plan(question(privacy_budget=0.1, labels=("yes", "no")), 128, POLICY)
    assert label.votes is not None
    with pytest.raises(BudgetTooSmall) as caught:
        plan(question(privacy_budget=0.1, max_tokens=512, temperature=0.7), 128, POLICY)
    assert caught.value.least > 0.1
    with pytest.raises(BudgetTooSmall):
        plan(question(privacy_budget=0.1, labels=("yes", "no")), 32, POLICY)


@pytest.mark.parametrize(
    "changes",
    [
        {"privacy_budget": 0.0},
        {"privacy_budget": -1.0},
        {"privacy_budget": math.nan},
        {"privacy_budget": math.inf},
        {"temperature": 0.0},
        {"temperature": math.nan},
        {"max_tokens": 0},
        {"deadline_s": 0.0},
        {"labels": ("one",)},
        {"labels": ("same", "same")},
        {"prompt": "  \n"},
    ],
)
def test_numbers_outside_their_domain_are_refused_by_name(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidParameter, match=next(iter(changes))):
        plan(question(**changes), 64, POLICY)


@pytest.mark.parametrize(
    "wrong",
    [
        {"delta": 0.0},
        {"clip": 0.1},
        {"draft": 9},
        {"step_timeout_s": 0.0},
        {"concurrent": 0},
        {"consensus_share": 1.0},
    ],
)
def test_an_operators_number_outside_its_domain_is_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidParameter, match=next(iter(wrong))):
        AnswerPolicy(**wrong)  # type: ignore[arg-type]  # wrong on purpose
