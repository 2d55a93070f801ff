"""How batches are made, and which event each way is.

The price of a run depends on who may be in which batch at least as much as on the noise: the same
multiplier gives epsilon 1.8 with Poisson batches and 17.9 with a shuffled epoch. So a scheme is
priced by the event that it is, never by that of another one.

=====================  ==========================================  ==============================
scheme                 who is in a batch                           priced as
=====================  ==========================================  ==============================
`full_batch`           everyone                                    no amplification
`poisson`              every unit, by a coin of its own            Poisson, every step
`cyclic_poisson`       as `poisson`, from one of several fixed     Poisson at a higher rate,
                       groups, in turn                             1 step in `groups`
`truncated_poisson`    as `poisson`, cut at random to a cap        both cases of the cut
`fixed_size`           a uniform subset of one size                a sample without replacement;
                                                                   `replace_one` only
`shuffle`              the next ones of a random order, each once  one unsampled release an epoch:
                       an epoch                                    no credit for the shuffle
=====================  ==========================================  ==============================

What has to be true besides:

- `cyclic_poisson`: a unit's group depends on nothing but that unit (for instance on a keyed hash of
  its identifier) and stays the same for the whole run.
- `shuffle` under `add_or_remove_one`: a unit that is absent leaves its place empty. A loader that
  closes the gap moves another unit into a different batch, which this price does not cover; under
  `replace_one` there is no gap, and any order will do.

No credit for shuffling is given because none is proved at the sizes in use: the order is one secret
for the whole epoch, and the batches that do not hold a unit say where it is.

Sources: Choquette-Choo et al. 2023 (arXiv:2306.08153), Theorem 4, for the cyclic scheme; Chua et
al. 2024 (arXiv:2403.17673) for why a shuffle must not be priced as Poisson.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from privacy_core.dp_events import (
    DpEvent,
    Gaussian,
    PoissonSampled,
    SampledWithoutReplacement,
    SelfComposed,
    TruncatedPoissonSampled,
)
from privacy_core.errors import InvalidParameter


class SamplingScheme(StrEnum):
    """Ways to make batches. The module says what each of them means."""

    FULL_BATCH = "full_batch"
    POISSON = "poisson"
    CYCLIC_POISSON = "cyclic_poisson"
    TRUNCATED_POISSON = "truncated_poisson"
    FIXED_SIZE = "fixed_size"
    SHUFFLE = "shuffle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The public sizes of a run, in units of privacy.

    `examples` counts the larger one of two neighbouring data sets. `batch_size` is the expected
    size where batches vary. `batch_cap` belongs to `truncated_poisson` alone and `groups` to
    `cyclic_poisson` alone.

    Raises:
        InvalidParameter: a size is not a whole number >= 1, or a batch is larger than the data set.
    """

    examples: int
    batch_size: int
    steps: int
    batch_cap: int | None = None
    groups: int = 1

    def __post_init__(self) -> None:
        sizes = {
            "examples": self.examples,
            "batch_size": self.batch_size,
            "steps": self.steps,
            "batch_cap": 1 if self.batch_cap is None else self.batch_cap,
            "groups": self.groups,
        }
        for name, size in sizes.items():
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise InvalidParameter(name, found=size, expected="a whole number >= 1")
        if self.batch_size > self.examples:
            raise InvalidParameter(
                "batch_size", found=self.batch_size, expected=f"at most {self.examples} examples"
            )

    @property
    def sample_rate(self) -> float:
        """The expected share of the data set in a batch."""
        return self.batch_size / self.examples

    @property
    def epochs_at_most(self) -> int:
        """How often one unit takes part at most, when every epoch uses each unit once."""
        return math.ceil(self.steps / math.ceil(self.examples / self.batch_size))


def scheme_event(scheme: SamplingScheme, schedule: Schedule, *, noise_multiplier: float) -> DpEvent:
    """The event of a run of Gaussian sums over batches made in this way.

    Guarantee: an accountant's price of the event bounds the price of the run, under the conditions
    of the module. A scheme that an accountant cannot price under a relation is refused there, by
    name.

    Args:
        scheme: how batches are made.
        schedule: the sizes.
        noise_multiplier: standard deviation of the noise divided by the bound on one unit's norm.

    Raises:
        InvalidParameter: the schedule does not fit the scheme; nothing was priced.
    """
    scheme = SamplingScheme(scheme)
    _require_fit(scheme, schedule)
    release, rate, steps = Gaussian(noise_multiplier), schedule.sample_rate, schedule.steps
    match scheme:
        case SamplingScheme.FULL_BATCH:
            return SelfComposed(release, steps)
        case SamplingScheme.POISSON:
            return SelfComposed(PoissonSampled(rate, release), steps)
        case SamplingScheme.CYCLIC_POISSON:
            groups = schedule.groups
            # Rounding must not push the rate of a whole group above 1.
            in_turn = min(1.0, schedule.batch_size * groups / schedule.examples)
            return SelfComposed(PoissonSampled(in_turn, release), math.ceil(steps / groups))
        case SamplingScheme.TRUNCATED_POISSON:
            cap = schedule.batch_cap or schedule.examples
            return SelfComposed(
                TruncatedPoissonSampled(schedule.examples, rate, cap, release), steps
            )
        case SamplingScheme.FIXED_SIZE:
            return SelfComposed(
                SampledWithoutReplacement(schedule.examples, schedule.batch_size, release), steps
            )
        case SamplingScheme.SHUFFLE:
            return SelfComposed(release, schedule.epochs_at_most)
        case _:
            assert_never(scheme)


def _require_fit(scheme: SamplingScheme, schedule: Schedule) -> None:
    """Refuse a schedule made for another scheme: it would be priced as something it is not."""
    if (schedule.batch_cap is not None) != (scheme is SamplingScheme.TRUNCATED_POISSON):
        raise InvalidParameter(
            "batch_cap", found=schedule.batch_cap, expected="a cap for truncated_poisson, else none"
        )
    if schedule.groups != 1 and scheme is not SamplingScheme.CYCLIC_POISSON:
        raise InvalidParameter(
            "groups", found=schedule.groups, expected=f"1 for {scheme.value}, which has no groups"
        )
    if schedule.groups * schedule.batch_size > schedule.examples:
        raise InvalidParameter(
            "groups",
            found=schedule.groups,
            expected=f"at most {schedule.examples // schedule.batch_size}: a group must hold a "
            "batch",
        )
    if scheme is SamplingScheme.FULL_BATCH and schedule.batch_size != schedule.examples:
        raise InvalidParameter(
            "batch_size", found=schedule.batch_size, expected=f"{schedule.examples} for full_batch"
        )
