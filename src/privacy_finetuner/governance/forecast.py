"""When an account will be used up, if people go on spending as they did.

Epsilon does not add up, so it is not extrapolated. What adds up is the ledger's currency: the
divergence at each order of its list. For each order the daily spending is averaged, the remaining
room is divided by it, and the account lasts as long as its best order does (or basic composition).

The interval is that of a mean: with n days of spending x, mean +- t(0.975, n-1) * sd / sqrt(n)
(Student 1908). It is right on average if days are alike and independent; a project that starts
tomorrow is not in it. It forecasts use. It promises nobody privacy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

from privacy_finetuner.governance.spending import Moment, candidates, deciding_slots, share_used
from privacy_runtime.budget_store import ScopeState

WINDOW_DAYS: Final = 28
FEWEST_DAYS: Final = 7
FEWEST_SPENDING_DAYS: Final = 3
CONFIDENCE: Final = 0.95
HORIZON_DAYS: Final = 36_500
"""Later than this is not said: a rate that is nearly zero dates nothing."""
METHOD: Final = (
    "mean daily spending of the last 28 days at each Renyi order, over the room that is left; "
    "interval: Student t, 95 %, for days that are alike and independent"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """When an account is used up, as far as measured spending says.

    Attributes:
        exhausted_at: at the mean rate; `None` where nothing can be said, see `reason`.
        earliest, latest: the interval; `latest` is `None` where it has no end.
        share_per_day: of the cap, at the order that decides now.
        days: how many days were averaged.
        spending_days: on how many of them something was spent.
        reason: why there is no date; empty when there is.
    """

    exhausted_at: datetime | None = None
    earliest: datetime | None = None
    latest: datetime | None = None
    share_per_day: float | None = None
    days: int = 0
    spending_days: int = 0
    reason: str = ""
    method: str = METHOD
    confidence: float = CONFIDENCE


def forecast(moments: Sequence[Moment], state: ScopeState, now: datetime) -> Forecast:
    """Extrapolate an account.

    Args:
        moments: what changed it, oldest first.
        state: how it stands.
        now: the clock's instant; only whole days before it are averaged.
    """
    if not moments:
        return Forecast(reason="nothing was ever spent here")
    days = min(WINDOW_DAYS, (now - moments[0].at).days)
    if days < FEWEST_DAYS:
        return Forecast(
            days=days, reason=f"{days} whole days of history, at least {FEWEST_DAYS} are needed"
        )
    spent_DS = _daily(moments, now, days)
    spending_days = int(np.count_nonzero(spent_DS.any(axis=1)))
    if spending_days < FEWEST_SPENDING_DAYS:
        return Forecast(
            days=days,
            spending_days=spending_days,
            reason=(
                f"spending on {spending_days} of {days} days, at least {FEWEST_SPENDING_DAYS} "
                "are needed"
            ),
        )
    mean_S, margin_S = spent_DS.mean(axis=0), _margin(spent_DS)
    slots = deciding_slots(state)
    rate = max((mean_S[slot] / state.caps[slot] for slot in slots), default=0.0)
    middle = _days_left(state, mean_S)
    early = _days_left(state, mean_S + margin_S)
    late = _days_left(state, mean_S - margin_S)
    return Forecast(
        days=days,
        spending_days=spending_days,
        exhausted_at=_after(now, middle),
        earliest=_after(now, early),
        latest=_after(now, late),
        share_per_day=float(rate),
        reason="" if middle < HORIZON_DAYS else "at this rate it lasts for more than a century",
    )


def share_spent(state: ScopeState) -> float:
    """The share of the cap that is spent or set aside, at the order that decides."""
    slots = deciding_slots(state)
    return share_used(state, state.total, slots) if slots else 1.0


def _daily(moments: Sequence[Moment], now: datetime, days: int) -> NDArray[np.float64]:
    """What was committed on each of the last `days` days, oldest first: days x slots."""
    marks = [now - timedelta(days=back) for back in range(days, -1, -1)]
    at_marks, place = [], 0
    width = len(moments[0].state.committed)
    held: tuple[int, ...] = (0,) * width
    for mark in marks:
        while place < len(moments) and moments[place].at <= mark:
            held = moments[place].state.committed
            place += 1
        at_marks.append(np.array([float(units) for units in held]))
    # A slot without a price stands at its infinity: from there on it is no candidate.
    return np.diff(np.array(at_marks), axis=0)


def _margin(spent_DS: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.stats import t  # noqa: PLC0415 -- half a second, and few ask

    days = len(spent_DS)
    quantile = float(t.ppf(0.5 + CONFIDENCE / 2, days - 1))
    margin: NDArray[np.float64] = quantile * spent_DS.std(axis=0, ddof=1) / math.sqrt(days)
    return margin


def _days_left(state: ScopeState, rate_S: NDArray[np.float64]) -> float:
    """Days until the last way of having room is closed, at a rate for each slot."""

    def lasts(slot: int) -> float:
        room = state.caps[slot] - state.total[slot]
        if room <= 0:
            return 0.0
        return room / rate_S[slot] if rate_S[slot] > 0 else math.inf

    ways = candidates(state)
    return max((min(lasts(slot) for slot in slots) for slots in ways), default=0.0)


def _after(now: datetime, days: float) -> datetime | None:
    return now + timedelta(days=days) if days < HORIZON_DAYS else None
