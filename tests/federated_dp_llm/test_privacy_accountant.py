"""The documented accountant of the router, on the ledger."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from federated_dp_llm.config import DPConfig, DPMechanism
from federated_dp_llm.core.privacy_accountant import PrivacyAccountant
from federated_dp_llm.errors import FederatedError, PrivacyBudgetExceeded
from privacy_core.errors import InvalidParameter
from privacy_core.mechanisms.additive import gaussian_sigma
from privacy_runtime.testing import SeededEntropy


def accountant(**options: object) -> PrivacyAccountant:
    config = DPConfig(epsilon_per_query=0.1, max_budget=10.0, **options)  # type: ignore[arg-type]
    return PrivacyAccountant(config, entropy=SeededEntropy(1))


def test_the_documented_budget_test_holds() -> None:
    budgets = accountant()
    assert budgets.check_budget("user1", 5.0)
    assert budgets.spend_budget("user1", 5.0)
    assert budgets.check_budget("user1", 5.0)
    assert not budgets.check_budget("user1", 5.1)


def test_what_exceeds_raises_with_the_documented_numbers() -> None:
    budgets = accountant()
    budgets.spend_budget("user1", 8.0)
    with pytest.raises(PrivacyBudgetExceeded) as found:
        budgets.spend_budget("user1", 3.0)
    assert isinstance(found.value, FederatedError)
    assert found.value.requested > found.value.available
    assert "nothing was spent" in str(found.value)
    assert budgets.spend_budget("user1", 2.0)


def test_users_share_what_the_people_in_the_records_were_promised() -> None:
    budgets = accountant()
    budgets.spend_budget("user1", 6.0)
    assert not budgets.check_budget("user2", 6.0)
    budgets = accountant(cohort_budget=20.0)
    budgets.spend_budget("user1", 6.0)
    assert budgets.check_budget("user2", 10.0)
    assert not budgets.check_budget("user1", 6.0)


def test_many_small_queries_compose_better_than_their_sum() -> None:
    budgets = PrivacyAccountant(DPConfig(epsilon_per_query=0.1, max_budget=1.0))
    count = 0
    while budgets.check_budget("user1", 0.02):
        budgets.spend_budget("user1", 0.02)
        count += 1
    assert count > 1.5 * (1.0 / 0.02)


def test_the_same_key_charges_once_and_a_ledger_outlives_the_object(tmp_path: Path) -> None:
    for _ in range(3):
        budgets = PrivacyAccountant(DPConfig(max_budget=10.0), ledger=tmp_path / "ledger.db")
        budgets.spend_budget("user1", 4.0, key="query-1")
        budgets.close()
    budgets = PrivacyAccountant(DPConfig(max_budget=10.0), ledger=tmp_path / "ledger.db")
    assert budgets.check_budget("user1", 6.0)
    assert not budgets.check_budget("user1", 6.1)


@pytest.mark.parametrize("mechanism", list(DPMechanism))
def test_noise_has_the_law_that_its_price_asks_for(mechanism: DPMechanism) -> None:
    """200 draws; the bound on the mean square fails for the right law less often than 1e-6."""
    config = DPConfig(epsilon_per_query=0.5, max_budget=1e3, cohort_budget=1e3, mechanism=mechanism)
    budgets = PrivacyAccountant(config, entropy=SeededEntropy(5))
    draws = np.array([budgets.add_noise(100.0, 2.0) for _ in range(200)]) - 100.0
    variance = (
        gaussian_sigma(epsilon=0.5, delta=1e-5, sensitivity=2.0) ** 2
        if mechanism is DPMechanism.GAUSSIAN
        else 2 * (2.0 / 0.5) ** 2
    )
    spread = math.sqrt((2 if mechanism is DPMechanism.GAUSSIAN else 5) / 200)
    assert abs(float(np.mean(draws**2)) / variance - 1) < 8 * spread
    assert len(set(draws)) == 200


def test_noise_is_charged_before_it_is_released() -> None:
    budgets = PrivacyAccountant(
        DPConfig(epsilon_per_query=0.5, max_budget=1.0), entropy=SeededEntropy(2)
    )
    while budgets.remaining_budget("ada") > 0.5:
        budgets.add_noise(1.0, 1.0, user_id="ada")
    budgets.spend_budget("ada", budgets.remaining_budget("ada") * 0.9)
    with pytest.raises(PrivacyBudgetExceeded):
        budgets.add_noise(1.0, 1.0, user_id="ada")
    assert budgets.remaining_budget("ada") < 0.5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epsilon_per_query", 0.0),
        ("max_budget", math.nan),
        ("delta", 1.0),
        ("cohort_budget", -1.0),
        ("composition", "pld"),
        ("mechanism", "exponential"),
    ],
)
def test_bad_configurations_are_refused(field: str, value: object) -> None:
    with pytest.raises(InvalidParameter, match=field):
        DPConfig(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.nan, math.inf])
def test_bad_amounts_are_refused(epsilon: float) -> None:
    budgets = accountant()
    with pytest.raises(InvalidParameter):
        budgets.spend_budget("user1", epsilon)
    assert budgets.remaining_budget("user1") == pytest.approx(10.0)


@pytest.mark.parametrize(("answer", "sensitivity"), [(math.nan, 1.0), (math.inf, 1.0), (1.0, 0.0)])
def test_an_answer_that_cannot_be_released_costs_nothing(answer: float, sensitivity: float) -> None:
    budgets = accountant()
    with pytest.raises(InvalidParameter):
        budgets.add_noise(answer, sensitivity, user_id="ada")
    assert budgets.remaining_budget("ada") == pytest.approx(10.0)
