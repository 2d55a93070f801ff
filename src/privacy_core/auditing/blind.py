"""A membership "attack" that never sees the model: if it succeeds, the test is void.

Members and non-members that differ in topic, date or length can be told apart by reading them. An
attack on a model then measures the split. So a plain classifier of words and character n-grams is
trained, by cross-validation, to tell the two apart; what it reaches is the level to beat.

Source: Das, Zhang & Tramer 2024 (arXiv:2406.16201), "Blind baselines beat membership inference
attacks for foundation models"; Meeus et al. 2024 (arXiv:2406.17975). The features are ours.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy

from privacy_core.auditing.chance import Chance
from privacy_core.auditing.rates import Interval, auc
from privacy_core.errors import InvalidParameter

Vector = npt.NDArray[np.float64]

VOID_ABOVE: Final = 0.55
"""A blind AUC that is certainly above this makes a membership test void."""

_BUCKETS: Final = 1 << 15
_GRAM: Final = 4
_PENALTY: Final = 1.0
_WORD: Final = re.compile(r"\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlindBaseline:
    """How well members are told from non-members without the model.

    `is_void`: certainly (by the interval) better than 0.55; whatever an attack on a model reaches
    on these texts says little about the model.
    """

    auc: Interval
    folds: int
    seed: int

    @property
    def is_void(self) -> bool:
        """The split gives membership away by itself."""
        return self.auc.low > VOID_ABOVE

    @property
    def reason(self) -> str:
        """Why, in a sentence."""
        if self.is_void:
            return (
                f"void: a classifier that never saw the model tells members from non-members with "
                f"AUC {self.auc}; the two differ in distribution, draw them at random from one pool"
            )
        return f"without the model: AUC {self.auc}"


def blind_baseline(
    members: Sequence[str],
    nonmembers: Sequence[str],
    *,
    seed: int | bytes = 0,
    folds: int = 5,
    confidence: float = 0.95,
) -> BlindBaseline:
    """Cross-validated AUC of logistic regression on words and character 4-grams.

    Features are hashed counts, log-scaled, of unit length. Each text is scored by a model that was
    not fitted on it; texts that occur twice stay in one fold, so a copy does not teach its answer.

    Args:
        members: texts that were trained on; at least `folds` different ones.
        nonmembers: texts that were not; likewise.
        seed: of the folds.
        folds: >= 2.
        confidence: of the interval.

    Raises:
        InvalidParameter: too few texts for the folds.
    """
    for name, texts in (("members", members), ("nonmembers", nonmembers)):
        if len(texts) < max(2, folds):
            raise InvalidParameter(name, found=len(texts), expected=f"at least {max(2, folds)}")
    if folds < 2:
        raise InvalidParameter("folds", found=folds, expected="a whole number >= 2")
    texts = [*members, *nonmembers]
    labels = np.array([1.0] * len(members) + [-1.0] * len(nonmembers))
    table, fold = _features(texts), _folds(texts, labels, folds, seed)
    scores = np.zeros(len(texts))
    for part in range(folds):
        tested = fold == part
        if not tested.any():
            continue
        weights = _fit(table[~tested], labels[~tested])
        found = table[tested] @ weights
        scores[tested] = found
    inside = labels > 0
    number = seed if isinstance(seed, int) else int.from_bytes(seed[:8], "little")
    return BlindBaseline(
        auc=auc(scores[inside], scores[~inside], confidence), folds=folds, seed=number
    )


def _tokens(text: str) -> Iterator[str]:
    lowered = text.lower()
    yield from (f"w:{word}" for word in _WORD.findall(lowered))
    yield from (f"c:{lowered[i : i + _GRAM]}" for i in range(max(1, len(lowered) - _GRAM + 1)))
    yield f"length:{len(text).bit_length()}"


def _features(texts: Sequence[str]) -> scipy.sparse.csr_matrix:
    values, columns, starts = [], [], [0]
    for text in texts:
        counts = Counter(zlib.crc32(token.encode()) % _BUCKETS for token in _tokens(text))
        weights = np.log1p(np.fromiter(counts.values(), dtype=np.float64, count=len(counts)))
        values.append(weights / np.linalg.norm(weights))
        columns.append(np.fromiter(counts.keys(), dtype=np.int64, count=len(counts)))
        starts.append(starts[-1] + len(counts))
    return scipy.sparse.csr_matrix(
        (np.concatenate(values), np.concatenate(columns), np.array(starts)),
        shape=(len(texts), _BUCKETS),
    )


def _folds(
    texts: Sequence[str], labels: Vector, folds: int, seed: int | bytes
) -> npt.NDArray[np.int64]:
    """The fold of each text: members and non-members spread evenly, copies together."""
    order = Chance(seed, purpose="auditing.blind").permutation(len(texts))
    seen: dict[str, int] = {}
    dealt = {1.0: 0, -1.0: 0}
    fold = np.zeros(len(texts), dtype=np.int64)
    for index in order:
        label = float(labels[index])
        if texts[index] not in seen:
            seen[texts[index]] = dealt[label] % folds
            dealt[label] += 1
        fold[index] = seen[texts[index]]
    return fold


def _fit(table: scipy.sparse.csr_matrix, labels: Vector) -> Vector:
    """Logistic regression with an L2 penalty and no intercept; classes weighted equally."""
    share = np.where(labels > 0, np.mean(labels > 0), np.mean(labels < 0))
    weight = 0.5 / np.maximum(share, 1e-12) / len(labels)
    strength = _PENALTY / len(labels)

    def objective(weights: Vector) -> tuple[float, Vector]:
        margins = labels * (table @ weights)
        value = float(np.sum(weight * np.logaddexp(0.0, -margins)))
        slope = -weight * labels * scipy.special.expit(-margins)
        return value + 0.5 * strength * float(weights @ weights), np.asarray(
            table.T @ slope + strength * weights
        )

    found = scipy.optimize.minimize(
        objective, np.zeros(table.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 100}
    )
    return np.asarray(found.x, dtype=np.float64)
