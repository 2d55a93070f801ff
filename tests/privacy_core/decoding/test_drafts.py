"""Drafts change how many round trips an answer takes, and nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from privacy_core.decoding import DecodingTerms, Released, release
from privacy_core.decoding.terms import GRID
from privacy_core.errors import InvalidParameter
from privacy_runtime.testing import SeededEntropy

Follows = Callable[[Sequence[int], Sequence[float]], bool]
TERMS = DecodingTerms(slots=2, clip=1.5, temperature=1.0, max_tokens=3)
seeded = np.random.default_rng  # noqa: TID251 -- a fixed language
IDS = (11, 12, 13)
END = 13


class Toy:
    """A language of three tokens whose logits and records depend on the whole prefix."""

    def public(self, prefix: Sequence[int]) -> np.ndarray:
        return seeded([1, *prefix]).normal(size=3).astype(np.float32)

    def sums(self, prefix: Sequence[int]) -> np.ndarray:
        return seeded([2, *prefix]).integers(-2 * GRID, 2 * GRID, 3, np.int32)

    def greedy(self, prefix: Sequence[int], length: int) -> list[int]:
        draft: list[int] = []
        for _ in range(length):
            draft.append(IDS[int(self.public([*prefix, *draft]).argmax())])
        return draft

    def answer(self, length: int, entropy: SeededEntropy) -> tuple[tuple[int, ...], int]:
        """All tokens, and how many round trips it took, with drafts of this length."""
        released: list[int] = []
        trips = 0
        while len(released) < TERMS.max_tokens:
            draft = self.greedy(released, length)
            prefixes = [[*released, *draft[:i]] for i in range(length + 1)]
            given = release(
                draft,
                [IDS] * (length + 1),
                [self.public(p) for p in prefixes],
                [self.sums(p) for p in prefixes],
                TERMS,
                entropy,
                {END},
                left=TERMS.max_tokens - len(released),
            )
            released += given.tokens
            trips += 1
            if given.ended:
                break
        return tuple(released), trips


def answers() -> list[tuple[int, ...]]:
    """Every answer there is: three tokens, or fewer with the end token as the last."""
    return [
        answer
        for size in (1, 2, 3)
        for answer in itertools.product(IDS, repeat=size)
        if END not in answer[:-1] and (size == 3 or answer[-1] == END)
    ]


def law_of_answers(law: Any) -> list[float]:
    """By enumeration, token by token."""
    toy, found = Toy(), []
    for answer in answers():
        p = 1.0
        for i, token in enumerate(answer):
            p *= law(toy.public(answer[:i]), toy.sums(answer[:i]), TERMS)[IDS.index(token)]
        found.append(p)
    return found


def test_the_enumerated_law_is_a_law(law: Any) -> None:
    assert sum(law_of_answers(law)) == pytest.approx(1)


@pytest.mark.parametrize("length", [0, 1, 2, 4])
def test_answers_follow_the_law_of_drawing_token_by_token(
    follows: Follows, law: Any, length: int
) -> None:
    every, toy, entropy = answers(), Toy(), SeededEntropy(length)

    draws = [every.index(toy.answer(length, entropy)[0]) for _ in range(600)]

    assert follows(draws, law_of_answers(law))


def test_with_the_same_chance_the_answer_is_the_same() -> None:
    """Each token takes fresh bytes, so drafts of any length can be held against none."""
    toy, saved = Toy(), 0
    for seed in range(60):
        plain, trips = toy.answer(0, SeededEntropy(seed))
        for length in (1, 3):
            drafted, fewer = toy.answer(length, SeededEntropy(seed))
            assert drafted == plain
            saved += trips - fewer
    assert saved > 40


def given(draft: Sequence[int], **changes: Any) -> dict[str, Any]:
    """Positions at each of which the draft's own token is all but certain."""
    size = len(draft) + 1
    publics = []
    for token in [*draft, IDS[0]]:
        logits = np.full(3, -60.0, np.float32)
        logits[IDS.index(token)] = 60.0
        publics.append(logits)
    return {
        "draft": draft,
        "candidates": [IDS] * size,
        "publics": publics,
        "sums": [np.zeros(3, np.int32)] * size,
        "terms": TERMS,
        "entropy": SeededEntropy(3),
        "end_tokens": {END},
        **changes,
    }


def test_a_draft_that_is_drawn_is_released_with_one_token_more() -> None:
    assert release(**given([12, 12])) == Released((12, 12, 11), ended=False)


def test_the_first_token_that_differs_is_the_last_one_released() -> None:
    values = given([12, 12])
    values["publics"][0] = values["publics"][2]

    assert release(**values) == Released((11,), ended=False)


def test_an_end_token_is_released_and_ends_even_inside_a_draft() -> None:
    assert release(**given([13, 12])) == Released((13,), ended=True)


@pytest.mark.parametrize(("left", "expected"), [(1, (12,)), (2, (12, 12)), (None, (12, 12, 12))])
def test_no_more_tokens_are_drawn_than_are_left(
    left: int | None, expected: tuple[int, ...]
) -> None:
    """The terms allow three; the draft would give five."""
    assert release(**given([12] * 4, left=left)) == Released(expected, ended=False)


class NoDraw:
    """Chance that must not be taken."""

    def token_bytes(self, size_bytes: int) -> bytes:
        raise AssertionError(size_bytes)


@pytest.mark.parametrize(
    "changes",
    [
        {"candidates": [IDS] * 2},
        {"publics": [np.zeros(3, np.float32)] * 4},
        {"sums": [np.zeros(3, np.int32)] * 2},
        {"sums": [np.zeros(3, np.int32)] * 2 + [np.zeros(2, np.int32)]},
        {"candidates": [IDS, IDS, ()]},
        {"left": 0},
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_draw(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter):
        release(**given([12, 12], entropy=NoDraw(), **changes))
