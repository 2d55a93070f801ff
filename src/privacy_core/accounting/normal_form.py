"""One normal form for events, shared by every accountant.

Two descriptions of the same act must have the same price. Here an event becomes

- `is_private`: whether every release was protected,
- `gaussian_mu_squared`: the sum of 1/sigma^2 over all full-batch Gaussian releases. Releasing k
  Gaussian sums together is one Gaussian release with 1/sigma^2 = sum 1/sigma_i^2, exactly
  (rotate the joint output so that the difference of means lies on one axis),
- `phases`: every other act with the number of times it was done, equal acts merged.

The same collapse happens inside a sampled event: several Gaussian releases about one sample are one
Gaussian release about that sample. A `Phase` that no accountant can price is kept as it is, so that
the accountant that meets it can name it in its refusal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, assert_never

from privacy_core.dp_events import (
    BoundedRange,
    Composed,
    DiscreteGaussian,
    DiscreteLaplace,
    DpEvent,
    Gaussian,
    Laplace,
    MixtureOfGaussians,
    NonPrivate,
    NoOp,
    PoissonSampled,
    PoissonSelection,
    PureDp,
    SampledWithoutReplacement,
    Selection,
    SelfComposed,
    TruncatedPoissonSampled,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """`event`, done `count` >= 1 times, each with fresh randomness."""

    event: DpEvent
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalForm:
    """What an event amounts to. Equal normal forms have equal prices."""

    is_private: bool = True
    gaussian_mu_squared: float = 0.0
    phases: tuple[Phase, ...] = ()

    @property
    def is_free(self) -> bool:
        """Nothing was released."""
        return self.is_private and not self.gaussian_mu_squared and not self.phases

    @property
    def gaussian_mu(self) -> float:
        """The parameter of the one full-batch Gaussian release, 0 if there was none."""
        return math.sqrt(self.gaussian_mu_squared)

    @property
    def only_gaussian(self) -> bool:
        """Everything that was released is one full-batch Gaussian release."""
        return self.is_private and not self.phases


_FREE: Final = NormalForm()
_NOT_PRIVATE: Final = NormalForm(is_private=False)
_NOISE_LEAST: Final = 1e-3
"""Noise below this is priced as none: epsilon is above 100,000 there, losses leave the floats."""
_PURE_MOST: Final = 1e9
"""A pure epsilon above this is priced as infinite, for the same reason."""


def normal_form(event: DpEvent) -> NormalForm:  # noqa: C901, PLR0911, PLR0912  # one case per event
    """Reduce an event to its normal form. Exact: no bound is used, the price does not change."""
    match event:
        case NoOp():
            return _FREE
        case NonPrivate():
            return _NOT_PRIVATE
        case Gaussian(noise_multiplier):
            return _gaussian(noise_multiplier)
        case Laplace() | DiscreteLaplace() | DiscreteGaussian() | PureDp() | BoundedRange():
            return _NOT_PRIVATE if _hides_nothing(event) else _one(event)
        case MixtureOfGaussians():
            return _mixture(event)
        case PoissonSampled(probability, inner):
            return _poisson(probability, normal_form(inner))
        case TruncatedPoissonSampled():
            return _truncated(event)
        case SampledWithoutReplacement():
            return _without_replacement(event)
        case SelfComposed(inner, count):
            return _repeat(normal_form(inner), count)
        case Composed(events):
            return _join(tuple(normal_form(part) for part in events))
        case Selection() | PoissonSelection():
            return _selected(event)
        case _:
            assert_never(event)


def describe(event: DpEvent) -> str:
    """A short name for an event in a refusal: its type and the types inside."""
    match event:
        case PoissonSampled(_, inner) | SelfComposed(inner, _):
            return f"{type(event).__name__}({describe(inner)})"
        case TruncatedPoissonSampled(event=inner) | SampledWithoutReplacement(event=inner):
            return f"{type(event).__name__}({describe(inner)})"
        case Selection(inner) | PoissonSelection(inner):
            return f"{type(event).__name__}({describe(inner)})"
        case Composed(events):
            return f"Composed({', '.join(describe(part) for part in events)})"
        case _:
            return type(event).__name__


def _gaussian(noise_multiplier: float) -> NormalForm:
    if noise_multiplier < _NOISE_LEAST:
        return _NOT_PRIVATE
    return NormalForm(gaussian_mu_squared=noise_multiplier**-2)


def _hides_nothing(event: DpEvent) -> bool:
    """Whether the losses of a release are beyond what floats can add up."""
    match event:
        case Laplace(scale):
            return scale * _PURE_MOST < 1
        case DiscreteLaplace(scale, sensitivity):
            return scale * _PURE_MOST < sensitivity
        case DiscreteGaussian(sigma, sensitivity):
            return sigma < _NOISE_LEAST * sensitivity
        case PureDp(epsilon) | BoundedRange(epsilon):
            return epsilon > _PURE_MOST
        case _:
            return False


def _one(event: DpEvent) -> NormalForm:
    return NormalForm(phases=(Phase(event=event, count=1),))


def _repeat(form: NormalForm, count: int) -> NormalForm:
    if count == 0:
        return _FREE
    return NormalForm(
        is_private=form.is_private,
        gaussian_mu_squared=form.gaussian_mu_squared * count,
        phases=tuple(Phase(event=p.event, count=p.count * count) for p in form.phases),
    )


def _join(forms: tuple[NormalForm, ...]) -> NormalForm:
    if not all(form.is_private for form in forms):
        return _NOT_PRIVATE
    counts: dict[DpEvent, int] = {}
    for phase in (phase for form in forms for phase in form.phases):
        counts[phase.event] = counts.get(phase.event, 0) + phase.count
    return NormalForm(
        gaussian_mu_squared=math.fsum(form.gaussian_mu_squared for form in forms),
        phases=tuple(Phase(event=event, count=count) for event, count in counts.items()),
    )


def _as_event(form: NormalForm) -> DpEvent:
    """The normal form, written as one event again, for use inside a sampled event."""
    parts: list[DpEvent] = []
    if form.gaussian_mu_squared:
        parts.append(Gaussian(1 / form.gaussian_mu))
    for phase in form.phases:
        parts.append(phase.event if phase.count == 1 else SelfComposed(phase.event, phase.count))
    return parts[0] if len(parts) == 1 else Composed(tuple(parts))


def _poisson(probability: float, inner: NormalForm) -> NormalForm:
    if probability == 0 or inner.is_free:
        return _FREE
    if probability == 1 or not inner.is_private:
        return inner
    act = _as_event(inner)
    if isinstance(act, PoissonSampled):
        # A sample of a sample: both coins must come up.
        return _one(PoissonSampled(probability * act.sampling_probability, act.event))
    if isinstance(act, MixtureOfGaussians):
        return _mixture(
            MixtureOfGaussians(
                act.noise_multiplier,
                (0.0, *act.sensitivities),
                (1 - probability, *(probability * p for p in act.probabilities)),
            )
        )
    return _one(PoissonSampled(probability, act))


def _mixture(event: MixtureOfGaussians) -> NormalForm:
    weights: dict[float, float] = {}
    for sensitivity, probability in zip(event.sensitivities, event.probabilities, strict=True):
        weights[sensitivity] = weights.get(sensitivity, 0.0) + probability
    total = math.fsum(weights.values())
    weights = {s: p / total for s, p in sorted(weights.items()) if p > 0}
    largest = max(weights)
    if largest == 0:
        return _FREE
    noise_multiplier = event.noise_multiplier / largest
    if noise_multiplier < _NOISE_LEAST:
        return _NOT_PRIVATE
    if len(weights) == 1:
        return _gaussian(noise_multiplier)
    if len(weights) == 2 and 0.0 in weights:
        return _one(PoissonSampled(weights[largest], Gaussian(noise_multiplier)))
    return _one(_normalised(noise_multiplier, weights, largest))


def _normalised(
    noise_multiplier: float, weights: Mapping[float, float], largest: float
) -> MixtureOfGaussians:
    """The same mixture in units of its largest sensitivity."""
    return MixtureOfGaussians(
        noise_multiplier, tuple(s / largest for s in weights), tuple(weights.values())
    )


def _truncated(event: TruncatedPoissonSampled) -> NormalForm:
    inner = normal_form(event.event)
    if event.sampling_probability == 0 or inner.is_free:
        return _FREE
    if not inner.is_private:
        return inner
    if event.truncated_batch_size >= event.dataset_size:
        return _poisson(event.sampling_probability, inner)
    return _one(
        TruncatedPoissonSampled(
            event.dataset_size,
            event.sampling_probability,
            event.truncated_batch_size,
            _as_event(inner),
        )
    )


def _without_replacement(event: SampledWithoutReplacement) -> NormalForm:
    inner = normal_form(event.event)
    if event.sample_size == 0 or inner.is_free:
        return _FREE
    if not inner.is_private:
        return inner
    return _one(SampledWithoutReplacement(event.dataset_size, event.sample_size, _as_event(inner)))


def _selected(event: Selection | PoissonSelection) -> NormalForm:
    inner = normal_form(event.event)
    if inner.is_free or not inner.is_private:
        return inner
    if isinstance(event, Selection) and event.stopping_probability == 1:
        return inner  # exactly one run, and it is released
    return _one(replace(event, event=_as_event(inner)))
