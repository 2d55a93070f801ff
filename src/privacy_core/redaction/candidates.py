"""Which words may be a part of a name, by a bound that costs less than solving for the labels.

Scores are differences from the labelling where everything is label 0 (no name). A run of words that
are one name then gains the sum of what its first, inner and last word say, transitions included:

    gain(i..j) = first(i) + inner(i+1) + ... + inner(j-1) + last(j),      alone(i) for one word

With C the running sum of `inner`, the largest gain of a run that holds word k is at most

    max over i <= k of (first(i) - C(i))  +  max over j >= k of (last(j) + C(j-1))

two running maxima for each kind of name. Where a transition depends on what comes before, its
largest value is taken, so this is an upper bound. A name in the best labelling gains something, or
leaving it out would be better; so where the bound is negative there is none. Leaving a name out
puts label 0 between its neighbours; where two names that touch gain more than that, the excess is
added to what their labels say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
_KINDS: Final = "BIES"


class Candidates:
    """The bound for one model.

    Args:
        labels: labels of words (see `tokens.encode`): `O` first, and of each kind of name four.
        transitions: scores of a label (row) before another (column).
    """

    def __init__(self, labels: Sequence[str], transitions: Floats) -> None:
        kinds = list(dict.fromkeys(label[2:] for label in labels if label != "O"))
        places = {label: k for k, label in enumerate(labels)}
        columns = np.array([[places[f"{how}-{kind}"] for kind in kinds] for how in _KINDS])
        gain = transitions.astype(np.float64) - transitions[0, 0]
        first, inner, last, alone = columns
        self._order = columns.ravel()
        self._count = len(kinds)
        before, after = [*last, *alone], [*first, *alone]
        excess = gain[np.ix_(before, after)] - gain[before, :1] - gain[:1, after]
        # Half of it is laid on either of the two labels that touch.
        on_last, on_alone = np.split(excess.max(axis=1).clip(min=0) / 2, 2)
        on_first, on_alone_too = np.split(excess.max(axis=0).clip(min=0) / 2, 2)
        bonus = [
            gain[0, first] + on_first,
            np.maximum(gain[first, inner], gain[inner, inner]),
            np.maximum(gain[first, last], gain[inner, last]) + gain[last, 0] + on_last,
            gain[0, alone] + gain[alone, 0] + on_alone + on_alone_too,
        ]
        self._bonus = np.concatenate(bonus).astype(np.float32)

    def gains(self, scores: Floats) -> NDArray[np.float64]:
        """The largest gain of a name that holds a word, or more: one number for each word.

        With only those words open where it is positive, the best labelling is the best of all.

        Args:
            scores: for each word and label, shape (words, labels).
        """
        if not len(scores):
            return np.zeros(0)
        said = scores.take(self._order, axis=1)
        said += self._bonus
        said -= scores[:, :1]
        n = self._count
        first, inner, last = said[:, :n], said[:, n : 2 * n], said[:, 2 * n : 3 * n]
        summed = inner.cumsum(axis=0, dtype=np.float64)
        begun = np.maximum.accumulate(first - summed, axis=0)
        begun += np.maximum.accumulate((last + summed - inner)[::-1], axis=0)[::-1]
        result: NDArray[np.float64] = np.maximum(begun.max(axis=1), said[:, 3 * n :].max(axis=1))
        return result
