"""From a target to a parameter: root finding on a monotone price.

Every result is certified: the event with the returned parameter was priced by the accountant, with
the function that reports use, and its epsilon was at most the target.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from privacy_core.accounting.accountant import (
    Accountant,
    accountant_named,
    epsilon_of,
    require_delta,
)
from privacy_core.accounting.dp_sgd import dp_sgd_event
from privacy_core.accounting.normal_form import normal_form
from privacy_core.dp_events import DpEvent
from privacy_core.errors import CalibrationFailed, InvalidParameter
from privacy_core.guarantee import NeighbouringRelation

_ADD_OR_REMOVE: Final = NeighbouringRelation.ADD_OR_REMOVE_ONE
_NOISE_LOWEST, _NOISE_HIGHEST = 1e-2, 1e6
_RATE_LOWEST: Final = 1e-9
_STEPS_MOST: Final = 1 << 40
_TOLERANCE: Final = 1e-5
_ROUGH_TOLERANCE: Final = 2e-3
_ROUNDS: Final = 60
_FLOOR: Final = 1e-12


def calibrate(  # noqa: PLR0913  # the target is four numbers, the search three
    make_event: Callable[[float], DpEvent],
    *,
    epsilon: float,
    delta: float,
    lowest: float,
    highest: float,
    increasing: bool,
    accountant: str = "pld",
    relation: NeighbouringRelation = _ADD_OR_REMOVE,
    parameter: str = "parameter",
) -> float:
    """The most useful parameter in [lowest, highest] that meets (epsilon, delta).

    That is the smallest one if the price decreases with it (noise), the largest if the price
    increases with it (steps, sampling rate).

    Guarantee: `epsilon_of(make_event(result), delta, accountant, relation=relation) <= epsilon`.
    The price of the result is within 1e-5 (relative) of the target, if the price is continuous.

    Args:
        make_event: from the parameter to the event; its price is monotone in the parameter.
        epsilon: the target, finite and > 0.
        delta: in [0, 1).
        lowest: lower end of the bracket, > 0.
        highest: upper end of the bracket, finite, not below `lowest`.
        increasing: whether the price increases with the parameter.
        accountant: see `accountant_named`.
        relation: which two data sets are neighbours.
        parameter: its name in error messages.

    Raises:
        InvalidParameter: a number is outside its domain.
        CalibrationFailed: even the most private end of the bracket costs more than the target.
        UnsupportedEvent: the accountant has no sound price for the event.
    """
    _require_target(epsilon, delta)
    if not 0 < lowest <= highest < math.inf:
        raise InvalidParameter("lowest", found=lowest, expected=f"in (0, {highest}], finite")
    chosen = accountant_named(accountant)
    search = _Search(
        make_event=make_event,
        accountant=chosen,
        epsilon=epsilon,
        delta=delta,
        relation=NeighbouringRelation(relation),
        lowest=lowest,
        highest=highest,
        sign=-1.0 if increasing else 1.0,
    )
    ends = sorted((search.place(lowest), search.place(highest)))
    place = search.solve(*ends)
    if place is None:
        raise CalibrationFailed(
            parameter, lowest=lowest, highest=highest, target=f"({epsilon:g}, {delta:g})-DP"
        )
    return search.parameter(place)


def calibrate_noise_multiplier(
    *,
    epsilon: float,
    delta: float,
    sample_rate: float,
    steps: int,
    accountant: str = "pld",
    relation: NeighbouringRelation = _ADD_OR_REMOVE,
    max_examples_per_user: int = 1,
) -> float:
    """The smallest noise multiplier with which DP-SGD meets (epsilon, delta).

    Guarantee: `epsilon_of` the event with the returned multiplier is at most `epsilon`.

    Args:
        epsilon: the target, finite and > 0.
        delta: in [0, 1).
        sample_rate: probability with which an example joins a batch, in (0, 1].
        steps: number of batches, >= 1.
        accountant: see `accountant_named`.
        relation: which two data sets are neighbours.
        max_examples_per_user: see `dp_sgd_event`.

    Raises:
        InvalidParameter: a number is outside its domain.
        CalibrationFailed: no multiplier between 0.01 and 1,000,000 meets the target.
        UnsupportedEvent: the accountant has no sound price for the event.
    """
    return calibrate(
        lambda noise: dp_sgd_event(
            noise_multiplier=noise,
            sample_rate=sample_rate,
            steps=steps,
            max_examples_per_user=max_examples_per_user,
        ),
        epsilon=epsilon,
        delta=delta,
        lowest=_NOISE_LOWEST,
        highest=_NOISE_HIGHEST,
        increasing=False,
        accountant=accountant,
        relation=relation,
        parameter="noise_multiplier",
    )


def calibrate_sample_rate(
    *,
    epsilon: float,
    delta: float,
    noise_multiplier: float,
    steps: int,
    accountant: str = "pld",
    relation: NeighbouringRelation = _ADD_OR_REMOVE,
    max_examples_per_user: int = 1,
) -> float:
    """The largest sampling probability with which DP-SGD meets (epsilon, delta); at most 1.

    Guarantee: `epsilon_of` the event with the returned rate is at most `epsilon`.

    Args and Raises: as `calibrate_noise_multiplier`; the search starts at a rate of 1e-9.
    """

    def event_at(rate: float) -> DpEvent:
        return dp_sgd_event(
            noise_multiplier=noise_multiplier,
            sample_rate=min(rate, 1.0),
            steps=steps,
            max_examples_per_user=max_examples_per_user,
        )

    _require_target(epsilon, delta)
    if epsilon_of(event_at(1.0), delta, accountant, relation=relation) <= epsilon:
        return 1.0
    return calibrate(
        event_at,
        epsilon=epsilon,
        delta=delta,
        lowest=_RATE_LOWEST,
        highest=1 - _RATE_LOWEST,
        increasing=True,
        accountant=accountant,
        relation=relation,
        parameter="sample_rate",
    )


def calibrate_steps(
    *,
    epsilon: float,
    delta: float,
    sample_rate: float,
    noise_multiplier: float,
    accountant: str = "pld",
    relation: NeighbouringRelation = _ADD_OR_REMOVE,
    max_examples_per_user: int = 1,
) -> int:
    """The largest number of DP-SGD steps that meets (epsilon, delta).

    Guarantee: `epsilon_of` the event with the returned number is at most `epsilon`, and with one
    step more it is above.

    Args: as `calibrate_noise_multiplier`.

    Raises:
        InvalidParameter: a number is outside its domain.
        CalibrationFailed: one step costs more than the target, or 2^40 steps cost less.
        UnsupportedEvent: the accountant has no sound price for the event.
    """
    _require_target(epsilon, delta)

    def event_at(steps: float) -> DpEvent:
        return dp_sgd_event(
            noise_multiplier=noise_multiplier,
            sample_rate=sample_rate,
            steps=round(steps),
            max_examples_per_user=max_examples_per_user,
        )

    def fits(steps: int) -> bool:
        return epsilon_of(event_at(steps), delta, accountant, relation=relation) <= epsilon

    search = _Search(
        make_event=event_at,
        accountant=accountant_named(accountant),
        epsilon=epsilon,
        delta=delta,
        relation=NeighbouringRelation(relation),
        lowest=1,
        highest=_STEPS_MOST,
        sign=-1.0,
    )
    start = round(search.parameter(search.rough_root(-math.log(_STEPS_MOST), 0.0)[0]))
    found = _last_that_fits(fits, start)
    if not 1 <= found < _STEPS_MOST:
        raise CalibrationFailed(
            "steps", lowest=1, highest=_STEPS_MOST, target=f"({epsilon:g}, {delta:g})-DP"
        )
    return found


def _last_that_fits(fits: Callable[[int], bool], start: int) -> int:
    """The last whole number >= 0 that fits, from a start near it; 0 fits without asking."""
    stride = max(1, start // 5000)
    good = bad = start
    if fits(start):
        while good < _STEPS_MOST and fits(good + stride):
            good, stride = good + stride, 2 * stride
        bad = good + stride
    else:
        good = max(0, bad - stride)
        while good > 0 and not fits(good):
            stride *= 2
            good, bad = max(0, good - stride), good
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def _require_target(epsilon: float, delta: float) -> None:
    if not 0 < epsilon < math.inf:
        raise InvalidParameter("epsilon", found=epsilon, expected="a finite number > 0")
    require_delta(delta)
    if delta == 1:
        raise InvalidParameter("delta", found=delta, expected="a number in [0, 1)")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Search:
    """A search on the logarithm of the parameter, mirrored so that the price always decreases."""

    make_event: Callable[[float], DpEvent]
    accountant: Accountant
    epsilon: float
    delta: float
    relation: NeighbouringRelation
    lowest: float
    highest: float
    sign: float

    def place(self, parameter: float) -> float:
        return self.sign * math.log(parameter)

    def parameter(self, place: float) -> float:
        value = math.exp(self.sign * place)
        for end in (self.lowest, self.highest):
            if math.isclose(value, end, rel_tol=1e-12):  # log and exp do not give it back exactly
                return end
        return value

    def excess(self, place: float) -> float:
        """Log of the certified price over the target: the parameter is good if this is <= 0."""
        price = epsilon_of(
            self.make_event(self.parameter(place)),
            self.delta,
            self.accountant.name,
            relation=self.relation,
        )
        return _log_ratio(price, self.epsilon)

    def rough_excess(self, place: float) -> float:
        """As `excess`, from the estimate."""
        form = normal_form(self.make_event(self.parameter(place)))
        if not form.is_private:
            return math.inf
        if form.is_free:
            return -math.inf
        price = self.accountant.rough_epsilon(form, self.delta, self.relation)
        return _log_ratio(price, self.epsilon)

    def rough_root(self, low: float, high: float) -> tuple[float, float]:
        """Where the estimate meets the target, to about a thousandth, and its slope (Illinois)."""
        left, right = (low, self.rough_excess(low)), (high, self.rough_excess(high))
        if left[1] <= 0:
            return low, -1.0
        if right[1] > 0:
            return high, -1.0
        heights, kept, slope = [left[1], right[1]], 0, -1.0
        while right[0] - left[0] > _ROUGH_TOLERANCE:
            place = _crossing((left[0], heights[0]), (right[0], heights[1]))
            found = self.rough_excess(place)
            nearest = min(left, right, key=lambda point: abs(point[1]))
            slope = _slope(nearest, (place, found), slope)
            if abs(found) < _ROUGH_TOLERANCE:
                return place, slope
            side = 0 if found > 0 else 1
            if side == 0:
                left = (place, found)
            else:
                right = (place, found)
            heights[side] = found
            if side == kept:  # halve the height of the end that stays, or it would stay for ever
                heights[1 - side] /= 2
            kept = side
        return right[0], slope

    def solve(self, low: float, high: float) -> float | None:
        """The lowest good place within the tolerance; None if `high` is not good."""
        place, slope = self.rough_root(low, high)
        bad, good = (-math.inf, math.inf), (math.inf, -math.inf)
        last: _Point | None = None
        for _ in range(_ROUNDS):
            here = (place, self.excess(place))
            if here[1] <= 0:
                good = here
            else:
                bad = here
            settled = good[0] <= low or good[1] > -_TOLERANCE or bad[0] >= high
            if settled or good[0] - bad[0] <= _TOLERANCE / 4:
                break
            if last is not None:
                slope = _slope(last, here, slope)
            last = here
            place = _next_place(here, slope, max(bad[0], low), min(good[0], high))
        return good[0] if good[0] < math.inf else None


_Point: TypeAlias = tuple[float, float]


def _crossing(left: _Point, right: _Point) -> float:
    """Where the line through two points is 0, kept off both ends."""
    width = right[0] - left[0]
    share = left[1] / (left[1] - right[1]) if math.isfinite(left[1] - right[1]) else 0.5
    return left[0] + width * min(max(share, 0.02), 0.98)


def _slope(one: _Point, other: _Point, otherwise: float) -> float:
    """The slope of the line through two points, if it falls."""
    run, rise = other[0] - one[0], other[1] - one[1]
    if run and math.isfinite(rise) and rise / run < 0:
        return rise / run
    return otherwise


def _next_place(here: _Point, slope: float, low: float, high: float) -> float:
    """Along the slope to just inside the good side; halfway where that leaves the bracket."""
    if math.isfinite(here[1]):
        guess = here[0] - (here[1] + _TOLERANCE / 2) / slope
        if low < guess < high:
            return guess
    return (low + high) / 2


def _log_ratio(price: float, target: float) -> float:
    if price == math.inf:
        return math.inf
    return math.log(max(price, _FLOOR) / target)
