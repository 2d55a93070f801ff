"""How the noise of different steps hangs together, and how much of it keeps the budget.

With correlated noise each step takes back a part of the noise of earlier steps, so that less of it
is left in the weights at the same price (`privacy_core.mechanisms.matrix_factorization`). What one
unit may do to the run then depends on how far apart its steps are, so batches come from groups that
take turns: step t draws from group t mod `groups` (`training.cyclic_sampling`).

===============  =========================================================  ====================
`noise`          the run                                                    priced as
===============  =========================================================  ====================
`independent`    one group, fresh noise: DP-SGD                             n Poisson steps
`banded`         b groups, C with b bands; the b that leaves the least      ceil(n / b) Poisson
                 noise                                                      steps at b times the
                                                                            probability
`blt`            as many groups as batches in an epoch, buffered C          one Gaussian: no
                                                                            amplification
`lambda_cgd`     the same, C^-1 = 1 - lambda x                              the same
`auto`           `independent` or `banded`, whichever leaves less noise     as that one
===============  =========================================================  ====================

Noise is compared by the root mean square of its prefix sums, at the same (epsilon, delta), relation
and accountant. One band is DP-SGD, to the last digit, so `auto` leaves no more noise than it.

A single step has *more* noise than with DP-SGD; it is the sum of steps that has less. Optimizers
that divide by the size of recent gradients (Adam) see the single steps and move less: they want a
learning rate that is larger by the ratio of `DPTrainingPlan.step_noise_multiplier`.

Why bands of b in b groups keep the Poisson price: a step's sum enters b rows of C G, and its units
come back after b steps, so the rows of two participations of a unit never overlap. Each
participation is then one Gaussian mechanism with multiplier sigma, by its own coin.

Sources: Choquette-Choo et al. 2023 (arXiv:2306.08153), theorem 4; McMahan et al. 2024
(arXiv:2408.08868).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from privacy_core.accounting import (
    calibrate,
    calibrate_noise_multiplier,
    dp_sgd_event,
    epsilon_of,
)
from privacy_core.dp_events import DpEvent, Gaussian
from privacy_core.guarantee import NeighbouringRelation
from privacy_core.mechanisms.matrix_factorization import (
    BandedToeplitz,
    BufferedToeplitz,
    Correlation,
    one_step_correlation,
    optimise_banded,
    optimise_buffered,
)
from privacy_finetuner.config import PrivacyConfig
from privacy_finetuner.errors import ConfigurationError, PrivacyBudgetExhaustedException

BANDS_MOST: Final = 32
"""A run remembers noise of at most 31 steps: beyond that the gain is small, and memory is not."""

# Below this gain over independent noise `auto` does not ask for the memory.
_WORTH_IT: Final = 0.99
_NOISE_LOWEST, _NOISE_HIGHEST = 1e-2, 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a plan takes over.

    `noise_multiplier` is the priced one: of each participation (independent, banded) or of the
    whole run (buffered). `error` is the root mean square of the noise in the prefix sums of the
    steps, in units of the clip norm: a figure to compare plans by.
    """

    noise_multiplier: float
    steps: int
    groups: int
    correlation: Correlation | None
    error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A configuration on a data set, before its noise is chosen."""

    privacy: PrivacyConfig
    sample_rate: float
    steps: int
    max_examples_per_user: int = 1

    def choose(self, *, must_fit: bool = False) -> Choice:
        """Decide bands, groups and noise. Pure: configuration in, choice out.

        A `noise_multiplier` of the configuration is kept: then `banded` and `auto` take the most
        bands that keep epsilon for all steps, and the run ends early where not even DP-SGD does.

        Raises:
            ConfigurationError: correlated noise was asked for by name where it has no sound price,
                or needs more than the given noise.
            PrivacyBudgetExhaustedException: not even one step keeps epsilon.
            CalibrationFailed, UnsupportedEvent: see `make_plan`.
        """
        if self.privacy.noise in ("banded", "blt", "lambda_cgd"):
            self._require_a_price()
        match self.privacy.noise:
            case "blt" | "lambda_cgd":
                return self._unamplified()
            case "banded":
                return self._banded(must_fit=must_fit, least_bands=2)
            case "auto" if self.most_bands > 1:
                return self._banded(must_fit=must_fit, least_bands=1)
            case _:
                return self._independent(must_fit=must_fit)

    @property
    def most_bands(self) -> int:
        """How many groups there can be: a group must be able to fill a batch."""
        if self.max_examples_per_user > 1:
            return 1  # a user's examples fall into several groups
        return max(1, min(BANDS_MOST, self._batches_per_epoch, self.steps))

    @property
    def _batches_per_epoch(self) -> int:
        return math.floor(1 / self.sample_rate + 1e-9)

    def _require_a_price(self) -> None:
        name = self.privacy.noise
        if self.max_examples_per_user > 1:
            raise ConfigurationError(
                f"noise={name!r} has no sound price for {self.max_examples_per_user} examples a "
                "user: they would join steps whose noise hangs together; use noise='independent' "
                "or max_examples_per_user=1; nothing was started"
            )
        if self._batches_per_epoch < 2 or self.steps < 2:
            raise ConfigurationError(
                f"noise={name!r} needs two batches in an epoch and two steps at least, found "
                f"{self._batches_per_epoch} and {self.steps}; nothing was started"
            )

    def _independent(self, *, must_fit: bool) -> Choice:
        noise = self.privacy.noise_multiplier
        steps = self.steps
        if noise is None:
            noise = self.smallest_noise()
        else:
            steps = self._affordable_steps(noise, must_fit=must_fit)
        error = noise * math.sqrt((steps + 1) / 2)
        return Choice(noise_multiplier=noise, steps=steps, groups=1, correlation=None, error=error)

    def _banded(self, *, must_fit: bool, least_bands: int) -> Choice:
        given = self.privacy.noise_multiplier
        if given is not None:
            for bands in sorted(_doubling(least_bands, self.most_bands), reverse=True):
                if bands > 1 and self._epsilon(given, self.steps, bands) <= self.privacy.epsilon:
                    return self._with_bands(bands, given)
            if least_bands > 1:
                raise ConfigurationError(
                    f"noise_multiplier {given:g} with two bands over {self.steps} steps costs "
                    f"epsilon {self._epsilon(given, self.steps, 2):.4g}, above the budget "
                    f"{self.privacy.epsilon:g}; nothing was started"
                )
            return self._independent(must_fit=must_fit)
        best = _minimum(
            lambda bands: self._with_bands(bands, self.smallest_noise(bands)),
            max(2, least_bands),
            self.most_bands,
        )
        if least_bands > 1:
            return best
        plain = self._independent(must_fit=must_fit)
        return best if best.error < _WORTH_IT * plain.error else plain

    def _with_bands(self, bands: int, noise: float) -> Choice:
        correlation = optimise_banded(self.steps, bands)
        margin = noise_factor(correlation, self.steps, bands) / correlation.column_norm
        return Choice(
            noise_multiplier=noise,
            steps=self.steps,
            groups=bands,
            correlation=correlation,
            error=noise * margin * correlation.error(self.steps),
        )

    def _unamplified(self) -> Choice:
        privacy, groups = self.privacy, min(self._batches_per_epoch, self.steps)
        correlation: BufferedToeplitz = (
            optimise_buffered(self.steps, separation=groups)
            if privacy.noise == "blt"
            else one_step_correlation(self.steps, separation=groups)
        )
        noise = privacy.noise_multiplier
        if noise is None:
            noise = calibrate(
                Gaussian,
                epsilon=privacy.epsilon,
                delta=privacy.priced_delta,
                lowest=_NOISE_LOWEST,
                highest=_NOISE_HIGHEST,
                increasing=False,
                accountant=privacy.accounting_mode,
                relation=privacy.relation,
                parameter="noise_multiplier",
            )
        price = _price(
            Gaussian(noise), privacy.priced_delta, privacy.accounting_mode, privacy.relation
        )
        if price > privacy.epsilon:
            raise ConfigurationError(
                f"noise_multiplier {noise:g} costs epsilon {price:.4g} with "
                f"noise={privacy.noise!r}, above the budget {privacy.epsilon:g}; nothing was "
                "started"
            )
        factor = noise_factor(correlation, self.steps, groups)
        margin = factor / correlation.sensitivity(self.steps, groups)
        return Choice(
            noise_multiplier=noise,
            steps=self.steps,
            groups=groups,
            correlation=correlation,
            error=noise * margin * correlation.error(self.steps, groups),
        )

    def smallest_noise(self, groups: int = 1) -> float:
        """The smallest multiplier with which all steps keep the budget, in so many groups."""
        privacy = self.privacy
        return calibrate_noise_multiplier(
            epsilon=privacy.epsilon,
            delta=privacy.priced_delta,
            sample_rate=min(1.0, self.sample_rate * groups),
            steps=-(-self.steps // groups),
            accountant=privacy.accounting_mode,
            relation=privacy.relation,
            max_examples_per_user=self.max_examples_per_user,
        )

    def _epsilon(self, noise: float, steps: int, groups: int = 1) -> float:
        event = dp_sgd_event(
            noise_multiplier=noise,
            sample_rate=min(1.0, self.sample_rate * groups),
            steps=-(-steps // groups),
            max_examples_per_user=self.max_examples_per_user,
        )
        privacy = self.privacy
        return _price(event, privacy.priced_delta, privacy.accounting_mode, privacy.relation)

    def _affordable_steps(self, noise: float, *, must_fit: bool) -> int:
        budget = self.privacy.epsilon
        epsilon = self._epsilon(noise, self.steps)
        if epsilon <= budget:
            return self.steps
        if must_fit:
            raise ConfigurationError(
                f"noise_multiplier {noise:g} over {self.steps} steps at sample rate "
                f"{self.sample_rate:.4g} costs epsilon {epsilon:.4g}, above the budget {budget:g}; "
                f"use at least {self.smallest_noise():.4f}, or leave one of the two unset; "
                "nothing was started"
            )
        fits, fails = 0, self.steps
        while fails - fits > 1:
            middle = (fits + fails) // 2
            if self._epsilon(noise, middle) <= budget:
                fits = middle
            else:
                fails = middle
        if fits == 0:
            raise PrivacyBudgetExhaustedException(
                epsilon_requested=self._epsilon(noise, 1),
                epsilon_remaining=budget,
                delta_requested=self.privacy.priced_delta,
                delta_remaining=self.privacy.delta,
                state="one step would cost more; nothing was spent",
            )
        return fits


# Rounding to the lattice moves a row of C G by at most so much of the sensitivity; the noise's own
# margin covers one row (`training.noise`: 1e-3 for the lattice, 0.25e-3 for its scaling).
_ROUNDING_PER_ROW: Final = 1.25e-3


@lru_cache(maxsize=256)
def noise_factor(correlation: Correlation, steps: int, groups: int) -> float:
    """The standard deviation of Z per unit of priced multiplier and clip norm.

    It is the sensitivity of C, and a little more where one unit's influence is rounded in many
    rows: each of them may be off by one rounding, and their norm grows with the square root of
    their number. One band gives 1 exactly.
    """
    if isinstance(correlation, BandedToeplitz):
        sensitivity, rows = correlation.column_norm, correlation.bands
    else:
        sensitivity, rows = correlation.sensitivity(steps, groups), steps
    excess = max(0.0, math.sqrt(rows) / sensitivity - 1.0)
    return sensitivity * (1.0 + _ROUNDING_PER_ROW * excess)


def _doubling(least: int, most: int) -> Iterator[int]:
    """least, 2 least, 4 least ... and `most`."""
    while least < most:
        yield least
        least *= 2
    yield most


def _minimum(choice_at: Callable[[int], Choice], least: int, most: int) -> Choice:
    """The choice with the least error: by doubling until it rises, then between.

    The error falls and then rises in the number of bands (more bands cancel more noise, and lose
    amplification), so the search stops at the first rise.
    """
    best, previous = choice_at(least), math.inf
    for bands in _doubling(least, most):
        found = choice_at(bands) if bands != least else best
        best = min(best, found, key=lambda choice: choice.error)
        if found.error > previous:
            break
        previous = found.error
    for bands in {best.groups * 3 // 4, best.groups * 3 // 2} - {best.groups}:
        if least <= bands <= most:
            best = min(best, choice_at(bands), key=lambda choice: choice.error)
    return best


@lru_cache(maxsize=4096)
def _price(event: DpEvent, delta: float, accountant: str, relation: NeighbouringRelation) -> float:
    return epsilon_of(event, delta, accountant, relation=relation)
