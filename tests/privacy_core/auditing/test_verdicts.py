"""Verdicts follow from their numbers, and never say more than they know."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from tests.privacy_core.auditing.played_runs import white_box_scores

from privacy_core.accounting import dp_sgd_event, epsilon_of, gdp_epsilon_bound
from privacy_core.auditing import (
    AuditFinding,
    Ceiling,
    EpsilonBound,
    Method,
    Shape,
    Verdict,
    ceiling,
    gaussian_estimate,
    judge,
    one_run_epsilon,
    one_run_f_dp_epsilon,
)
from privacy_core.auditing.chance import Chance
from privacy_core.auditing.step_laws import WhiteBox
from privacy_core.errors import InvalidParameter

seeded = np.random.default_rng  # noqa: TID251 -- scores of a test, the same every time

DELTA = 1e-5


@pytest.fixture(scope="module")
def bound() -> EpsilonBound:
    generator = seeded(4)
    included = generator.random(500) < 0.5
    return one_run_epsilon(generator.normal(size=500) + 3 * included, included, delta=DELTA)


def _limit(epsilon: float, method: Method = Method.ONE_RUN, canaries: int = 500) -> Ceiling:
    return ceiling(epsilon, DELTA, canaries, method=method, trials=10)


@pytest.mark.parametrize(
    ("theory", "verdict"),
    [
        (0.5, Verdict.VIOLATION),
        (6.0, Verdict.CONSISTENT),
        (40.0, Verdict.INCONCLUSIVE),
        (math.inf, Verdict.INCONCLUSIVE),
    ],
)
def test_the_verdict_follows_from_bound_claim_and_ceiling(
    bound: EpsilonBound, theory: float, verdict: Verdict
) -> None:
    finding = judge(bound, theory=theory, ceiling=_limit(theory))

    assert finding.verdict is verdict
    assert AuditFinding.from_json(finding.to_json()) == finding


@pytest.mark.parametrize("theory", [0.5, 6.0, 40.0, math.inf])
def test_no_text_says_that_a_claim_was_proved(bound: EpsilonBound, theory: float) -> None:
    text = judge(bound, theory=theory, ceiling=_limit(theory)).text.lower()

    assert not {"prove", "proved", "proven", "proof", "guarantees", "safe"} & set(text.split())
    assert "ideal attacker" in text
    assert f"{bound.epsilon:.3g}" in text


def test_a_changed_verdict_or_number_is_refused(bound: EpsilonBound) -> None:
    data = json.loads(judge(bound, theory=0.5, ceiling=_limit(0.5)).to_json())
    changes = [
        {"verdict": "consistent"},
        {"theory": 50.0},
        {"text": "All is well."},
        {"version": 1},
        {"version": 3},
        {"theory": "nan"},
        {"theory": math.nan},
        {"theory": -1.0},
        {"theory": True},
    ]

    for change in changes:
        with pytest.raises(InvalidParameter):
            AuditFinding.from_json(json.dumps({**data, **change}))
    for field in ("epsilon", "confidence", "delta"):
        with pytest.raises(InvalidParameter):
            AuditFinding.from_json(json.dumps({**data, "bound": {**data["bound"], field: "much"}}))
    for text in ("", "{}", "[]", '{"version": 1}'):
        with pytest.raises(InvalidParameter):
            AuditFinding.from_json(text)


def test_an_estimate_has_no_verdict() -> None:
    included = np.arange(500) % 2 == 0
    estimate = gaussian_estimate(included * 1.0, included, delta=DELTA)

    with pytest.raises(InvalidParameter, match="an estimate has no verdict"):
        judge(estimate, theory=1.0, ceiling=_limit(1.0, Method.GAUSSIAN_ESTIMATE))


def test_the_ceiling_of_another_audit_is_refused(bound: EpsilonBound) -> None:
    with pytest.raises(InvalidParameter, match=r"ceiling\.canaries"):
        judge(bound, theory=1.0, ceiling=_limit(1.0, canaries=400))
    with pytest.raises(InvalidParameter, match=r"ceiling\.method"):
        judge(bound, theory=1.0, ceiling=_limit(1.0, Method.F_DP))
    with pytest.raises(InvalidParameter, match=r"ceiling\.delta"):
        judge(replace(bound, delta=1e-6), theory=1.0, ceiling=_limit(1.0))


def test_a_bound_of_gaussian_shape_needs_the_price_of_the_dominating_gaussian() -> None:
    included = np.arange(500) % 2 == 0
    shaped = one_run_f_dp_epsilon(included * 1.0, included, delta=DELTA)
    plain = one_run_f_dp_epsilon(included * 1.0, included, delta=DELTA, shape=Shape.APPROXIMATE)
    limit = _limit(2.0, Method.F_DP)

    with pytest.raises(InvalidParameter, match="theory_gaussian"):
        judge(shaped, theory=2.0, ceiling=limit)
    finding = judge(shaped, theory=2.0, theory_gaussian=2.1, ceiling=limit)

    assert finding.verdict is Verdict.VIOLATION
    assert finding.theory == 2.1
    assert judge(plain, theory=2.0, ceiling=limit).verdict is Verdict.VIOLATION


def _white_box(sigma: float, claimed: float, seed: int) -> AuditFinding:
    """A run of 300 steps with noise `sigma`, audited against the price of noise `claimed`."""
    event = dp_sgd_event(noise_multiplier=claimed, sample_rate=0.02, steps=300)
    run = WhiteBox(noise_multiplier=sigma, sample_rate=0.02, steps=300, epsilon=math.nan)
    scores, included = white_box_scores(500, run, Chance(seed, purpose="test"))
    theory = epsilon_of(event, DELTA)
    bound = one_run_f_dp_epsilon(scores.likelihood_ratio, included, delta=DELTA)
    return judge(
        bound,
        theory=theory,
        theory_gaussian=gdp_epsilon_bound(event, DELTA),
        ceiling=_limit(theory, Method.F_DP),
    )


def test_twenty_honest_runs_give_no_violation() -> None:
    """By the bound's level alone one in twenty would be allowed; an honest run is far below it."""
    found = [_white_box(1.0, 1.0, seed).verdict for seed in range(20)]

    assert Verdict.VIOLATION not in found


def test_a_quarter_of_the_claimed_noise_is_a_violation() -> None:
    found = [_white_box(1.0 / 4, 1.0, seed).verdict for seed in range(5)]

    assert found == [Verdict.VIOLATION] * 5
