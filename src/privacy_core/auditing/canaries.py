"""Canaries of a one-run audit: the coins that put them in, and the score of who sees every step.

The coins must be fair, independent and unknown to the run: they come from an `Entropy`. Everything
that the theorems say is conditional on that.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Final, Protocol, Self

import numpy as np
import numpy.typing as npt

from privacy_core.errors import InvalidParameter

Vector = npt.NDArray[np.float64]
Coins = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]

_VERSION: Final = 1
_KEYS: Final = frozenset({"canaries", "coins", "version"})


class Entropy(Protocol):
    """Gives bytes that nobody else can predict."""

    def token_bytes(self, size_bytes: int) -> bytes:
        """`size_bytes` fresh bytes."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class CoinPlan:
    """One fair coin a canary: True puts it into the training data.

    Who knows the coins can forge the audit: keep the plan with the run, and show it only to the
    auditor. Its repr shows no coin.
    """

    included: Coins

    @classmethod
    def draw(cls, canaries: int, entropy: Entropy) -> Self:
        """Toss `canaries` coins, one bit of entropy each.

        Raises:
            InvalidParameter: no canaries, or the entropy gave fewer bytes than asked.
        """
        if isinstance(canaries, bool) or canaries < 1:
            raise InvalidParameter("canaries", found=canaries, expected="a whole number >= 1")
        size = (canaries + 7) // 8
        raw = entropy.token_bytes(size)
        if len(raw) != size:
            raise InvalidParameter("entropy", found=f"{len(raw)} bytes", expected=f"{size} bytes")
        bits = np.unpackbits(np.frombuffer(raw, dtype=np.uint8), bitorder="little")
        return cls(bits[:canaries].astype(np.bool_))

    def __post_init__(self) -> None:
        coins = np.array(self.included)
        if coins.dtype != np.bool_ or coins.ndim != 1 or len(coins) < 1:
            raise InvalidParameter(
                "included", found=(str(coins.dtype), coins.shape), expected="true or false each"
            )
        coins.flags.writeable = False
        object.__setattr__(self, "included", coins)

    def __repr__(self) -> str:
        return f"CoinPlan({len(self)} canaries)"

    def __len__(self) -> int:
        return len(self.included)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CoinPlan) and np.array_equal(self.included, other.included)

    def __hash__(self) -> int:
        return hash(self.included.tobytes())

    @property
    def inside(self) -> Indices:
        """The numbers of the canaries that are trained on."""
        return np.flatnonzero(self.included)

    @property
    def outside(self) -> Indices:
        """The numbers of the canaries that are left out."""
        return np.flatnonzero(~self.included)

    def to_json(self) -> str:
        """The plan as JSON, coins in the clear."""
        packed = np.packbits(self.included, bitorder="little").tobytes().hex()
        return json.dumps(
            {"canaries": len(self), "coins": packed, "version": _VERSION}, sort_keys=True
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Raises:
            InvalidParameter: it is not a plan of this version.
        """
        expected = f"a coin plan of version {_VERSION}"
        try:
            data = json.loads(text)
            if not isinstance(data, dict) or frozenset(data) != _KEYS:
                raise InvalidParameter("plan", found="other keys", expected=expected)
            raw, canaries = bytes.fromhex(data["coins"]), data["canaries"]
        except (ValueError, TypeError, KeyError) as error:
            raise InvalidParameter("plan", found="no such JSON", expected=expected) from error
        is_count = isinstance(canaries, int) and not isinstance(canaries, bool) and canaries >= 1
        if data["version"] != _VERSION or not is_count or len(raw) != (canaries + 7) // 8:
            raise InvalidParameter("plan", found="another version or size", expected=expected)
        bits = np.unpackbits(np.frombuffer(raw, dtype=np.uint8), bitorder="little")
        if bits[canaries:].any():
            raise InvalidParameter("plan", found="bits beyond the last coin", expected=expected)
        return cls(bits[:canaries].astype(np.bool_))


def step_log_likelihood_ratio(
    projections: Vector, *, noise_multiplier: float, sample_rate: float
) -> Vector:
    """Log likelihood ratio of one step: canary in the data set against not in it.

    log(1 - q + q exp((2 x - 1) / (2 sigma^2))), the exact ratio of q N(1, sigma^2) + (1 - q)
    N(0, sigma^2) to N(0, sigma^2) at x. No projection overflows it.

    Args:
        projections: x of each canary: <noisy sum of clipped gradients, direction> / clip norm,
            where the canary's clipped gradient is the clip norm times its unit direction.
        noise_multiplier: sigma, standard deviation of the noise over the clip norm, > 0.
        sample_rate: q of Poisson sampling, in (0, 1].

    Source: the Neyman-Pearson statistic of the dominating pair of Abadi et al. 2016
    (arXiv:1607.00133); as an audit score ours.
    """
    if not 0 < noise_multiplier < math.inf:
        raise InvalidParameter("noise_multiplier", found=noise_multiplier, expected="finite, > 0")
    if not 0 < sample_rate <= 1:
        raise InvalidParameter("sample_rate", found=sample_rate, expected="a number in (0, 1]")
    values = np.asarray(projections, dtype=np.float64)
    if not np.all(np.isfinite(values)):
        raise InvalidParameter("projections", found="a number not finite", expected="numbers")
    sampled = (2 * values - 1) / (2 * noise_multiplier**2)
    if sample_rate == 1:
        return sampled
    found: Vector = np.logaddexp(math.log1p(-sample_rate), math.log(sample_rate) + sampled)
    return found


class StepScores:
    """Sums the score of every canary over the steps of a run, without keeping the steps.

    Gives both the likelihood ratio (`likelihood_ratio`) and the plain sum (`dot_product`), which
    is what audits usually take and which loses most of the evidence where few are sampled.

    Args:
        canaries: how many, >= 1.
        noise_multiplier: as in `step_log_likelihood_ratio`; may be overridden for a step.
        sample_rate: likewise.
    """

    def __init__(self, canaries: int, *, noise_multiplier: float, sample_rate: float) -> None:
        if canaries < 1:
            raise InvalidParameter("canaries", found=canaries, expected="a whole number >= 1")
        self._noise_multiplier = noise_multiplier
        self._sample_rate = sample_rate
        self._ratio = np.zeros(canaries)
        self._sum = np.zeros(canaries)
        self._steps = 0
        step_log_likelihood_ratio(
            self._sum, noise_multiplier=noise_multiplier, sample_rate=sample_rate
        )

    def add(
        self,
        projections: Vector,
        *,
        noise_multiplier: float | None = None,
        sample_rate: float | None = None,
    ) -> None:
        """Count one step in.

        Raises:
            InvalidParameter: another number of canaries, or a number not finite; nothing was added.
        """
        values = np.asarray(projections, dtype=np.float64)
        if values.shape != self._sum.shape:
            raise InvalidParameter("projections", found=values.shape, expected=str(self._sum.shape))
        self._ratio += step_log_likelihood_ratio(
            values,
            noise_multiplier=self._noise_multiplier
            if noise_multiplier is None
            else noise_multiplier,
            sample_rate=self._sample_rate if sample_rate is None else sample_rate,
        )
        self._sum += values
        self._steps += 1

    @property
    def steps(self) -> int:
        """How many steps were added."""
        return self._steps

    @property
    def likelihood_ratio(self) -> Vector:
        """The log likelihood ratio of each canary over all steps. A copy."""
        return self._ratio.copy()

    @property
    def dot_product(self) -> Vector:
        """The sum of each canary's projections. A copy."""
        return self._sum.copy()
