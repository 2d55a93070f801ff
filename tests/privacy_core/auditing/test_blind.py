"""A classifier that never saw the model: silent on a random split, loud on a biased one."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from privacy_core.auditing import blind_baseline
from privacy_core.errors import InvalidParameter

seeded = np.random.default_rng  # noqa: TID251 -- scores of a test, the same every time


@pytest.fixture(scope="module")
def queries(shared_data: Path) -> list[tuple[str, str]]:
    """Real bank queries with their intents."""
    with (shared_data / "banking77" / "train.csv").open(newline="") as file:
        return [(row["text"], row["category"]) for row in csv.DictReader(file)]


def test_a_random_split_of_real_texts_is_not_told_apart(queries: list[tuple[str, str]]) -> None:
    order = seeded(1).permutation(len(queries))
    texts = [queries[i][0] for i in order[:800]]

    found = blind_baseline(texts[:400], texts[400:])

    assert not found.is_void
    assert abs(found.auc.estimate - 0.5) < 0.1


def test_a_split_by_topic_of_real_texts_is_void(queries: list[tuple[str, str]]) -> None:
    kinds = sorted({kind for _, kind in queries})
    first = [text for text, kind in queries if kind in kinds[:10]][:300]
    second = [text for text, kind in queries if kind in kinds[20:30]][:300]

    found = blind_baseline(first, second)

    assert found.is_void
    assert found.auc.low > 0.9
    assert "differ in distribution" in found.reason


def test_a_difference_in_length_alone_is_seen() -> None:
    generator = seeded(2)
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]

    def text(length: int) -> str:
        return " ".join(words[i] for i in generator.integers(0, len(words), length))

    found = blind_baseline([text(4) for _ in range(100)], [text(30) for _ in range(100)])

    assert found.is_void


def test_copies_do_not_teach_their_own_answer() -> None:
    """Each text five times, each label by chance: without care this would look perfect."""
    generator = seeded(3)
    texts = [" ".join(str(k) for k in generator.integers(0, 10**6, 6)) for _ in range(60)]
    found = blind_baseline(texts[:30] * 5, texts[30:] * 5)

    assert found.auc.estimate < 0.7


def test_it_is_the_same_for_the_same_seed() -> None:
    texts = [f"text number {k} of many" for k in range(60)]

    assert blind_baseline(texts[:30], texts[30:], seed=4) == blind_baseline(
        texts[:30], texts[30:], seed=4
    )


def test_too_few_texts_are_refused() -> None:
    with pytest.raises(InvalidParameter):
        blind_baseline(["a"] * 4, ["b"] * 10)
