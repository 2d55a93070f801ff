"""The algebra of private acts.

A `DpEvent` says what was done to private data, and nothing else: no epsilon, no data. Accountants,
ledger, reports, certificates and audits read the same value, so they cannot disagree.

Stability promise: an event is never removed, its meaning never changes, and its JSON form carries
a version. What this version does not know is refused (`MalformedEvent`), never skipped.

Scales are relative: `noise_multiplier` is the noise's standard deviation (Gaussian) or scale
(Laplace) divided by the bound on the L2 (or L1) norm of what one unit contributes. So it is
relative to the sensitivity under add-or-remove; a unit that is *exchanged* moves the sum by up to
twice that, and accountants charge it. (Google's `RdpPrivacyAccountant` reads the same number as
relative to the exchange sensitivity in fixed-size sampling: halve its multiplier to compare.)

The vocabulary is the field's: see google/differential-privacy, `dp_accounting.dp_event`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, TypeAlias, get_args

from privacy_core.errors import InvalidParameter, MalformedEvent

CODEC_VERSION: Final = 1
DEPTH_MAX: Final = 32
"""How deep events may be nested in a document; deeper ones are refused."""


@dataclass(frozen=True, slots=True)
class NoOp:
    """Nothing was released. Costs nothing."""


@dataclass(frozen=True, slots=True)
class NonPrivate:
    """Something was released without protection. Costs infinity, under every accountant."""


@dataclass(frozen=True, slots=True)
class Gaussian:
    """A sum of vectors of L2 norm at most 1 was released with N(0, noise_multiplier^2) added."""

    noise_multiplier: float

    def __post_init__(self) -> None:
        _require_positive("noise_multiplier", self.noise_multiplier)


@dataclass(frozen=True, slots=True)
class Laplace:
    """A sum of numbers of size at most 1 was released with Laplace noise of this scale."""

    noise_multiplier: float

    def __post_init__(self) -> None:
        _require_positive("noise_multiplier", self.noise_multiplier)


@dataclass(frozen=True, slots=True)
class DiscreteLaplace:
    """A sum of whole numbers was released with discrete Laplace noise: P(k) ~ exp(-|k| / scale).

    `sensitivity` bounds the size of what one unit contributes; a unit that is exchanged moves the
    sum by up to twice that. It is a multiple of 1/2: where the number of units is public,
    contributions may be counted from the middle of their range, so that one of 0 or 1 has size 1/2.
    The continuous `Laplace` is no bound for it: on few whole numbers the noise hides less.
    """

    scale: float
    sensitivity: float

    def __post_init__(self) -> None:
        _require_positive("scale", self.scale)
        _require_half_steps("sensitivity", self.sensitivity)


@dataclass(frozen=True, slots=True)
class DiscreteGaussian:
    """A sum of whole numbers was released with noise P(k) ~ exp(-k^2 / (2 sigma^2)).

    `sensitivity` is read as in `DiscreteLaplace`. One number: several numbers that one unit moves
    are several events.
    """

    sigma: float
    sensitivity: float

    def __post_init__(self) -> None:
        _require_positive("sigma", self.sigma)
        _require_half_steps("sensitivity", self.sensitivity)


@dataclass(frozen=True, slots=True)
class PureDp:
    """No result is more than e^epsilon times likelier when one unit joins or leaves.

    Nothing else is known of the release: permute-and-flip, report-noisy-max, sparse vector.
    """

    epsilon: float

    def __post_init__(self) -> None:
        _require_positive("epsilon", self.epsilon)


@dataclass(frozen=True, slots=True)
class BoundedRange:
    """As `PureDp`, and the log ratios of any two results differ by at most epsilon.

    That is the exponential mechanism; it costs less in composition than `PureDp`.

    Source: Durfee & Rogers 2019 (arXiv:1905.04273), Definition 3.
    """

    epsilon: float

    def __post_init__(self) -> None:
        _require_positive("epsilon", self.epsilon)


@dataclass(frozen=True, slots=True)
class MixtureOfGaussians:
    """A Gaussian sum to which the unit contributes a random amount.

    The unit's contribution is `sensitivities[i]` with probability `probabilities[i]`. This is what
    example-level Poisson sampling does to a user who owns several examples.

    Source: Choquette-Choo et al. 2024 (arXiv:2310.15526), mixture-of-Gaussians mechanisms.
    """

    noise_multiplier: float
    sensitivities: tuple[float, ...]
    probabilities: tuple[float, ...]

    def __post_init__(self) -> None:
        _require_positive("noise_multiplier", self.noise_multiplier)
        if len(self.sensitivities) != len(self.probabilities) or not self.sensitivities:
            raise InvalidParameter(
                "sensitivities",
                found=f"{len(self.sensitivities)} for {len(self.probabilities)} probabilities",
                expected="as many as probabilities, at least one",
            )
        if any(not (0 <= s < math.inf) for s in self.sensitivities):
            raise InvalidParameter(
                "sensitivities", found=self.sensitivities, expected="finite numbers >= 0"
            )
        total = math.fsum(self.probabilities)
        if any(not (0 <= p <= 1) for p in self.probabilities) or abs(total - 1) > 1e-9:
            raise InvalidParameter(
                "probabilities",
                found=self.probabilities,
                expected="numbers in [0, 1] that add to 1",
            )


@dataclass(frozen=True, slots=True)
class PoissonSampled:
    """`event` was applied to a subset that every unit joins independently with this probability."""

    sampling_probability: float
    event: DpEvent

    def __post_init__(self) -> None:
        _require_probability("sampling_probability", self.sampling_probability)


@dataclass(frozen=True, slots=True)
class TruncatedPoissonSampled:
    """As `PoissonSampled`, but a batch above `truncated_batch_size` is cut to that size at random.

    The cut couples the examples: it is priced, never ignored. `dataset_size` counts the larger one
    of two neighbouring data sets.

    Source: Chua et al. 2024, "Scalable DP-SGD" (arXiv:2411.04205).
    """

    dataset_size: int
    sampling_probability: float
    truncated_batch_size: int
    event: DpEvent

    def __post_init__(self) -> None:
        _require_count("dataset_size", self.dataset_size, least=1)
        _require_probability("sampling_probability", self.sampling_probability)
        _require_count("truncated_batch_size", self.truncated_batch_size, least=1)


@dataclass(frozen=True, slots=True)
class SampledWithoutReplacement:
    """`event` was applied to `sample_size` units drawn uniformly out of `dataset_size`."""

    dataset_size: int
    sample_size: int
    event: DpEvent

    def __post_init__(self) -> None:
        _require_count("dataset_size", self.dataset_size, least=1)
        _require_count("sample_size", self.sample_size, least=0)
        if self.sample_size > self.dataset_size:
            raise InvalidParameter(
                "sample_size", found=self.sample_size, expected=f"at most {self.dataset_size}"
            )


@dataclass(frozen=True, slots=True)
class SelfComposed:
    """`event` was applied `count` times, each time with fresh randomness."""

    event: DpEvent
    count: int

    def __post_init__(self) -> None:
        _require_count("count", self.count, least=0)


@dataclass(frozen=True, slots=True)
class Composed:
    """All of `events` were applied to the same data, each with fresh randomness.

    Inside a sampled event: all were applied to the *same* sample.
    """

    events: tuple[DpEvent, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """`event` was run a random number of times; of the outputs only the best was released.

    Best in a total order of outputs that is public; nothing else leaves, not the number of runs
    either. That is truncated negative binomial: P(k) ~ (1 - stopping_probability)^k
    Gamma(k + shape) / k!, k >= 1; geometric at shape 1, logarithmic at 0.

    Source: Papernot & Steinke 2022 (arXiv:2110.03620), Definition 1.
    """

    event: DpEvent
    shape: float
    stopping_probability: float

    def __post_init__(self) -> None:
        _require_positive("shape + 1", self.shape + 1)
        _require_positive("stopping_probability", self.stopping_probability)
        _require_probability("stopping_probability", self.stopping_probability)


@dataclass(frozen=True, slots=True)
class PoissonSelection:
    """As `Selection`, with a Poisson number of runs; at none a constant is released."""

    event: DpEvent
    mean: float

    def __post_init__(self) -> None:
        _require_positive("mean", self.mean)


DpEvent: TypeAlias = (
    NoOp
    | NonPrivate
    | Gaussian
    | Laplace
    | DiscreteLaplace
    | DiscreteGaussian
    | PureDp
    | BoundedRange
    | MixtureOfGaussians
    | PoissonSampled
    | TruncatedPoissonSampled
    | SampledWithoutReplacement
    | SelfComposed
    | Composed
    | Selection
    | PoissonSelection
)

UnsampledRelease: TypeAlias = DiscreteLaplace | DiscreteGaussian | PureDp | BoundedRange
"""Releases that accountants price as they are, but not about a sample of the data."""

_WHOLE_MAX: Final = 1 << 63

_TYPES: Final[Mapping[str, type[DpEvent]]] = {kind.__name__: kind for kind in get_args(DpEvent)}


def to_json(event: DpEvent) -> dict[str, Any]:
    """Write an event as JSON-ready data: `{"version": 1, "event": {"type": ..., ...}}`.

    Lossless: `from_json(to_json(e)) == e`, floats included (JSON numbers are written by `repr`).
    """
    return {"version": CODEC_VERSION, "event": _encode(event)}


def from_json(document: object) -> DpEvent:
    """Read what `to_json` wrote.

    Raises:
        MalformedEvent: unknown version, unknown type, missing or surplus field, wrong value. The
            message names the place, as a path into the document.
    """
    if not isinstance(document, Mapping):
        raise MalformedEvent(f"an event document is an object, found {type(document).__name__}")
    if document.get("version") != CODEC_VERSION:
        raise MalformedEvent(
            f"event version {document.get('version')!r} is not known here, expected {CODEC_VERSION}"
        )
    return _decode(document.get("event"), path="event")


def _encode(event: DpEvent) -> dict[str, Any]:
    encoded: dict[str, Any] = {"type": type(event).__name__}
    for field in fields(event):
        value = getattr(event, field.name)
        if field.name == "event":
            value = _encode(value)
        elif field.name == "events":
            value = [_encode(part) for part in value]
        elif isinstance(value, tuple):
            value = list(value)
        encoded[field.name] = value
    return encoded


def _decode(data: object, *, path: str, depth: int = 0) -> DpEvent:
    if depth > DEPTH_MAX:
        raise MalformedEvent(f"event is nested more than {DEPTH_MAX} deep")
    if not isinstance(data, Mapping):
        raise MalformedEvent(f"{path} is an object, found {type(data).__name__}")
    kind = _TYPES.get(str(data.get("type")))
    if kind is None:
        raise MalformedEvent(
            f"{path}.type is {data.get('type')!r}, expected one of {sorted(_TYPES)}"
        )
    expected = {field.name for field in fields(kind)}
    found = set(data) - {"type"}
    if found != expected:
        raise MalformedEvent(
            f"{path} ({kind.__name__}) has fields {sorted(found)}, expected {sorted(expected)}"
        )
    values = {
        name: _decode_field(name, data[name], path=f"{path}.{name}", depth=depth)
        for name in expected
    }
    try:
        return kind(**values)
    except InvalidParameter as error:
        raise MalformedEvent(f"{path}: {error}") from error


def _decode_field(name: str, value: object, *, path: str, depth: int) -> Any:
    if name == "event":
        return _decode(value, path=path, depth=depth + 1)
    if name in {"events", "sensitivities", "probabilities"}:
        if not isinstance(value, list):
            raise MalformedEvent(f"{path} is a list, found {type(value).__name__}")
        if name == "events":
            return tuple(
                _decode(part, path=f"{path}[{i}]", depth=depth + 1) for i, part in enumerate(value)
            )
        return tuple(_decode_number(part, path=f"{path}[{i}]") for i, part in enumerate(value))
    return _decode_number(value, path=path)


def _decode_number(value: object, *, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MalformedEvent(f"{path} is a number, found {type(value).__name__}")
    if isinstance(value, int) and abs(value) > _WHOLE_MAX:
        raise MalformedEvent(f"{path} is a whole number beyond 2^63")
    return value


def _require_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise InvalidParameter(name, found=value, expected="a finite number > 0")


def _require_probability(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise InvalidParameter(name, found=value, expected="a number in [0, 1]")


def _require_half_steps(name: str, value: float) -> None:
    if not 0 < value < math.inf or 2 * value != math.floor(2 * value):
        raise InvalidParameter(name, found=value, expected="a positive multiple of 1/2")


def _require_count(name: str, value: int, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidParameter(name, found=value, expected=f"a whole number >= {least}")
