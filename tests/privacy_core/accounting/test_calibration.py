from __future__ import annotations

import math
import subprocess
import sys

import pytest

from privacy_core.accounting import (
    accountant_names,
    calibrate,
    calibrate_noise_multiplier,
    calibrate_sample_rate,
    calibrate_steps,
    dp_sgd_event,
    epsilon_of,
)
from privacy_core.dp_events import Gaussian, Laplace, NonPrivate, SelfComposed
from privacy_core.errors import CalibrationFailed, InvalidParameter, UnsupportedEvent
from privacy_core.guarantee import NeighbouringRelation

RELATIONS = tuple(NeighbouringRelation)


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("accountant", accountant_names())
@pytest.mark.parametrize("epsilon", [0.1, 1.0, 8.0, 100.0])
def test_the_noise_meets_the_target_and_a_little_less_does_not(
    accountant: str, epsilon: float, relation: NeighbouringRelation
) -> None:
    run = {"sample_rate": 1.0 if accountant == "gdp" else 0.02, "steps": 300}

    noise = calibrate_noise_multiplier(
        epsilon=epsilon, delta=1e-6, accountant=accountant, relation=relation, **run
    )

    def price(multiplier: float) -> float:
        event = dp_sgd_event(noise_multiplier=multiplier, **run)
        return epsilon_of(event, 1e-6, accountant, relation=relation)

    assert price(noise) <= epsilon
    assert price(noise * (1 - 1e-4)) > epsilon


def test_the_documented_figure() -> None:
    noise = calibrate_noise_multiplier(epsilon=8, delta=1e-5, sample_rate=0.01, steps=1000)

    assert 0.58626 <= noise <= 0.58626 * 1.001


@pytest.mark.parametrize("accountant", ["pld", "rdp"])
def test_the_steps_are_the_last_that_fit(accountant: str) -> None:
    run = {"noise_multiplier": 0.8, "sample_rate": 0.01}

    steps = calibrate_steps(epsilon=3, delta=1e-6, accountant=accountant, **run)

    assert epsilon_of(dp_sgd_event(steps=steps, **run), 1e-6, accountant) <= 3
    assert epsilon_of(dp_sgd_event(steps=steps + 1, **run), 1e-6, accountant) > 3


def test_the_sample_rate_is_the_largest_that_fits() -> None:
    run = {"noise_multiplier": 0.8, "steps": 1000}

    rate = calibrate_sample_rate(epsilon=3, delta=1e-6, **run)

    assert epsilon_of(dp_sgd_event(sample_rate=rate, **run), 1e-6) <= 3
    assert epsilon_of(dp_sgd_event(sample_rate=rate * 1.0001, **run), 1e-6) > 3


def test_a_generous_target_allows_the_full_batch() -> None:
    assert calibrate_sample_rate(epsilon=50, delta=1e-6, noise_multiplier=2.0, steps=1) == 1.0


def test_users_need_more_noise_than_examples() -> None:
    run = {"epsilon": 8.0, "delta": 1e-5, "sample_rate": 0.01, "steps": 200}

    noise = calibrate_noise_multiplier(max_examples_per_user=4, **run)

    assert noise > calibrate_noise_multiplier(**run)
    event = dp_sgd_event(
        noise_multiplier=noise, sample_rate=0.01, steps=200, max_examples_per_user=4
    )
    assert epsilon_of(event, 1e-5) <= 8.0


def test_any_event_can_be_calibrated() -> None:
    scale = calibrate(
        lambda b: SelfComposed(Laplace(b), 5),
        epsilon=1.0,
        delta=0.0,
        lowest=0.1,
        highest=100.0,
        increasing=False,
    )

    assert scale == pytest.approx(5.0, rel=1e-4)


def test_a_bracket_that_is_wholly_good_gives_its_most_useful_end() -> None:
    bracket = {"epsilon": 5.0, "delta": 1e-5, "lowest": 10.0, "highest": 20.0}

    assert calibrate(Gaussian, increasing=False, **bracket) == 10.0
    assert calibrate(lambda r: Gaussian(100 / r), increasing=True, **bracket) == 20.0


@pytest.mark.parametrize(
    "attempt",
    [
        lambda: calibrate(
            Gaussian, epsilon=0.1, delta=1e-5, lowest=0.1, highest=1, increasing=False
        ),
        lambda: calibrate(
            lambda _: NonPrivate(), epsilon=1, delta=1e-5, lowest=1, highest=9, increasing=True
        ),
        lambda: calibrate_steps(epsilon=0.1, delta=1e-6, sample_rate=1.0, noise_multiplier=1.0),
        lambda: calibrate_steps(epsilon=1.0, delta=1e-6, sample_rate=0.0, noise_multiplier=1.0),
        lambda: calibrate_noise_multiplier(epsilon=1, delta=0.0, sample_rate=0.1, steps=10),
    ],
)
def test_a_target_that_cannot_be_met_is_refused(attempt: object) -> None:
    with pytest.raises(CalibrationFailed, match="nothing was chosen"):
        attempt()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"epsilon": 0.0}, "epsilon"),
        ({"epsilon": math.inf}, "epsilon"),
        ({"epsilon": math.nan}, "epsilon"),
        ({"delta": 1.0}, "delta"),
        ({"delta": -1e-5}, "delta"),
        ({"sample_rate": 1.5}, "sampling_probability"),
        ({"steps": -1}, "count"),
        ({"max_examples_per_user": 0}, "max_examples_per_user"),
        ({"max_examples_per_user": True}, "max_examples_per_user"),
        ({"accountant": "magic"}, "accountant"),
    ],
)
def test_a_number_outside_its_domain_is_refused_by_name(
    change: dict[str, object], named: str
) -> None:
    target = {"epsilon": 1.0, "delta": 1e-5, "sample_rate": 0.1, "steps": 10} | change

    with pytest.raises(InvalidParameter, match=named):
        calibrate_noise_multiplier(**target)  # type: ignore[arg-type]


def test_a_refusal_to_price_is_passed_on() -> None:
    with pytest.raises(UnsupportedEvent, match="central-limit"):
        calibrate_noise_multiplier(
            epsilon=1.0, delta=1e-5, sample_rate=0.1, steps=10, accountant="gdp"
        )


def test_importing_the_accountants_loads_neither_torch_nor_dp_accounting() -> None:
    code = (
        "import sys, privacy_core.accounting;"
        "heavy = {'torch', 'dp_accounting', 'scipy.stats', 'scipy.optimize', 'scipy.special'};"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )

    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)

    assert done.returncode == 0, done.stderr.decode()
