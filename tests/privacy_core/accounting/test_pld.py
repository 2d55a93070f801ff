"""The tight accountant against exact single steps, real mechanisms, and Google's accountant."""

from __future__ import annotations

import itertools
import math

import mpmath
import pytest
from dp_accounting import (
    GaussianDpEvent,
    NeighboringRelation,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
)
from dp_accounting.pld import PLDAccountant

from privacy_core.accounting import delta_of, epsilon_of
from privacy_core.accounting.normal_form import normal_form
from privacy_core.accounting.pld import PldAccountant
from privacy_core.dp_events import (
    Composed,
    DpEvent,
    Gaussian,
    Laplace,
    MixtureOfGaussians,
    PoissonSampled,
    SampledWithoutReplacement,
    SelfComposed,
    TruncatedPoissonSampled,
)
from privacy_core.guarantee import NeighbouringRelation

ADD_OR_REMOVE = NeighbouringRelation.ADD_OR_REMOVE_ONE
REPLACE = NeighbouringRelation.REPLACE_ONE
Law = dict[float, float]


def hockey_stick(p: Law, q: Law, sigma: float, epsilon: float) -> float:
    """sup over directions of E[(p - e^eps q)_+] for two mixtures of normals, by fine quadrature."""

    def one_way(first: Law, second: Law) -> float:
        step, total = sigma / 400, 0.0
        low = min(*first, *second) - 10 * sigma
        count = int((max(*first, *second) + 10 * sigma - low) / step)
        for i in range(count):
            x = low + (i + 0.5) * step
            a = sum(w * math.exp(-0.5 * ((x - m) / sigma) ** 2) for m, w in first.items())
            b = sum(w * math.exp(-0.5 * ((x - m) / sigma) ** 2) for m, w in second.items())
            total += max(a - math.exp(epsilon) * b, 0.0)
        return total * step / (sigma * math.sqrt(2 * math.pi))

    return max(one_way(p, q), one_way(q, p))


@pytest.mark.parametrize("epsilon", [0.0, 0.05, 1.0, 4.0])
@pytest.mark.parametrize(
    ("event", "relation", "laws"),
    [
        (
            PoissonSampled(0.1, Gaussian(0.8)),
            ADD_OR_REMOVE,
            ({0.0: 0.9, 1.0: 0.1}, {0.0: 1.0}),
        ),
        (
            PoissonSampled(0.3, Gaussian(0.8)),
            REPLACE,
            ({0.0: 0.7, 1.0: 0.3}, {0.0: 0.7, -1.0: 0.3}),
        ),
        (
            MixtureOfGaussians(0.8, (0.0, 1.0, 2.0), (0.6, 0.3, 0.1)),
            ADD_OR_REMOVE,
            ({0.0: 0.6, 1.0: 0.3, 2.0: 0.1}, {0.0: 1.0}),
        ),
    ],
)
def test_a_single_step_is_exact(
    event: DpEvent, relation: NeighbouringRelation, laws: tuple[Law, Law], epsilon: float
) -> None:
    exact = hockey_stick(*laws, 0.8, epsilon)

    found = delta_of(event, epsilon, relation=relation)

    assert exact * (1 - 1e-4) <= found <= exact * 1.01 + 1e-12


@pytest.mark.parametrize("delta", [1e-2, 1e-5, 1e-9, 1e-14])
def test_a_single_sampled_step_against_sixty_digits(delta: float) -> None:
    q, sigma = 0.02, 0.9
    epsilon = epsilon_of(PoissonSampled(q, Gaussian(sigma)), delta)

    def exact(at: float) -> mpmath.mpf:
        with mpmath.workdps(60):
            x = sigma**2 * mpmath.log((mpmath.exp(at) - (1 - q)) / q) + mpmath.mpf(1) / 2
            up, moved = mpmath.ncdf(-x / sigma), mpmath.ncdf(-(x - 1) / sigma)
            return (1 - q) * up + q * moved - mpmath.exp(at) * up

    assert exact(epsilon) <= delta
    if epsilon > 0:
        assert exact(epsilon * 0.998 - 1e-6) > delta


def laws_of_a_cut_batch(others: list[float], target: float, q: float, cut: int) -> tuple[Law, Law]:
    """The exact laws of the batch sum with and without the target, by enumeration."""
    laws: tuple[Law, Law] = ({}, {})
    for law, people in zip(laws, ([*others, target], others), strict=True):
        for picks in itertools.product((0, 1), repeat=len(people)):
            chosen = [v for v, pick in zip(people, picks, strict=True) if pick]
            weight = math.prod(q if pick else 1 - q for pick in picks)
            kept = list(itertools.combinations(chosen, min(cut, len(chosen))))
            for batch in kept:
                total = sum(batch)
                law[total] = law.get(total, 0.0) + weight / len(kept)
    return laws


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("others", [[-1.0] * 4, [0.0] * 4, [-1.0, 1.0, 0.5, -0.5]])
def test_a_cut_batch_never_costs_more_than_its_price(others: list[float], epsilon: float) -> None:
    q, cut, sigma = 0.5, 2, 1.0
    laws = laws_of_a_cut_batch(others, 1.0, q, cut)

    priced = delta_of(TruncatedPoissonSampled(5, q, cut, Gaussian(sigma)), epsilon)

    assert hockey_stick(*laws, sigma, epsilon) <= priced


def test_the_price_of_a_cut_that_is_ignored_is_too_low() -> None:
    q, cut, sigma, epsilon = 0.5, 2, 1.0, 1.0
    real = hockey_stick(*laws_of_a_cut_batch([-1.0] * 4, 1.0, q, cut), sigma, epsilon)

    assert real > delta_of(PoissonSampled(q, Gaussian(sigma)), epsilon)


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0, 3.0])
@pytest.mark.parametrize("others", [[0.0] * 4, [1.0] * 4, [-1.0, 1.0, 0.5, -0.5]])
def test_a_fixed_size_sample_never_costs_more_than_its_price(
    others: list[float], epsilon: float
) -> None:
    laws: tuple[Law, Law] = ({}, {})
    for law, target in zip(laws, (1.0, -1.0), strict=True):
        batches = list(itertools.combinations([*others, target], 2))
        for batch in batches:
            law[sum(batch)] = law.get(sum(batch), 0.0) + 1 / len(batches)

    event = SampledWithoutReplacement(5, 2, Gaussian(1.0))
    priced = delta_of(event, epsilon, relation=REPLACE)

    real = hockey_stick(*laws, 1.0, epsilon)
    assert real <= priced
    if others[0] == 0.0 and len(set(others)) == 1:
        assert priced <= delta_of(
            SampledWithoutReplacement(5, 3, Gaussian(1.0)), epsilon, relation=REPLACE
        )


GRID = [
    (2.067, 0.6425, 2, 4.9e-4),
    (1.187, 0.0178, 539, 2.9e-7),
    (0.781, 0.7335, 50, 5.0e-9),
    (0.754, 0.2639, 180, 5.3e-5),
    (5.355, 0.3503, 782, 6.8e-7),
    (3.120, 0.0530, 344, 1.9e-8),
]
THEIRS = {
    ADD_OR_REMOVE: NeighboringRelation.ADD_OR_REMOVE_ONE,
    REPLACE: NeighboringRelation.REPLACE_ONE,
}


@pytest.mark.parametrize("relation", [ADD_OR_REMOVE, REPLACE])
@pytest.mark.parametrize(("sigma", "q", "steps", "delta"), GRID)
def test_google_s_accountant_agrees(
    sigma: float, q: float, steps: int, delta: float, relation: NeighbouringRelation
) -> None:
    theirs = PLDAccountant(THEIRS[relation], value_discretization_interval=1e-3)
    theirs.compose(SelfComposedDpEvent(PoissonSampledDpEvent(q, GaussianDpEvent(sigma)), steps))

    ours = epsilon_of(dp_sgd(sigma, q, steps), delta, relation=relation)

    assert ours == pytest.approx(theirs.get_epsilon(delta), rel=1e-3)


def dp_sgd(sigma: float, q: float, steps: int) -> DpEvent:
    return SelfComposed(PoissonSampled(q, Gaussian(sigma)), steps)


def test_different_steps_compose() -> None:
    event = Composed((dp_sgd(1.0, 0.01, 500), dp_sgd(2.0, 0.02, 100)))

    assert epsilon_of(event, 1e-5) == pytest.approx(1.38569, rel=5e-4)
    assert epsilon_of(event, 1e-9) == pytest.approx(2.4799, rel=5e-4)


def test_a_finer_lattice_gives_a_lower_bound_of_the_coarser_one() -> None:
    form = normal_form(dp_sgd(1.0, 0.01, 1000))

    for delta in (1e-3, 1e-8, 1e-14):
        prices = [
            PldAccountant(accuracy=a).epsilon(form, delta, ADD_OR_REMOVE)
            for a in (2e-5, 2e-4, 2e-3, 2e-2)
        ]
        assert prices == sorted(prices)
        assert prices[1] <= prices[0] * 1.0005


def test_laplace_noise_has_its_closed_form_and_its_pure_epsilon() -> None:
    event = Laplace(2.0)

    for epsilon in (0.0, 0.2, 0.45):
        exact = 1 - math.exp((epsilon - 0.5) / 2)
        assert exact <= delta_of(event, epsilon) <= exact * 1.001
    assert epsilon_of(event, 0.0) == pytest.approx(0.5, rel=1e-9)
    assert delta_of(event, 0.5 + 1e-9) == 0.0
    assert epsilon_of(SelfComposed(event, 30), 0.0) == pytest.approx(15.0, rel=1e-9)


@pytest.mark.parametrize("sigma", [0.02, 0.1, 0.3, 30.0, 1e5, 1e9])
@pytest.mark.parametrize("q", [1e-7, 0.01, 0.999])
@pytest.mark.parametrize("steps", [1, 10_000])
def test_extreme_runs_have_a_finite_price_below_the_renyi_bound(
    sigma: float, q: float, steps: int
) -> None:
    event = dp_sgd(sigma, q, steps)

    for delta in (1e-3, 1e-12):
        price = epsilon_of(event, delta)
        assert 0 <= price < math.inf
        assert price <= epsilon_of(event, delta, "rdp") * (1 + 1e-3) + 1e-6


def test_noise_near_zero_is_priced_as_none() -> None:
    assert epsilon_of(dp_sgd(1e-200, 0.5, 1), 1e-5) == math.inf
    assert epsilon_of(Gaussian(1e-200), 1e-5) == math.inf
