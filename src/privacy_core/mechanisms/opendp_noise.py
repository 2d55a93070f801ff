"""Whole-number noise and selection by OpenDP's samplers.

`OPENDP` takes the place of an `Entropy` where a mechanism works on whole numbers or selects. OpenDP
then draws from its own generator, which is keyed by the operating system: such a release cannot be
replayed from a seed. Its samplers are exact too (interval refinement on arbitrary-precision
fractions), reviewed by others, and quicker on long vectors.

Source: OpenDP library, `make_laplace`, `make_gaussian`, `make_noisy_max`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from opendp.mod import Measurement

_WHOLE_MOST: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class OpenDp:
    """Stands for OpenDP's own generator, keyed by the operating system."""


OPENDP: Final = OpenDp()


def noisy_whole_numbers(values: Sequence[int], *, law: str, scale: float) -> list[int]:
    """Each value with fresh noise: `laplace` of this scale, or `gaussian` of this sigma.

    Values and results are clamped to 63 bits. Clamping moves no two values further apart, so that
    no sensitivity grows.
    """
    clamped = [max(-_WHOLE_MOST, min(_WHOLE_MOST, value)) for value in values]
    if not clamped:
        return []
    return [int(value) for value in _whole_measurement(law, scale)(clamped)]


def noisy_argmax(scores: Sequence[float], *, scale: float, gumbel: bool) -> int:
    """The place of the largest score after adding Gumbel or exponential noise of this scale."""
    return int(_argmax_measurement(scale, gumbel)(list(scores)))


@lru_cache(maxsize=64)
def _whole_measurement(law: str, scale: float) -> Measurement:
    import opendp.prelude as dp  # noqa: PLC0415  it costs 0.35 s, and only here is it needed

    dp.enable_features("contrib")
    domain = dp.vector_domain(dp.atom_domain(T="i64"))
    if law == "laplace":
        return dp.m.make_laplace(domain, dp.l1_distance(T="i64"), scale=scale)
    return dp.m.make_gaussian(domain, dp.l2_distance(T="f64"), scale=scale)


@lru_cache(maxsize=64)
def _argmax_measurement(scale: float, gumbel: bool) -> Measurement:
    import opendp.prelude as dp  # noqa: PLC0415  as above

    dp.enable_features("contrib")
    measure = dp.zero_concentrated_divergence() if gumbel else dp.max_divergence()
    domain = dp.vector_domain(dp.atom_domain(T="f64", nan=False))
    return dp.m.make_noisy_max(domain, dp.linf_distance(T="f64"), measure, scale=scale)
