"""How the score of an auditor who sees every step is distributed, for canaries in and out.

Under Poisson sampling with rate q and noise sigma, each step shows an auditor x ~ N(1, sigma^2)
with probability q and x ~ N(0, sigma^2) otherwise, for a canary that is in; always the latter for
one that is out. A run's score is the sum over its steps, so its two laws follow without playing it:

- likelihood ratio: the law of one step's log ratio on a lattice, its power by Fourier transform.
  What is rounded off has a variance of at most a thousandth of that of the middle of the law.
- plain sum: a binomial number of ones and one Gaussian. Exact. Where everybody is drawn (q = 1) the
  log ratio is a rising function of it, and ranks canaries alike.

An audit of any number of steps is then simulated by drawing scores: see `ceilings`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy

from privacy_core.accounting.dominating_pairs import MixturePair
from privacy_core.auditing.chance import Chance
from privacy_core.errors import InvalidParameter

Vector = npt.NDArray[np.float64]
Coins = npt.NDArray[np.bool_]

STEPS_MOST: Final = 10_000_000
_CELLS_A_DEVIATION: Final = 10
_IQR_TO_STD: Final = 1.349
_TAIL: Final = 1e-9
"""Of a step, times their number: losses beyond it are counted at its edge."""
_REACH: Final = 12.0
"""Standard deviations of the sum on each side of its mean, to begin with."""
_EDGE_MASS: Final = 1e-6
_LENGTH_MAX: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class WhiteBox:
    """A run of DP-SGD with Poisson sampling, as an auditor who sees every noisy sum meets it.

    Args:
        noise_multiplier: sigma.
        sample_rate: q.
        steps: T.
        epsilon: the accountant's price of the run, at the delta of the audit; it is only quoted.
        likelihood_ratio: score by the likelihood ratio of each step; False: by the plain sum.
    """

    noise_multiplier: float
    sample_rate: float
    steps: int
    epsilon: float
    likelihood_ratio: bool = True

    def __post_init__(self) -> None:
        faults = (
            ("noise_multiplier", 1e-3 <= self.noise_multiplier <= 1e6, "in [0.001, 1e6]"),
            ("sample_rate", 0 < self.sample_rate <= 1, "in (0, 1]"),
            ("steps", 1 <= self.steps <= STEPS_MOST, f"a whole number from 1 to {STEPS_MOST}"),
        )
        for name, is_fine, expected in faults:
            if not is_fine:
                raise InvalidParameter(name, found=getattr(self, name), expected=expected)


@dataclass(frozen=True, slots=True, eq=False)
class ScoreLaws:
    """The scores of canaries that are in and of those that are out, ready to draw from.

    `values` are possible scores; `inside` and `outside` are distribution functions at them.
    """

    values: Vector
    inside: Vector
    outside: Vector

    def draw(self, included: Coins, chance: Chance) -> Vector:
        """One score a canary."""
        uniforms = chance.uniforms(len(included))
        places = np.where(
            included,
            np.searchsorted(self.inside, uniforms),
            np.searchsorted(self.outside, uniforms),
        )
        return self.values[np.minimum(places, len(self.values) - 1)]


@dataclass(frozen=True, slots=True)
class SumLaws:
    """The same for the plain sum of projections."""

    run: WhiteBox

    def draw(self, included: Coins, chance: Chance) -> Vector:
        """One score a canary."""
        run, count = self.run, len(included)
        drawn = scipy.special.bdtrik(chance.uniforms(count), run.steps, run.sample_rate)
        noise = run.noise_multiplier * math.sqrt(run.steps) * chance.normals(count)
        found: Vector = np.where(included, np.maximum(np.ceil(drawn), 0.0), 0.0) + noise
        return found


def score_laws(run: WhiteBox) -> ScoreLaws | SumLaws:
    """The laws of a run's scores.

    Raises:
        InvalidParameter: the log ratios span too much for a lattice: the run hides nothing, and
            its ceiling is that of an epsilon of infinity.
    """
    if not run.likelihood_ratio or run.sample_rate == 1:
        return SumLaws(run)
    pair = MixturePair(run.noise_multiplier, (1.0,), (run.sample_rate,))
    step, low, high = _lattice(pair, run)
    cells = np.arange(math.floor(low / step) - 1, math.ceil(high / step) + 2)
    edges = (np.append(cells, cells[-1] + 1) - 0.5) * step
    masses = pair.masses(edges)
    laws = []
    for inner, below, above in (
        (masses.p, masses.p_below, masses.p_above),
        (masses.q, masses.q_below, masses.q_above),
    ):
        law = np.array(inner)
        law[0] += below
        law[-1] += above
        laws.append(law / law.sum())
    return _power(laws[0], laws[1], cells, step, run.steps)


def _lattice(pair: MixturePair, run: WhiteBox) -> tuple[float, float, float]:
    """A step that is fine beside the spread of one log ratio, and the least and largest of them."""
    low, high = pair.span(_TAIL / run.steps)
    quartiles = pair.loss(np.array([-0.6745, 0.6745]) * run.noise_multiplier)
    step = float(np.ptp(quartiles)) / _IQR_TO_STD / _CELLS_A_DEVIATION
    if not (step > 0 and (high - low) / step < _LENGTH_MAX):
        raise InvalidParameter(
            "noise_multiplier",
            found=run.noise_multiplier,
            expected="noise that hides something: the log ratios of its steps span too much",
        )
    return step, low, high


def _power(
    inside: Vector, outside: Vector, cells: npt.NDArray[np.int64], step: float, steps: int
) -> ScoreLaws:
    """The laws of the sum of `steps` independent steps, where all but 1e-6 of their mass lies."""
    means = [steps * float(law @ cells) for law in (inside, outside)]
    spread = max(
        math.sqrt(steps * float(law @ (cells - law @ cells) ** 2)) for law in (inside, outside)
    )
    reach = _REACH
    while True:
        first = math.floor(min(means) - reach * spread) - 1
        last = math.ceil(max(means) + reach * spread) + 1
        length = scipy.fft.next_fast_len(max(last - first, len(cells)) + 1, real=True)
        if length > _LENGTH_MAX:
            raise InvalidParameter(
                "steps", found=steps, expected="fewer, or more noise: their scores span too much"
            )
        places = np.arange(first, first + length)
        laws = [_wrapped(law, int(cells[0]), steps, length, first) for law in (inside, outside)]
        rim = length // 16
        if max(float(law[:rim].sum() + law[-rim:].sum()) for law in laws) < _EDGE_MASS:
            break
        reach *= 2
    inner, outer = (np.cumsum(law) / float(law.sum()) for law in laws)
    return ScoreLaws(np.asarray(places * step, dtype=np.float64), inner, outer)


def _wrapped(law: Vector, lowest: int, steps: int, length: int, first: int) -> Vector:
    """The law of the sum on the lattice places first, first + 1, ..., modulo `length`."""
    spectrum = np.fft.rfft(np.concatenate([law, np.zeros(max(0, length - len(law)))]))
    with np.errstate(divide="ignore"):
        powered = np.exp(steps * np.log(spectrum.astype(np.complex128)))
    wrapped = np.maximum(np.fft.irfft(powered, length), 0.0)
    # Index k of the transform is the sum steps * lowest + k, modulo the length.
    return np.roll(wrapped, (steps * lowest - first) % length)
