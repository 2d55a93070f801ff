"""Round trips and order, on runs nobody chose by hand. Examples are fixed: no chance involved."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from privacy_core.accounting import (
    accountant_named,
    calibrate_noise_multiplier,
    calibrate_sample_rate,
    calibrate_steps,
    delta_of,
    dp_sgd_event,
    epsilon_of,
)
from privacy_core.accounting.normal_form import normal_form
from privacy_core.errors import CalibrationFailed
from privacy_core.guarantee import NeighbouringRelation

FEW = settings(deadline=None, max_examples=14, derandomize=True)
log_q = st.floats(-4, 0)
log_delta = st.floats(-13, -3)
log_epsilon = st.floats(-1.3, 1.5)
log_steps = st.floats(0, 4.3)
log_noise = st.floats(-0.3, 1.5)
relations = st.sampled_from(list(NeighbouringRelation))


@FEW
@given(log_epsilon, log_delta, log_q, log_steps, relations)
def test_calibrated_noise_keeps_the_target_and_less_does_not(
    log_epsilon: float,
    log_delta: float,
    log_q: float,
    log_steps: float,
    relation: NeighbouringRelation,
) -> None:
    epsilon, delta = 10**log_epsilon, 10**log_delta
    run: dict[str, Any] = {"sample_rate": 10**log_q, "steps": round(10**log_steps)}

    noise = calibrate_noise_multiplier(epsilon=epsilon, delta=delta, relation=relation, **run)

    def price(multiplier: float) -> float:
        event = dp_sgd_event(noise_multiplier=multiplier, **run)
        return epsilon_of(event, delta, relation=relation)

    assert price(noise) <= epsilon
    assert noise == 1e-2 or price(noise * 0.999) > epsilon


@FEW
@given(log_noise, log_delta, log_q, log_steps)
def test_the_price_of_a_noise_calibrates_back_to_it(
    log_noise: float, log_delta: float, log_q: float, log_steps: float
) -> None:
    noise, delta = 10**log_noise, 10**log_delta
    run: dict[str, Any] = {"sample_rate": 10**log_q, "steps": round(10**log_steps)}
    epsilon = epsilon_of(dp_sgd_event(noise_multiplier=noise, **run), delta)
    assume(epsilon > 1e-3)  # below, the lattice's absolute error of epsilon shows

    found = calibrate_noise_multiplier(epsilon=epsilon, delta=delta, **run)

    assert found == pytest.approx(noise, rel=1e-3)


@settings(FEW, max_examples=8)
@given(st.floats(-0.5, 1), log_delta, st.floats(-2.5, -0.5), st.floats(-0.2, 0.4))
def test_calibrated_steps_and_rates_keep_the_target(
    log_epsilon: float, log_delta: float, log_q: float, log_noise: float
) -> None:
    target: dict[str, Any] = {"epsilon": 10**log_epsilon, "delta": 10**log_delta}
    noise, rate = 10**log_noise, 10**log_q
    try:
        steps = calibrate_steps(sample_rate=rate, noise_multiplier=noise, **target)
    except CalibrationFailed:
        one = dp_sgd_event(noise_multiplier=noise, sample_rate=rate, steps=1)
        assert epsilon_of(one, target["delta"]) > target["epsilon"]
        return
    assume(steps < 200_000)

    def price(sample_rate: float, steps: int) -> float:
        event = dp_sgd_event(noise_multiplier=noise, sample_rate=sample_rate, steps=steps)
        return epsilon_of(event, target["delta"])

    assert price(rate, steps) <= target["epsilon"] < price(rate, steps + 1)
    found = calibrate_sample_rate(noise_multiplier=noise, steps=steps, **target)
    assert price(found, steps) <= target["epsilon"]
    assert found >= rate * (1 - 1e-3)


@FEW
@given(log_noise, log_q, log_steps, log_delta, st.floats(1.001, 1e4), relations)
def test_epsilon_falls_with_delta_and_stays_below_the_renyi_bound(
    log_noise: float,
    log_q: float,
    log_steps: float,
    log_delta: float,
    factor: float,
    relation: NeighbouringRelation,
) -> None:
    event = dp_sgd_event(
        noise_multiplier=10**log_noise, sample_rate=10**log_q, steps=round(10**log_steps)
    )
    delta = 10**log_delta

    price = epsilon_of(event, delta, relation=relation)

    assert epsilon_of(event, min(1.0, delta * factor), relation=relation) <= price
    assert epsilon_of(event, delta / factor, relation=relation) >= price
    renyi = epsilon_of(event, delta, "rdp", relation=relation)
    assert price <= renyi * (1 + 2e-3) + 1e-4
    if delta < 1e-10:
        assert price <= renyi


@FEW
@given(log_noise, log_q, log_steps, log_delta)
def test_the_delta_of_an_epsilon_is_not_above_the_delta_it_came_from(
    log_noise: float, log_q: float, log_steps: float, log_delta: float
) -> None:
    event = dp_sgd_event(
        noise_multiplier=10**log_noise, sample_rate=10**log_q, steps=round(10**log_steps)
    )
    epsilon = epsilon_of(event, 10**log_delta)
    assume(epsilon > 1e-3)

    # The two lattices may differ by the accuracy of epsilon, hence the hair above it.
    assert delta_of(event, epsilon * 1.001) <= 10**log_delta


@pytest.mark.parametrize("noise", [1e-2, 1e-3, 1e-5, 1e-200])
@pytest.mark.parametrize("examples", [1, 2, 16])
def test_users_with_hardly_any_noise_have_a_price_all_the_same(noise: float, examples: int) -> None:
    event = dp_sgd_event(
        noise_multiplier=noise, sample_rate=0.01, steps=1000, max_examples_per_user=examples
    )
    form = normal_form(event)

    assert epsilon_of(event, 1e-5) > 1e4
    if form.is_private:
        rough = accountant_named("pld").rough_epsilon(
            form, 1e-5, NeighbouringRelation.ADD_OR_REMOVE_ONE
        )
        assert rough > 1e4


def test_many_records_of_a_user_can_be_calibrated() -> None:
    run: dict[str, Any] = {"sample_rate": 0.01, "steps": 1000, "max_examples_per_user": 16}

    noise = calibrate_noise_multiplier(epsilon=4, delta=1e-5, **run)

    assert epsilon_of(dp_sgd_event(noise_multiplier=noise, **run), 1e-5) <= 4
    assert epsilon_of(dp_sgd_event(noise_multiplier=noise * 0.999, **run), 1e-5) > 4
