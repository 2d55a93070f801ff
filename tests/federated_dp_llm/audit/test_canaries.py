"""Planted patients: what an attacker with all the queries learns stays within what was charged."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from tests.federated_dp_llm.audit.attack import DELTA, Finding, Rules, attack

from federated_dp_llm.federation.amounts import NANO, rho_of_nano
from privacy_core.decoding.prices import epsilon_of, rho_of

EPSILON = 1.0
PAID = 2


def within_the_charge(found: Finding) -> None:
    """Nobody paid more than was promised, and the attack found no more than what was paid."""
    assert max(found.spent) <= rho_of(EPSILON, DELTA) * NANO
    charged = epsilon_of(rho_of_nano(max(found.spent)), DELTA)
    assert found.bound <= charged <= EPSILON


def test_the_best_attack_finds_no_more_than_the_patients_paid(tmp_path: Path) -> None:
    rules = Rules(epsilon=EPSILON, answers_paid=PAID)

    found = attack(tmp_path, rules, canaries=32, queries=8, seed=7)

    assert found.answers == 256
    assert min(found.spent) > 0
    within_the_charge(found)


def test_without_privacy_the_same_attack_finds_every_patient(tmp_path: Path) -> None:
    rules = Rules(epsilon=EPSILON, answers_paid=PAID, private=False)

    found = attack(tmp_path, rules, canaries=32, queries=4, seed=7)

    assert found.accuracy == 1
    assert found.bound > EPSILON


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [1, 2])
def test_ten_thousand_queries_find_no_more_than_the_patients_paid(
    tmp_path: Path, seed: int
) -> None:
    """False alarms: none at these seeds; the bound is at 95 %, far below the charge."""
    rules = Rules(epsilon=EPSILON, answers_paid=PAID)

    found = attack(tmp_path, rules, canaries=250, queries=40, seed=seed)

    assert found.answers == 10_000
    within_the_charge(found)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_without_the_patients_ledger_ten_thousand_queries_find_more(tmp_path: Path) -> None:
    """What the ledger is for: the same answers at the same price each, and nobody counts.

    Under (epsilon, 0) no guess of a fair coin is right more often than e^epsilon / (1 + e^epsilon).
    Expected here: 0.94 of 50; as few as 0.73 have a chance below 1e-5.
    """
    rules = Rules(epsilon=EPSILON, answers_paid=1, ledger=False)

    found = attack(tmp_path, rules, canaries=50, queries=200, seed=1)

    assert found.answers == 10_000
    assert found.accuracy > math.exp(EPSILON) / (1 + math.exp(EPSILON))
