"""Best labels and marginals of many short chains at once.

A chain is a run of words whose labels are open, between words that are settled to be label 0. All
chains of a text are solved side by side, from both ends in the same steps, so that the cost in
Python follows the longest one; one that is longer than `LONGEST` is solved in overlapping windows,
each word in the middle of its own. Probabilities are computed only where the best labelling says
something other than 0.

The best label of a word is the one with the largest max-marginal: the score of the best labelling
that has it, from the best way to reach the word from either end (Pearl 1988, section 5.2, for a
chain). Where two labellings score the same to the last digit, their labels may mix.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

LONGEST: Final = 28
_OVERLAP: Final = 6
# Factors are at least e^-80 a step: six steps stay far from the smallest double.
_RESCALED: Final = 6


class Potentials:
    """Transitions of a model, ready for use."""

    def __init__(self, transitions: Floats) -> None:
        log = transitions.astype(np.float32)
        # From the front and from the back, where what follows comes before.
        self._log = np.ascontiguousarray(np.stack([log, log.T], axis=2))  # (before, after, 2)
        exp = np.exp(np.maximum(log - log.max(), -40.0), dtype=np.float64)
        self._exp = np.stack([exp, exp.T])  # (2, before, after)

    def solve(
        self, scores: Floats, open_: NDArray[np.bool_], *, silent: bool = False
    ) -> tuple[Ints, Floats]:
        """Solve the chains of a text.

        Args:
            scores: for each word and label, shape (words, labels).
            open_: whether a word's label is open; the others have label 0.
            silent: how sure a chain is whose labels are all 0 is asked as well.

        Returns:
            The most likely labels (Viterbi), shape (words,), and the probability of each label at
            each word (forward-backward), shape (words, labels). A chain whose labels are all 0 has
            probability 1 for that, at no cost, unless `silent`.
        """
        best = np.zeros(len(scores), dtype=np.int64)
        marginals = np.zeros_like(scores)
        marginals[:, 0] = 1
        pieces = _pieces(open_)
        if not len(pieces):
            return best, marginals
        # Longest first: at each step the chains that go on are a slice from the front.
        lengths = pieces[:, 1] - pieces[:, 0]
        order = (-lengths).argsort(kind="stable")
        pieces, lengths = pieces[order], lengths[order]
        chains = _Chains(scores, pieces, lengths)
        labels = chains.best(self._log)
        best[chains.places[chains.taken]] = labels[chains.taken]
        speaks = (labels.max(axis=1) > 0) | silent  # 0 is the lowest label
        if speaks.any():
            chains = _Chains(scores, pieces[speaks], lengths[speaks])
            known = chains.marginals(self._exp)
            marginals[chains.places[chains.taken]] = known[chains.taken]
        return best, marginals


class _Chains:
    """Chains side by side, the longest first.

    Attributes:
        places: the word of each step of each chain, (chains, steps); 0 after its end.
        taken: which of them say what their word is.
    """

    def __init__(self, scores: Floats, pieces: Ints, lengths: Ints) -> None:
        self._lengths = lengths
        steps = np.arange(int(lengths[0]))
        self._inside = steps < lengths[:, None]
        self.places = np.where(self._inside, pieces[:, :1] + steps, 0)
        reached = (self.places >= pieces[:, 2:3]) & (self.places < pieces[:, 3:])
        self.taken = reached & self._inside
        # The step from the other end.
        self._mirror = np.where(self._inside, lengths[:, None] - 1 - steps, 0)
        self._rows = np.arange(len(lengths))[:, None]
        self._local = scores[self.places]  # (chains, steps, labels)
        self._going = np.searchsorted(-lengths, -steps, side="left").tolist()

    def best(self, log: Floats) -> Ints:
        """Most likely labels, (chains, steps); 0 after the end of a chain."""
        local = self._local
        count, width, labels = local.shape
        # (steps, labels, chains, ends): what is alike side by side, so that a step is two loops.
        values = np.empty((width, labels, count, 2), dtype=np.float32)
        values[..., 0] = local.transpose(1, 2, 0)
        values[..., 1] = local[self._rows, self._mirror].transpose(1, 2, 0)
        values[0] += log[0][:, None, :]
        wide = values.reshape(width, labels, 2 * count)
        into = np.tile(log, count)
        for t in range(1, width):
            n = 2 * self._going[t]
            wide[t, :, :n] += (wide[t - 1, :, None, :n] + into[:, :, :n]).max(axis=0)
        step, chain = np.nonzero(self._inside.T)
        front = values[step, :, chain, 0]
        back = values[self._mirror[chain, step], :, chain, 1]
        result = np.zeros((count, width), dtype=np.int64)
        result[chain, step] = (front + back - local[chain, step]).argmax(axis=1)
        return result

    def marginals(self, exp: NDArray[np.float64]) -> Floats:
        """Probabilities of labels, (chains, steps, labels); without meaning after the end."""
        local = self._local
        count, width, labels = local.shape
        top = local.max(axis=2, keepdims=True)
        # No factor below e^-40: what is that unlikely must not turn a whole chain into 0 / 0.
        weight = np.exp(np.maximum(local - top, -40.0), dtype=np.float64)
        values = np.ones((width, 2, count, labels))
        values[:, 0] = weight.transpose(1, 0, 2)
        values[:, 1] = weight[self._rows, self._mirror].transpose(1, 0, 2)
        values[0] *= exp[:, None, 0]
        for t in range(1, width):
            n = self._going[t]
            values[t, :, :n] *= values[t - 1, :, :n] @ exp
            if t % _RESCALED == 0:
                values[t, :, :n] /= values[t, :, :n].sum(axis=2, keepdims=True)
        front = values[:, 0].transpose(1, 0, 2)
        joint = front * values[self._mirror, 1, self._rows] / weight
        joint /= joint.sum(axis=2, keepdims=True)
        result: Floats = joint.astype(np.float32)
        return result


def _pieces(open_: NDArray[np.bool_]) -> Ints:
    """Rows of (start, end) of what is solved and (first, last) of what is taken from it."""
    edges = np.diff(open_, prepend=False, append=False).nonzero()[0]
    starts, ends = edges[::2], edges[1::2]
    pieces = np.stack([starts, ends, starts, ends], axis=1)
    if not len(pieces) or int((ends - starts).max()) <= LONGEST:
        return pieces
    step = LONGEST - 2 * _OVERLAP
    cut: list[tuple[int, int, int, int]] = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        if end - start <= LONGEST:
            cut.append((start, end, start, end))
            continue
        for first in range(start, end, step):
            last = min(end, first + step)
            cut.append((max(start, first - _OVERLAP), min(end, last + _OVERLAP), first, last))
    return np.array(cut, dtype=np.int64)
