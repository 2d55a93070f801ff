"""What a recovery costs, against the accountant; and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_core.errors import InvalidParameter
from privacy_core.mechanisms.matrix_factorization import BandedToeplitz
from privacy_finetuner.config import PrivacyConfig, TrainingConfig
from privacy_finetuner.recovery.errors import RecoveryRefused
from privacy_finetuner.recovery.prices import Outlook, Replay, outlook_of_plan
from privacy_finetuner.training.plan import DPTrainingPlan, make_plan

PLAN = make_plan(
    PrivacyConfig(epsilon=4.0, delta=1e-3),
    TrainingConfig(epochs=10, batch_size=8),
    examples=32,
)
DIGESTS = Replay(sample="a" * 64, noise="b" * 64, weights="c" * 64)


def test_steps_that_are_passed_over_cost_nothing_more() -> None:
    found = outlook_of_plan(PLAN, reached=16, charged=24, epsilon_total=4.0)

    assert found.epsilon_needed == PLAN.epsilon() == found.epsilon_spent
    assert (found.steps_lost, found.steps_left) == (8, 16)
    found.require(0.01)


def test_steps_that_are_taken_again_are_priced_by_the_accountant() -> None:
    found = outlook_of_plan(PLAN, reached=16, charged=24, epsilon_total=4.0, is_repeated=True)

    assert found.epsilon_needed == PLAN.epsilon(PLAN.steps + 8) > 4.0
    assert found.epsilon_lost == found.epsilon_needed - PLAN.epsilon()
    assert found.steps_left == 24
    with pytest.raises(RecoveryRefused, match=r"would cost epsilon 4\.\d+ of 4; .* epsilon 3.6"):
        found.require(0.9)


def test_a_budget_with_room_admits_a_repetition_up_to_the_threshold() -> None:
    found = outlook_of_plan(PLAN, reached=16, charged=24, epsilon_total=6.0, is_repeated=True)
    share = found.epsilon_needed / 6.0

    found.require(share)
    with pytest.raises(RecoveryRefused):
        found.require(share - 1e-6)


@pytest.mark.parametrize("name", ["sample", "noise", "weights"])
def test_a_replay_is_free_only_if_every_digest_is_the_same(name: str) -> None:
    def needed(now: Replay | None) -> float:
        return outlook_of_plan(
            PLAN, reached=16, charged=24, epsilon_total=9.0, is_repeated=True,
            recorded=DIGESTS, replayed=now,
        ).epsilon_needed  # fmt: skip

    assert needed(DIGESTS) == PLAN.epsilon()
    assert needed(replace(DIGESTS, **{name: "d" * 64})) > PLAN.epsilon()
    assert needed(None) > PLAN.epsilon()


def test_a_replay_is_proven_by_digests_and_nothing_else() -> None:
    with pytest.raises(InvalidParameter, match="SHA-256"):
        Replay(sample="", noise="b" * 64, weights="c" * 64)


def test_correlated_noise_beyond_its_plan_has_no_price() -> None:
    plan = replace(
        PLAN, groups=2, sampler="cyclic_poisson", correlation=BandedToeplitz((1.0, 0.5)),
        count_noise_multiplier=None,
    )  # fmt: skip
    found = outlook_of_plan(plan, reached=8, charged=10, epsilon_total=99.0, is_repeated=True)

    with pytest.raises(RecoveryRefused, match="epsilon inf"):
        found.require(1.0)


def test_a_plan_whose_reservation_is_gone_asks_for_all_of_it_again() -> None:
    found = outlook_of_plan(PLAN, reached=16, charged=24, epsilon_total=4.0, is_reserved=False)

    with pytest.raises(RecoveryRefused):
        found.require(0.9)


@given(st.integers(0, 40), st.integers(0, 40), st.booleans())
def test_no_recovery_costs_less_than_the_plan(one: int, other: int, is_repeated: bool) -> None:
    reached, charged = sorted((one, other))
    found = outlook_of_plan(
        PLAN, reached=reached, charged=charged, epsilon_total=4.0, is_repeated=is_repeated
    )

    assert found.epsilon_needed >= PLAN.epsilon()
    assert found.steps_lost == charged - reached


@pytest.mark.parametrize("figure", [float("nan"), float("inf")])
def test_what_has_no_price_is_refused(figure: float) -> None:
    with pytest.raises(RecoveryRefused):
        Outlook(epsilon_total=1.0, epsilon_spent=0.0, epsilon_needed=figure).require(1.0)


def test_a_step_beyond_the_plan_is_refused() -> None:
    assert isinstance(PLAN, DPTrainingPlan)
    with pytest.raises(InvalidParameter):
        outlook_of_plan(PLAN, reached=16, charged=PLAN.steps + 1, epsilon_total=4.0)
