"""The ledger's accounts as pages show them: whose they are decides what is shown."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from privacy_core.errors import InvalidParameter, PrivacyError, UnknownScope
from privacy_finetuner.dashboard.attention import AccountStanding
from privacy_finetuner.dashboard.charts import Chart, Draw, Series
from privacy_finetuner.dashboard.languages import marked
from privacy_finetuner.dashboard.site import Asked
from privacy_finetuner.governance.accounts import is_of, is_of_one_subject, name_of, scope_of
from privacy_finetuner.governance.forecast import Forecast, forecast
from privacy_finetuner.governance.spending import Moment
from privacy_runtime.budget_store import ScopeKind, ScopeState
from privacy_runtime.identity import Scope

_SHOWN: Final = 2
"""A forecast is drawn for so many times the history, at most."""
_LONG: Final = 100
"""What stands for an interval without an end, in times to the expected day."""
_LEAST: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountView:
    """An account with its story.

    Attributes:
        is_guarantee: the people in a block of data; else a quota, which is a limit on use.
        moments: what changed it, oldest first.
    """

    name: str
    state: ScopeState
    moments: list[Moment]
    forecast: Forecast

    @property
    def is_guarantee(self) -> bool:
        """Whether the cap is a promise to people, or a limit on use."""
        return self.state.scope.kind is ScopeKind.PROTECTION

    @property
    def share(self) -> float:
        """Of the cap's epsilon, what is spent or set aside."""
        cap = self.state.guarantee.epsilon
        return self.state.epsilon_if_all_commit / cap if cap > 0 else 1.0

    @property
    def spark(self) -> list[float]:
        """Spent after each of the last entries, for a small picture."""
        return [each.state.epsilon_committed for each in self.moments[-24:]]

    def standing(self) -> AccountStanding:
        """The same for the overview."""
        state = self.state
        return AccountStanding(
            name=self.name,
            epsilon=state.guarantee.epsilon,
            epsilon_spent=state.epsilon_committed,
            epsilon_held=state.epsilon_if_all_commit,
            share=self.share,
            forecast=self.forecast,
            at=self.moments[-1].at,
        )


def accounts_of(asked: Asked) -> list[AccountView]:
    """The organisation's accounts; those of single subjects only for who may see such figures."""
    return [
        _viewed(asked, state)
        for state in asked.service.ledger.accounts()
        if is_of(state.scope, asked.tenant) and _is_shown(asked, state)
    ]


def account_named(asked: Asked, name: str) -> AccountView:
    """One account.

    Raises:
        UnknownScope: there is none of this name for this organisation, or for this reader.
    """
    try:
        scope = scope_of(asked.tenant, name)
    except InvalidParameter:
        raise UnknownScope(name) from None
    state = asked.service.ledger.balance(scope)
    if not _is_shown(asked, state):
        raise UnknownScope(name)
    return _viewed(asked, state)


def _is_shown(asked: Asked, state: ScopeState) -> bool:
    return asked.may(Scope.RESULTS_OUTSIDE_GUARANTEE) or not is_of_one_subject(state.scope)


def _viewed(asked: Asked, state: ScopeState) -> AccountView:
    try:
        moments = asked.service.desks.spending.moments(state.scope)
        ahead = forecast(moments, state, asked.now)
    except PrivacyError as error:  # a repaired ledger: balances stand, its story does not
        moments, ahead = [], Forecast(reason=str(error))
    return AccountView(
        name=name_of(state.scope, asked.tenant), state=state, moments=moments, forecast=ahead
    )


def burn_down(asked: Asked, view: AccountView) -> Chart:
    """What was spent and set aside over time, under the cap, with the forecast as a band.

    The band ends where the cap does: at the earliest and latest day of the forecast's interval. It
    is drawn straight between now and there, since epsilon does not add up, and for no longer than
    twice the history.
    """
    states = [each.state for each in view.moments]
    states.append(states[-1])
    times = [*(each.at for each in view.moments), asked.now]
    ahead = _ahead(asked, view)
    gaps: list[float | None] = [None] * len(ahead)
    past: list[float | None] = [None] * (len(times) - 1)
    cap, now_held = view.state.guarantee.epsilon, states[-1].epsilon_if_all_commit
    series = [
        Series(
            label=asked.say(marked("with what is set aside")),
            values=[*(each.epsilon_if_all_commit for each in states), *gaps],
            draw=Draw.STEP,
            colour=2,
        ),
        Series(
            label=asked.say(marked("spent")),
            values=[*(each.epsilon_committed for each in states), *gaps],
            draw=Draw.STEP,
        ),
        Series(
            label=asked.say(marked("cap")),
            values=[*(each.guarantee.epsilon for each in states), *(cap for _ in ahead)],
            draw=Draw.CAP,
        ),
    ]
    if ahead:
        low = [*past, now_held, *(each.low for each in ahead)]
        high = [*past, now_held, *(each.high for each in ahead)]
        series += [
            Series(label=asked.say(marked("forecast, slowest")), values=low, draw=Draw.LOW),
            Series(label=asked.say(marked("forecast, 95 %")), values=high, draw=Draw.HIGH),
        ]
    return Chart(
        name="chart-burn-down",
        title=asked.say(marked("Epsilon over time")),
        x_label=asked.say(marked("time")),
        y_label="ε",
        x=[*times, *(each.at for each in ahead)],
        series=series,
        note=asked.say(
            marked(
                "At the account's delta; valid at every moment, also when later releases were "
                "chosen after seeing earlier ones."
            )
        ),
    )


@dataclass(frozen=True, slots=True)
class _Ahead:
    """Where the edges of the forecast stand at an instant to come."""

    at: datetime
    low: float
    high: float


def _ahead(asked: Asked, view: AccountView) -> list[_Ahead]:
    """The corners of the forecast's band; none where there is no forecast."""
    found, cap, start = (
        view.forecast,
        view.state.guarantee.epsilon,
        view.state.epsilon_if_all_commit,
    )
    if found.exhausted_at is None or found.earliest is None or cap <= start:
        return []
    now, first = asked.now, found.earliest
    last = found.latest or now + _LONG * (found.exhausted_at - now)
    end = min(last, now + _SHOWN * max(now - view.moments[0].at, _LEAST))
    corners = sorted({at for at in (first, found.exhausted_at, end) if now < at <= end})
    return [
        _Ahead(
            at, low=_between(now, at, last, start, cap), high=_between(now, at, first, start, cap)
        )
        for at in corners
    ]


def _between(now: datetime, at: datetime, end: datetime, start: float, cap: float) -> float:
    """Where a straight line from `start` now to the cap at `end` stands."""
    whole = (end - now).total_seconds()
    part = (at - now).total_seconds()
    return min(cap, start + (cap - start) * (part / whole if whole > 0 else 1.0))
