"""The bound never closes a word that the best labelling names."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from privacy_core.redaction.candidates import Candidates
from privacy_core.redaction.chains import Potentials
from privacy_core.redaction.tokens import possible_transitions

LABELS = ("O", "B-A", "I-A", "E-A", "S-A", "B-B", "I-B", "E-B", "S-B")
FORBIDDEN = -1e4


def fields(seed: int, words: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores in which names are rare, and transitions of any size where one may follow."""
    chance = np.random.default_rng(seed)  # noqa: TID251 -- a test
    scores = chance.normal(size=(words, len(LABELS))).astype(np.float32)
    scores[:, 0] += 1.5
    transitions = possible_transitions(LABELS, FORBIDDEN)
    said = chance.normal(size=transitions.shape).astype(np.float32)
    return scores, np.where(transitions == 0, 1.5 * said, FORBIDDEN).astype(np.float32)


@pytest.mark.parametrize("seed", range(30))
def test_the_best_labelling_of_the_candidates_is_the_best_of_all(seed: int) -> None:
    scores, transitions = fields(seed, 25)
    potentials = Potentials(transitions)
    everything, _ = potentials.solve(scores, np.ones(25, dtype=bool))

    open_ = Candidates(LABELS, transitions).gains(scores) > 0

    assert open_[everything != 0].all()
    assert potentials.solve(scores, open_)[0].tolist() == everything.tolist()


def test_the_bound_is_at_least_what_any_name_with_the_word_gains() -> None:
    scores, transitions = fields(3, 5)
    gains = Candidates(LABELS, transitions).gains(scores)

    def value(path: tuple[int, ...]) -> float:
        whole = (0, *path, 0)
        steps = sum(float(transitions[a, b]) for a, b in itertools.pairwise(whole))
        return steps + sum(float(scores[k, label]) for k, label in enumerate(path))

    silent = value((0,) * 5)
    for begin, end in itertools.combinations(range(6), 2):
        for b in (1, 5):
            run = [b, *[b + 1] * (end - begin - 2), b + 2] if end - begin > 1 else [b + 3]
            path = (*[0] * begin, *run, *[0] * (5 - end))
            assert (gains[begin:end] >= value(path) - silent - 1e-4).all()


def test_most_words_of_a_text_without_names_are_no_candidates() -> None:
    scores, transitions = fields(5, 200)
    scores[:, 0] += 6

    assert (Candidates(LABELS, transitions).gains(scores) > 0).mean() < 0.1


def test_no_words_have_no_gains() -> None:
    _, transitions = fields(1, 1)

    assert not len(Candidates(LABELS, transitions).gains(np.zeros((0, 9), dtype=np.float32)))
