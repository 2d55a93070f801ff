"""Scores against their definitions, and all of them the same way round."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest
from scipy import stats

from privacy_core.auditing import auc, scores
from privacy_core.errors import InvalidParameter

Generator = np.random.Generator  # noqa: TID251 -- only its name
seeded = np.random.default_rng  # noqa: TID251 -- scores of a test, the same every time


@pytest.fixture
def generator() -> Generator:
    return seeded(7)


def test_by_hand() -> None:
    rows = [np.array([-1.0, -2.0, -3.0, -6.0, -8.0]), np.array([-1.0])]

    assert scores.loss(rows) == pytest.approx([-4.0, -1.0])
    assert scores.zlib_ratio(rows, np.array([10.0, 4.0])) == pytest.approx([-2.0, -0.25])
    assert scores.min_k(rows, 0.4) == pytest.approx([-7.0, -1.0])
    assert scores.min_k(rows, 0.01) == pytest.approx([-8.0, -1.0])
    assert scores.reference_ratio(np.array([-4.0]), np.array([-5.0])) == pytest.approx([1.0])


def test_min_k_plus_plus_by_hand() -> None:
    row, mean, deviation = np.array([-1.0, -4.0]), np.array([-2.0, -2.0]), np.array([0.5, 1.0])

    assert scores.min_k_plus_plus([row], [mean], [deviation], 1.0) == pytest.approx([0.0])
    assert scores.min_k_plus_plus([row], [mean], [deviation], 0.5) == pytest.approx([-2.0])


def test_a_certain_model_gives_a_finite_score() -> None:
    zero = np.zeros(3)

    assert np.all(np.isfinite(scores.min_k_plus_plus([zero], [zero], [zero])))


def test_zlib_sizes_are_bytes() -> None:
    texts = ["aaaaaaaaaaaaaaaaaaaa", "ä"]

    assert scores.zlib_sizes(texts).tolist() == [len(zlib.compress(t.encode())) for t in texts]


def test_rmia_is_the_share_of_population_beaten_by_definition(
    generator: Generator,
) -> None:
    target, population = -generator.random(6), -generator.random(40)
    references, others = -generator.random((3, 6)), -generator.random((3, 40))
    a, gamma = 0.3, 1.2

    def ratio(value: float, column: np.ndarray) -> float:
        outside = np.mean(np.exp(column))
        return math.exp(value) / (((1 + a) * outside + (1 - a)) / 2)

    expected = [
        np.mean(
            [
                ratio(x, references[:, i]) >= gamma * ratio(z, others[:, j]) - 1e-12
                for j, z in enumerate(population)
            ]
        )
        for i, x in enumerate(target)
    ]
    found = scores.rmia(target, population, references, others, offline_a=a, gamma=gamma)

    assert found == pytest.approx(expected)


def test_online_lira_is_the_ratio_of_fitted_densities(generator: Generator) -> None:
    target, inside, outside = (
        generator.normal(size=4),
        generator.normal(size=(6, 4)) + 1,
        generator.normal(size=(5, 4)),
    )
    expected = stats.norm.logpdf(target, inside.mean(0), inside.std(0, ddof=1)) - stats.norm.logpdf(
        target, outside.mean(0), outside.std(0, ddof=1)
    )

    found = scores.lira_online(target, inside, outside, shared_variance=False)

    assert found == pytest.approx(expected)


def test_few_shadow_models_share_one_variance(generator: Generator) -> None:
    target, outside = generator.normal(size=4), generator.normal(size=(3, 4))
    pooled = math.sqrt(np.mean(outside.var(0, ddof=1)))

    found = scores.lira_offline(target, outside)

    assert found == pytest.approx((target - outside.mean(0)) / pooled)
    assert found != pytest.approx(scores.lira_offline(target, outside, shared_variance=False))


def test_a_missing_shadow_model_is_left_out_of_that_text_only() -> None:
    target = np.zeros(2)
    outside = np.array([[1.0, 5.0], [3.0, math.nan], [5.0, 7.0]])

    found = scores.lira_offline(target, outside, shared_variance=False)

    assert found == pytest.approx([-3 / 2, -6 / math.sqrt(2)])


@pytest.mark.parametrize(
    "score", ["loss", "zlib", "min_k", "min_k++", "reference", "rmia", "on", "off"]
)
def test_every_score_is_higher_for_members(score: str, generator: Generator) -> None:
    """A model that gives members 0.5 nats a token more; the texts themselves differ by 1."""
    n, length = 300, 20
    hard = generator.normal(size=(2 * n, 1)) - 4
    gain = np.concatenate([np.full(n, 0.5), np.zeros(n)])[:, None]
    noise = 0.3 * generator.normal(size=(2 * n, length))
    rows = list(hard + gain + noise)
    target = scores.loss(rows)
    shadows = hard.T + 0.05 * generator.normal(size=(6, 2 * n))
    flat = np.full(length, -4.0)
    found = {
        "loss": lambda: target,
        "zlib": lambda: scores.zlib_ratio(rows, np.full(2 * n, 80.0)),
        "min_k": lambda: scores.min_k(rows),
        "min_k++": lambda: scores.min_k_plus_plus(
            rows, [flat] * (2 * n), [np.ones(length)] * (2 * n)
        ),
        "reference": lambda: scores.reference_ratio(target, hard[:, 0]),
        "rmia": lambda: scores.rmia(target, target[n:], shadows, shadows[:, n:], offline_a=1.0),
        "on": lambda: scores.lira_online(target, shadows + 0.5, shadows),
        "off": lambda: scores.lira_offline(target, shadows),
    }[score]()
    interval = auc(found[:n], found[n:])

    assert interval.low > (0.95 if score in {"reference", "rmia", "on", "off"} else 0.55)


@pytest.mark.parametrize(
    "call",
    [
        lambda: scores.loss([np.array([])]),
        lambda: scores.loss([np.array([-math.inf])]),
        lambda: scores.min_k([np.zeros(3)], 0.0),
        lambda: scores.zlib_ratio([np.zeros(3)], np.array([0.0])),
        lambda: scores.reference_ratio(np.zeros(3), np.zeros(2)),
        lambda: scores.rmia(np.zeros(3), np.zeros(0), np.zeros((1, 3)), np.zeros((1, 0))),
        lambda: scores.lira_offline(np.zeros(3), np.zeros((1, 3))),
        lambda: scores.lira_online(np.zeros(2), np.array([[1.0, math.nan]] * 2), np.zeros((2, 2))),
    ],
)
def test_what_has_no_score_is_refused(call: object) -> None:
    with pytest.raises(InvalidParameter):
        call()  # type: ignore[operator]
