"""Which examples take part in a step: drawn in secret, by the sampler the plan was priced for.

Amplification by sampling holds only if nobody can tell who was drawn, so every draw comes from a
`KeyStream`, never from torch or numpy. Each sampler states the event it is priced by
(`sampler.event(mechanism)`): the plan compares, and what ran is what was priced.

An index stands for one unit of privacy (an example, or a user). Indices come back sorted, as int64.

====================  =============================================  ==========================
kind                  a draw is                                      priced as
====================  =============================================  ==========================
`poisson`             every unit joins independently; may be empty   `PoissonSampled`
`truncated_poisson`   the same, cut at random to a cap               `TruncatedPoissonSampled`
`fixed_size`          a uniformly random subset of one size          `SampledWithoutReplacement`
`full_batch`          everyone                                       the mechanism itself
====================  =============================================  ==========================

Groups that take turns, for correlated noise: `training.cyclic_sampling`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import ClassVar, Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import betainc

from privacy_core.dp_events import (
    DpEvent,
    PoissonSampled,
    SampledWithoutReplacement,
    TruncatedPoissonSampled,
)
from privacy_core.errors import InvalidParameter
from privacy_runtime.keystream import KeyStream

Indices: TypeAlias = npt.NDArray[np.int64]

# Words compared at once: 2 MiB, so that a data set of 10^8 units needs no 800 MB of key stream.
_CHUNK: Final = 2**18


class Sampler(Protocol):
    """Draws the batch of one step, and says which event that is."""

    kind: ClassVar[str]
    dataset_size: int

    @property
    def expected_batch_size(self) -> float:
        """The mean number of units in a draw. Public: the normaliser of the clipped sum."""
        ...

    def draw(self) -> Indices:
        """Return the units of the next step: sorted, distinct, in `range(dataset_size)`."""
        ...

    def event(self, mechanism: DpEvent) -> DpEvent:
        """Return the event of applying `mechanism` to one draw."""
        ...


class PoissonSampler:
    """Every unit joins a batch independently with the same probability. A batch may be empty.

    Guarantee: the probability used is the largest multiple of 2^-64 that is at most
    `sampling_probability`, exactly: 64-bit words are compared with a whole number, no rounding.
    Less sampling is never less private, so the priced event is an upper bound.

    Args:
        dataset_size: number of units, >= 1.
        sampling_probability: in (0, 1], and at least 2^-64.
        stream: where the draws come from.

    Raises:
        InvalidParameter: an argument is outside its domain.

    Source: Abadi et al. 2016 (arXiv:1607.00133), section 3.1; Mironov et al. 2019
    (arXiv:1908.10530), section 3.
    """

    kind: ClassVar[str] = "poisson"

    def __init__(self, dataset_size: int, sampling_probability: float, stream: KeyStream) -> None:
        _require_count("dataset_size", dataset_size, most=None)
        self.dataset_size = dataset_size
        self.sampling_probability = float(sampling_probability)
        self._threshold = _inclusion_threshold(sampling_probability)
        self._stream = stream

    @property
    def expected_batch_size(self) -> float:
        """`dataset_size * sampling_probability`."""
        return self.dataset_size * self.sampling_probability

    def draw(self) -> Indices:
        """Return the units that joined this step; possibly none."""
        return _bernoulli_indices(self.dataset_size, self._threshold, self._stream)

    def event(self, mechanism: DpEvent) -> DpEvent:
        """Return `PoissonSampled(sampling_probability, mechanism)`."""
        return PoissonSampled(self.sampling_probability, mechanism)


class TruncatedPoissonSampler:
    """A Poisson batch, cut to a uniformly random subset when it is larger than a cap.

    Args:
        dataset_size: number of units, >= 1.
        sampling_probability: before the cut, in (0, 1], and at least 2^-64.
        truncated_batch_size: the cap, 1 <= cap <= dataset_size.
        stream: where the draws come from.

    Raises:
        InvalidParameter: an argument is outside its domain.

    Source: Chua et al. 2024, "Scalable DP-SGD" (arXiv:2411.04205), section 3.
    """

    kind: ClassVar[str] = "truncated_poisson"

    def __init__(
        self,
        dataset_size: int,
        sampling_probability: float,
        truncated_batch_size: int,
        stream: KeyStream,
    ) -> None:
        _require_count("dataset_size", dataset_size, most=None)
        _require_count("truncated_batch_size", truncated_batch_size, most=dataset_size)
        self.dataset_size = dataset_size
        self.sampling_probability = float(sampling_probability)
        self.truncated_batch_size = truncated_batch_size
        self._threshold = _inclusion_threshold(sampling_probability)
        self._stream = stream

    @property
    def expected_batch_size(self) -> float:
        """E[min(Binomial(dataset_size, sampling_probability), truncated_batch_size)]."""
        # E[min(X, cap)] = sum over j < cap of P(X > j), and P(X > j) = I_q(j + 1, n - j).
        sizes = np.arange(self.truncated_batch_size, dtype=np.float64)
        tails = betainc(sizes + 1, self.dataset_size - sizes, self.sampling_probability)
        return float(np.sum(tails))

    def draw(self) -> Indices:
        """Return the units that joined this step; possibly none, never more than the cap."""
        joined = _bernoulli_indices(self.dataset_size, self._threshold, self._stream)
        if joined.size <= self.truncated_batch_size:
            return joined
        return joined[_random_subset(joined.size, self.truncated_batch_size, self._stream)]

    def event(self, mechanism: DpEvent) -> DpEvent:
        """Return `TruncatedPoissonSampled` with this sampler's three numbers."""
        return TruncatedPoissonSampled(
            self.dataset_size, self.sampling_probability, self.truncated_batch_size, mechanism
        )


class FixedSizeSampler:
    """A uniformly random subset of one size, without replacement, fresh for every step.

    Args:
        dataset_size: number of units, >= 1.
        sample_size: 1 <= sample_size <= dataset_size.
        stream: where the draws come from.

    Raises:
        InvalidParameter: an argument is outside its domain.

    Source: Wang, Balle and Kasiviswanathan 2019 (arXiv:1808.00087), section 3.
    """

    kind: ClassVar[str] = "fixed_size"

    def __init__(self, dataset_size: int, sample_size: int, stream: KeyStream) -> None:
        _require_count("dataset_size", dataset_size, most=None)
        _require_count("sample_size", sample_size, most=dataset_size)
        self.dataset_size = dataset_size
        self.sample_size = sample_size
        self._stream = stream

    @property
    def expected_batch_size(self) -> float:
        """`sample_size`: every draw has it."""
        return float(self.sample_size)

    def draw(self) -> Indices:
        """Return exactly `sample_size` units."""
        return _random_subset(self.dataset_size, self.sample_size, self._stream)

    def event(self, mechanism: DpEvent) -> DpEvent:
        """Return `SampledWithoutReplacement(dataset_size, sample_size, mechanism)`."""
        return SampledWithoutReplacement(self.dataset_size, self.sample_size, mechanism)


class FullBatchSampler:
    """Everyone, at every step: no amplification, and no chance involved.

    Raises:
        InvalidParameter: `dataset_size` is not a whole number >= 1.
    """

    kind: ClassVar[str] = "full_batch"

    def __init__(self, dataset_size: int) -> None:
        _require_count("dataset_size", dataset_size, most=None)
        self.dataset_size = dataset_size

    @property
    def expected_batch_size(self) -> float:
        """`dataset_size`."""
        return float(self.dataset_size)

    def draw(self) -> Indices:
        """Return all units."""
        return np.arange(self.dataset_size, dtype=np.int64)

    def event(self, mechanism: DpEvent) -> DpEvent:
        """Return `mechanism` unchanged: nothing was sampled."""
        return mechanism


def make_sampler(
    kind: str,
    *,
    dataset_size: int,
    sampling_probability: float,
    stream: KeyStream,
    truncated_batch_size: int | None = None,
) -> Sampler:
    """Build the sampler a plan names.

    =====================================  =========================================
    asked for                              answer
    =====================================  =========================================
    an unknown kind                        refused, naming the known kinds
    a cap with another kind, or no cap     refused: it would change what is priced
    `fixed_size`, n * q not whole          refused, naming the nearest probabilities
    `full_batch`, probability below 1      refused
    =====================================  =========================================

    Args:
        kind: "poisson", "truncated_poisson", "fixed_size" or "full_batch".
        dataset_size: number of units, >= 1.
        sampling_probability: in (0, 1]; for "fixed_size" the sample size over `dataset_size`.
        stream: where the draws come from.
        truncated_batch_size: the cap of "truncated_poisson", and only of that.

    Raises:
        InvalidParameter: as in the table, or an argument is outside its domain.
    """
    build = _BUILDERS.get(kind)
    if build is None:
        raise InvalidParameter(
            "kind", found=kind, expected=f"one of {', '.join(sorted(_BUILDERS))}"
        )
    if truncated_batch_size is not None and kind != TruncatedPoissonSampler.kind:
        raise InvalidParameter(
            "truncated_batch_size",
            found=truncated_batch_size,
            expected=f"none with a {kind} sampler; only truncated_poisson has a cap",
        )
    return build(dataset_size, sampling_probability, stream, truncated_batch_size)


def _build_poisson(size: int, probability: float, stream: KeyStream, _: int | None) -> Sampler:
    return PoissonSampler(size, probability, stream)


def _build_truncated(size: int, probability: float, stream: KeyStream, cap: int | None) -> Sampler:
    if cap is None:
        raise InvalidParameter(
            "truncated_batch_size",
            found=None,
            expected="a whole number >= 1 with truncated_poisson",
        )
    return TruncatedPoissonSampler(size, probability, cap, stream)


def _build_fixed(size: int, probability: float, stream: KeyStream, _: int | None) -> Sampler:
    _require_count("dataset_size", size, most=None)
    _require_probability(probability)
    wanted = size * probability
    sample_size = round(wanted)
    # A probability computed as sample_size / dataset_size comes back within a few roundings.
    if sample_size < 1 or abs(wanted - sample_size) > 1e-9 * wanted:
        near = sorted({min(max(int(wanted) + step, 1), size) for step in (0, 1)})
        raise InvalidParameter(
            "sampling_probability",
            found=probability,
            expected="a whole number of units, such as "
            + " or ".join(f"{count / size!r} ({count} of {size})" for count in near),
        )
    return FixedSizeSampler(size, sample_size, stream)


def _build_full(size: int, probability: float, _: KeyStream, __: int | None) -> Sampler:
    if probability != 1:
        raise InvalidParameter(
            "sampling_probability", found=probability, expected="1 with a full_batch sampler"
        )
    return FullBatchSampler(size)


_Builder: TypeAlias = Callable[[int, float, KeyStream, int | None], Sampler]

_BUILDERS: Final[Mapping[str, _Builder]] = {
    PoissonSampler.kind: _build_poisson,
    TruncatedPoissonSampler.kind: _build_truncated,
    FixedSizeSampler.kind: _build_fixed,
    FullBatchSampler.kind: _build_full,
}


def _inclusion_threshold(sampling_probability: float) -> int:
    """Return floor(q * 2^64) exactly: a unit joins when its word is below it."""
    _require_probability(sampling_probability)
    threshold = int(Fraction(sampling_probability) * 2**64)
    if threshold == 0:
        raise InvalidParameter(
            "sampling_probability", found=sampling_probability, expected="at least 2^-64"
        )
    return threshold


def _bernoulli_indices(dataset_size: int, threshold: int, stream: KeyStream) -> Indices:
    """Return the indices whose own 64-bit word is below `threshold` (at most 2^64)."""
    if threshold == 2**64:
        return np.arange(dataset_size, dtype=np.int64)
    joined = [
        np.flatnonzero(stream.words(min(_CHUNK, dataset_size - start)) < np.uint64(threshold))
        + start
        for start in range(0, dataset_size, _CHUNK)
    ]
    return np.concatenate(joined).astype(np.int64, copy=False)


def _random_subset(population: int, size: int, stream: KeyStream) -> Indices:
    """Return `size` of `range(population)`, every subset equally likely, sorted.

    The `size` smallest of independent 64-bit keys. When the largest key taken equals the smallest
    key left, who is in would depend on position, so the keys are drawn again: exact, not nearly.
    """
    if size == population:
        return np.arange(population, dtype=np.int64)
    while True:
        keys = stream.words(population)
        order = np.argpartition(keys, size)
        taken, left = order[:size], order[size:]
        if keys[taken].max() < keys[left].min():
            return np.sort(taken).astype(np.int64, copy=False)


def _require_probability(value: float) -> None:
    if not 0 < value <= 1:
        raise InvalidParameter("sampling_probability", found=value, expected="a number in (0, 1]")


def _require_count(name: str, value: int, *, most: int | None) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidParameter(name, found=value, expected="a whole number >= 1")
    if most is not None and value > most:
        raise InvalidParameter(name, found=value, expected=f"at most {most}")
