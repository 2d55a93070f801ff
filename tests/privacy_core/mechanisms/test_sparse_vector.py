"""The sparse vector by brute force: exact probabilities of every transcript on small streams.

Statistical tests fail by chance once in ten million runs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
import pytest
import scipy

from privacy_core.errors import InvalidParameter
from privacy_core.guarantee import NeighbouringRelation
from privacy_core.mechanisms import SparseVector, StreamClosed, guarantee_of
from privacy_runtime.testing import SeededEntropy

Follows = Callable[[Sequence[Hashable], Mapping[Hashable, float]], bool]
Transcript = tuple[bool, ...]
RHO = np.linspace(-160, 160, 32_001)


def transcripts(length: int, positives: int) -> list[Transcript]:
    """What a stream can say: it ends with the last positive answer, or with the questions."""
    found = set()
    for verdicts in itertools.product((False, True), repeat=length):
        ends = [i for i in range(length) if verdicts[: i + 1].count(True) == positives]
        found.add(verdicts[: ends[0] + 1] if ends else verdicts)
    return sorted(found)


def law_of(
    answers: Sequence[float], positives: int, on_threshold: float, on_queries: float
) -> dict[Transcript, float]:
    """P(transcript) = E over the threshold's noise of the product over the questions."""
    density = scipy.stats.laplace.pdf(RHO, 0, on_threshold)
    below = [scipy.stats.laplace.cdf(RHO, answer, on_queries) for answer in answers]

    def chance(said: Transcript) -> float:
        parts = [1 - b if above else b for b, above in zip(below, said, strict=False)]
        return float(scipy.integrate.trapezoid(density * np.prod(parts, axis=0), RHO))

    return {said: chance(said) for said in transcripts(len(answers), positives)}


def exact_law(mechanism: SparseVector, answers: Sequence[float]) -> dict[Transcript, float]:
    on_threshold, on_queries, _ = mechanism.scales
    return law_of(answers, mechanism.positives, float(on_threshold), float(on_queries))


def largest_loss(
    law: Callable[[Sequence[float]], dict[Transcript, float]],
    length: int,
    *,
    monotone: bool,
    heights: tuple[int, ...] = (-2, 0, 2),
) -> float:
    moves = (0, 1) if monotone else (-1, 1)
    losses = []
    for answers in itertools.product(heights, repeat=length):
        one = law(answers)
        for move in itertools.product(moves, repeat=length):
            other = law([a + m for a, m in zip(answers, move, strict=True)])
            losses += [abs(math.log(one[said] / other[said])) for said in one]
    return max(losses)


@pytest.mark.parametrize("monotone", [False, True])
@pytest.mark.parametrize("positives", [1, 2])
def test_no_transcript_is_more_than_e_to_the_epsilon_likelier(
    positives: int, monotone: bool
) -> None:
    mechanism = SparseVector(epsilon=1.0, sensitivity=1.0, positives=positives, monotone=monotone)

    loss = largest_loss(
        lambda answers: exact_law(mechanism, answers), 3, monotone=monotone, heights=(-3, 1)
    )

    assert 0.4 <= loss <= 1.0 + 1e-4


def loss_of_a_long_stream(
    length: int, positives: int, on_threshold: float, on_queries: float
) -> float:
    """`length` answers below, then the positives: negatives move up by 1, positives down by 1."""
    density = scipy.stats.laplace.pdf(RHO, 0, on_threshold)
    chances = []
    for low, high in ((20, -20), (21, -21)):
        below = scipy.stats.laplace.cdf(RHO, low, on_queries) ** length
        above = scipy.stats.laplace.sf(RHO, high, on_queries) ** positives
        chances.append(float(scipy.integrate.trapezoid(density * below * above, RHO)))
    return math.log(chances[0] / chances[1])


@pytest.mark.parametrize("positives", [1, 2, 3])
def test_a_long_stream_costs_its_epsilon_and_no_more(positives: int) -> None:
    mechanism = SparseVector(epsilon=1.0, sensitivity=1.0, positives=positives)
    on_threshold, on_queries, _ = (float(s or 0) for s in mechanism.scales)

    losses = [
        loss_of_a_long_stream(n, positives, on_threshold, on_queries) for n in (0, 10, 100, 1000)
    ]

    assert losses == pytest.approx(sorted(losses), rel=1e-6)
    assert losses[-1] == pytest.approx(1.0, rel=1e-3)
    assert max(losses) <= 1.0 + 1e-4


@pytest.mark.parametrize("positives", [2, 3])
def test_a_published_wrong_variant_is_caught(positives: int) -> None:
    """Noise on queries that forgets the number of positives (Lyu, Su & Li 2017, section 3)."""
    mechanism = SparseVector(epsilon=1.0, sensitivity=1.0, positives=positives)
    on_threshold, on_queries, _ = (float(s or 0) for s in mechanism.scales)

    loss = loss_of_a_long_stream(100, positives, on_threshold, on_queries / positives)

    assert loss > 1.5


@pytest.mark.parametrize("positives", [1, 2])
def test_verdicts_follow_the_exact_law(follows: Follows, positives: int) -> None:
    mechanism = SparseVector(epsilon=2.0, sensitivity=1.0, positives=positives)
    answers, entropy = (0.5, -1.0, 2.0), SeededEntropy(41)

    draws = [
        tuple(verdict.above for verdict in mechanism.release(answers, entropy)) for _ in range(5000)
    ]

    assert follows(draws, exact_law(mechanism, answers))


def test_numbers_carry_fresh_noise_of_their_own_scale() -> None:
    """Were the noise that decided reused, a positive answer would lean upwards."""
    mechanism = SparseVector(epsilon=3.0, sensitivity=1.0, numeric_share=0.5)
    entropy = SeededEntropy(42)

    numbers = [
        verdict.answer
        for _ in range(8000)
        for verdict in mechanism.release([0.0], entropy)
        if verdict.answer is not None
    ]

    scale = float(mechanism.scales[2] or 0)
    assert len(numbers) > 3000
    assert scipy.stats.kstest(numbers, scipy.stats.laplace(0, scale).cdf).pvalue > 1e-7


@pytest.mark.parametrize("share", [0.0, 0.3])
@pytest.mark.parametrize("monotone", [False, True])
def test_the_shares_add_to_epsilon_exactly(share: float, monotone: bool) -> None:
    mechanism = SparseVector(
        epsilon=0.9, sensitivity=2.0, positives=5, numeric_share=share, monotone=monotone
    )

    assert float(sum(mechanism.shares)) == 0.9
    assert all(s > 0 for s in mechanism.shares[:2])
    assert (mechanism.shares[2] > 0) == (share > 0)


def test_a_stream_closes_after_its_positives_and_says_so() -> None:
    stream = SparseVector(epsilon=50.0, sensitivity=1.0, positives=2).open(0.0, SeededEntropy(1))

    assert stream.ask(1e6).above
    assert not stream.ask(-1e6).above
    assert stream.ask(1e6).above
    assert stream.is_closed
    with pytest.raises(StreamClosed, match="2 positive answers; nothing was answered"):
        stream.ask(1e6)


def test_a_list_stops_where_the_stream_closes() -> None:
    mechanism = SparseVector(epsilon=50.0, sensitivity=1.0)

    assert len(mechanism.release([-1e6, 1e6, -1e6, 1e6], SeededEntropy(1))) == 2
    assert mechanism.release([], SeededEntropy(1)) == ()


def test_a_stream_does_not_print_its_threshold() -> None:
    stream = SparseVector(epsilon=1.0, sensitivity=1.0).open(123.456, SeededEntropy(1))

    assert repr(stream) == "Stream(1 of 1 positive answers left)"


@pytest.mark.parametrize("relation", list(NeighbouringRelation))
def test_the_event_prices_the_whole_stream(relation: NeighbouringRelation) -> None:
    mechanism = SparseVector(epsilon=0.7, sensitivity=1.0, positives=9, relation=relation)

    assert guarantee_of(mechanism).epsilon == pytest.approx(0.7)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(value: float) -> None:
    mechanism = SparseVector(epsilon=1.0, sensitivity=1.0)

    with pytest.raises(InvalidParameter):
        mechanism.open(value, SeededEntropy(0))
    with pytest.raises(InvalidParameter):
        mechanism.open(0.0, SeededEntropy(0)).ask(value)


@pytest.mark.parametrize(
    "bad",
    [
        {"epsilon": 0.0}, {"sensitivity": -1.0}, {"positives": 0}, {"positives": True},
        {"numeric_share": 1.0}, {"numeric_share": math.nan}, {"relation": "?"},
    ],
)  # fmt: skip
def test_a_parameter_outside_its_domain_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(InvalidParameter):
        SparseVector(**{"epsilon": 1.0, "sensitivity": 1.0, **bad})  # type: ignore[arg-type]
