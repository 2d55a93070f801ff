"""Dynamic programming against enumeration of every labelling."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from privacy_core.redaction import chains
from privacy_core.redaction.chains import LONGEST, Potentials


def brute_force(scores: np.ndarray, transitions: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Best labels and marginals of one chain between two words of label 0, by enumeration."""
    count, labels = scores.shape
    values: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(labels), repeat=count):
        value = sum(float(scores[t, y]) for t, y in enumerate(path))
        whole = (0, *path, 0)
        value += sum(float(transitions[a, b]) for a, b in itertools.pairwise(whole))
        values[path] = value
    best = max(values, key=lambda path: values[path])
    marginals = np.zeros_like(scores, dtype=float)
    total = sum(np.exp(v) for v in values.values())
    for path, value in values.items():
        for t, y in enumerate(path):
            marginals[t, y] += np.exp(value) / total
    return list(best), marginals


@pytest.mark.parametrize("length", [1, 2, 5])
def test_one_chain_is_what_enumeration_says(length: int) -> None:
    chance = np.random.default_rng(length)  # noqa: TID251 -- a test
    scores = chance.normal(size=(length, 4)).astype(np.float32)
    transitions = chance.normal(size=(4, 4)).astype(np.float32)

    best, marginals = Potentials(transitions).solve(scores, np.ones(length, dtype=bool))

    expected, probabilities = brute_force(scores, transitions)
    assert best.tolist() == expected
    if any(expected):
        np.testing.assert_allclose(marginals, probabilities, atol=1e-5)
    else:
        assert (marginals[:, 0] == 1).all()


def test_chains_of_different_lengths_do_not_disturb_each_other() -> None:
    chance = np.random.default_rng(3)  # noqa: TID251 -- a test
    scores = chance.normal(size=(12, 3)).astype(np.float32)
    transitions = chance.normal(size=(3, 3)).astype(np.float32)
    open_ = np.array([1, 0, 1, 1, 1, 0, 0, 1, 1, 0, 0, 1], dtype=bool)

    best, marginals = Potentials(transitions).solve(scores, open_)

    for start, end in [(0, 1), (2, 5), (7, 9), (11, 12)]:
        expected, probabilities = brute_force(scores[start:end], transitions)
        assert best[start:end].tolist() == expected
        if any(expected):
            np.testing.assert_allclose(marginals[start:end], probabilities, atol=1e-5)
    assert best.any()
    assert best[~open_].sum() == 0
    assert (marginals[~open_, 0] == 1).all()


def test_a_chain_in_windows_is_the_chain_in_one_where_influence_is_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chance = np.random.default_rng(5)  # noqa: TID251 -- a test
    count = 5 * LONGEST
    scores = 2 * chance.normal(size=(count, 4)).astype(np.float32)
    transitions = chance.normal(size=(4, 4)).astype(np.float32)
    potentials = Potentials(transitions)

    best, marginals = potentials.solve(scores, np.ones(count, dtype=bool))

    monkeypatch.setattr(chains, "LONGEST", count)
    whole, probabilities = potentials.solve(scores, np.ones(count, dtype=bool))
    assert (best == whole).mean() > 0.99
    np.testing.assert_allclose(marginals, probabilities, atol=0.02)


def test_scores_far_apart_stay_probabilities() -> None:
    scores = np.array([[0, 500, -500], [-900, 0, 900]], dtype=np.float32)
    transitions = np.array([[0, -30, 0], [-30, 0, -30], [0, 0, -30]], dtype=np.float32)

    _, marginals = Potentials(transitions).solve(scores, np.ones(2, dtype=bool))

    assert np.isfinite(marginals).all()
    np.testing.assert_allclose(marginals.sum(axis=1), 1, atol=1e-5)


def test_a_silent_chain_says_how_sure_it_is_when_asked() -> None:
    scores = np.array([[1, 0, 0.2], [1.2, 0.3, 0]], dtype=np.float32)
    transitions = np.zeros((3, 3), dtype=np.float32)

    best, marginals = Potentials(transitions).solve(scores, np.ones(2, dtype=bool), silent=True)

    assert best.tolist() == [0, 0]
    np.testing.assert_allclose(marginals, brute_force(scores, transitions)[1], atol=1e-5)


def test_nothing_open_is_nothing_done() -> None:
    best, marginals = Potentials(np.zeros((2, 2), dtype=np.float32)).solve(
        np.zeros((3, 2), dtype=np.float32), np.zeros(3, dtype=bool)
    )

    assert best.tolist() == [0, 0, 0]
    assert marginals[:, 0].tolist() == [1, 1, 1]
