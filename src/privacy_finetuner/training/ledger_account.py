"""A data set's account in a ledger: what it has room for, and charging acts to it.

The account is a protection scope: its cap is what the people in the data are promised, over all
that ever touches it, in whatever process. A quota, where one is named, limits its user as well.
Nothing here opens an account or raises one: that is the officer's (`privacy-finetuner budget`).

A run is calibrated to what one declared plan may cost an account: at the account's epsilon, and at
the half of its delta that belongs to basic composition (`declared_target`). So an unused account
of (8, 1e-5) admits a run configured for epsilon 8, which then states (8, 5e-6) of itself.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from privacy_core.dp_events import DpEvent
from privacy_core.errors import BudgetExhausted, UnknownScope
from privacy_core.guarantee import NeighbouringRelation, PrivacyUnit
from privacy_finetuner.config import PrivacyConfig
from privacy_finetuner.errors import ConfigurationError, PrivacyBudgetExhaustedException
from privacy_finetuner.training.accounts import LEAST_PART, RunTargets
from privacy_finetuner.training.plan import DPTrainingPlan
from privacy_runtime.budget_store import (
    BudgetStore,
    Currency,
    Scope,
    ScopeKind,
    ScopeState,
    charge_of,
    declared_target,
    parse_scope,
    quota,
)
from privacy_runtime.world import Clock

LedgerSource = str | Path | BudgetStore
"""A path, `postgresql://...`, or an open store, which stays open."""

TRAINING: Final = "training"
EVALUATION: Final = "evaluation"
HYPER_PARAMETERS: Final = "hyper_parameters"

# The ledger counts delta in units of 2^-100.
_DELTA_BITS: Final = 100
# How far the greatest epsilon that fits is narrowed down.
_PRECISION: Final = 1.01
# An evaluation ends within this time, or it counts as released.
_ACT_TTL_S: Final = 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What one more declared act may cost, in all accounts that it is charged to.

    Args:
        accounts: the protection account, then quotas.
    """

    accounts: tuple[ScopeState, ...]

    @property
    def tightest(self) -> ScopeState:
        """The account whose epsilon may rise least."""
        return min(self.accounts, key=lambda account: account.epsilon_remaining)

    @property
    def delta(self) -> float:
        """At which delta the act is stated."""
        return min(_declared_delta(account) for account in self.accounts)

    def admits(self, plan: DPTrainingPlan) -> bool:
        """Whether the plan fits beside what was spent and set aside. The ledger has the last word.

        An account's epsilon does not tell: what the plan adds to it depends on what is there.
        """
        charge = charge_of(plan.event(), delta=plan.delta, relation=plan.relation, unit=plan.unit)
        return all(account.has_room_for(charge) for account in self.accounts)


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerAccount:
    """The account of one data set, and the quota that its user spends from.

    Args:
        where: the ledger.
        scope: the protection scope that is charged.
        quota: a node of the users' tree, or `None`. Where it has shares for the purposes of an act
            (`.../training`, `.../evaluation`, `.../hyper_parameters`), the share is charged.
        clock: for reservations.
    """

    where: LedgerSource
    scope: Scope
    quota: Scope | None
    clock: Clock

    @classmethod
    def named(
        cls,
        ledger: LedgerSource | None,
        account: str | None,
        quota_path: str | None,
        *,
        clock: Clock,
    ) -> LedgerAccount | None:
        """The account that a user named; `None` when no ledger was.

        Raises:
            ConfigurationError: an account without a ledger or the reverse, no such ledger, or no
                such account in it (names the command that opens it). Nothing was started.
            JournalError: the ledger cannot be read.
        """
        if ledger is None:
            if account is not None or quota_path is not None:
                raise ConfigurationError(
                    f"account {account or quota_path!r} was named and no ledger that holds it; "
                    "nothing was started"
                )
            return None
        if account is None:
            raise ConfigurationError(
                "a ledger was named and no account in it: whose budget is spent? expected "
                "account='COHORT/SLICE' (--account); nothing was started"
            )
        _require_ledger(ledger)
        return cls(
            where=ledger,
            scope=_protection_named(account),
            quota=None if quota_path is None else quota(*quota_path.split("/")),
            clock=clock,
        )

    def other(self, account: str) -> LedgerAccount:
        """Another account of the same ledger, charged for the same user."""
        named = replace(self, scope=_protection_named(account))
        named.state()
        return named

    @contextmanager
    def store(self) -> Iterator[BudgetStore]:
        """The ledger, open; closed again unless it was open before."""
        if isinstance(self.where, BudgetStore):
            yield self.where
            return
        with BudgetStore.open(self.where, clock=self.clock) as store:
            yield store

    def state(self) -> ScopeState:
        """The account as it stands.

        Raises:
            ConfigurationError: it is not open, or the quota is not.
        """
        with self.store() as store:
            for scope in self.scopes(store, TRAINING)[1]:
                self._balance(store, scope)
            return self._balance(store, self.scope)

    def scopes(self, store: BudgetStore, purpose: str) -> tuple[tuple[Scope, ...], ...]:
        """The protection and the quota scopes that an act is charged to."""
        if self.quota is None:
            return (self.scope,), ()
        share = Scope(ScopeKind.QUOTA, (*self.quota.path, purpose))
        open_scopes = {account.scope for account in store.accounts()}
        return (self.scope,), (share if share in open_scopes else self.quota,)

    def room(self, purpose: str) -> Room:
        """What one more declared act may cost, in all scopes that it is charged to."""
        with self.store() as store:
            store.expire_due()
            protection, quotas = self.scopes(store, purpose)
            named = [*protection, *(above for leaf in quotas for above in leaf.with_ancestors)]
            accounts = [self._balance(store, scope) for scope in named]
        return Room(accounts=tuple(accounts))

    def run_privacy(self, config: PrivacyConfig, targets: RunTargets) -> PrivacyConfig:
        """The configuration of one run, within what its account has room for.

        A target given to `train` is a condition; the configured epsilon is a wish, of which at
        least a quarter must be left.

        Raises:
            PrivacyBudgetExhaustedException: less is left; nothing was spent.
        """
        room = self.room(TRAINING)
        asked = config.epsilon if targets.epsilon is None else targets.epsilon
        left = room.tightest.epsilon_remaining
        least = asked if targets.epsilon is not None else LEAST_PART * asked
        if left < least:
            raise self.exhausted(asked, left, room.tightest)
        wished = config.priced_delta if targets.delta is None else targets.delta
        return self.calibrated(config, targets, min(asked, left), min(wished, room.delta))

    def fitted(
        self,
        privacy: PrivacyConfig,
        plan_with: Callable[[PrivacyConfig], DPTrainingPlan],
        *,
        least: float,
    ) -> tuple[PrivacyConfig, DPTrainingPlan]:
        """The plan of greatest epsilon that the account admits, within a hundredth of it.

        Args:
            privacy: of the run; its epsilon is the greatest that is tried.
            plan_with: makes the plan of a configuration.
            least: the smallest epsilon that is of use.
        """
        room, plan = self.room(TRAINING), plan_with(privacy)
        low, high = min(least, privacy.epsilon), privacy.epsilon
        if room.admits(plan) or low == high:
            return privacy, plan
        privacy = replace(privacy, epsilon=low)
        plan = plan_with(privacy)
        while high > low * _PRECISION and room.admits(plan):
            tried = replace(privacy, epsilon=math.sqrt(low * high))
            attempt = plan_with(tried)
            if room.admits(attempt):
                privacy, plan, low = tried, attempt, tried.epsilon
            else:
                high = tried.epsilon
        return privacy, plan

    def calibrated(
        self, config: PrivacyConfig, targets: RunTargets, epsilon: float, delta: float
    ) -> PrivacyConfig:
        """The configuration with a run's overrides, at this epsilon and delta."""
        given = {
            "max_grad_norm": targets.max_grad_norm,
            "noise_multiplier": targets.noise_multiplier,
        }
        changes: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
        return replace(config, epsilon=epsilon, delta=delta, target_delta=None, **changes)

    @contextmanager
    def act(
        self,
        key: str,
        event: DpEvent,
        *,
        delta: float,
        relation: NeighbouringRelation,
        unit: PrivacyUnit,
        purpose: str = EVALUATION,
    ) -> Iterator[None]:
        """Charge one act: reserved before, committed after, refunded if it fails between.

        What is computed inside must not leave before the end: then it is committed.

        Raises:
            PrivacyBudgetExhaustedException: no room; nothing was computed or spent.
        """
        charge = charge_of(event, delta=delta, relation=relation, unit=unit)
        with self.store() as store:
            protection, quotas = self.scopes(store, purpose)
            with self.refusals():
                store.reserve(
                    key, protection=protection, quota=quotas, charge=charge, ttl_s=_ACT_TTL_S
                )
            try:
                yield
            except BaseException:
                store.refund(f"{key}:refund", key)
                raise
            store.commit(f"{key}:commit", key)

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """Turn the ledger's refusal for want of room into the trainer's, with its figures."""
        try:
            yield
        except BudgetExhausted as error:
            worst = min(error.shortages, key=lambda each: each.epsilon_remaining)
            with self.store() as store:
                account = store.balance(parse_scope(worst.scope))
            raise self.exhausted(
                worst.epsilon_requested, worst.epsilon_remaining, account, worst.limit
            ) from error

    def exhausted(
        self, requested: float, remaining: float, account: ScopeState, limit: str | None = None
    ) -> PrivacyBudgetExhaustedException:
        """The refusal, with exact amounts and the way to more.

        With a `limit` it is the ledger's own, and `requested` is what the act would add to the
        account's epsilon, beside what is there; that can be more than the act costs alone.
        """
        delta, cap = account.guarantee.delta, account.guarantee.epsilon
        adds = " (what the act would add to it)" if limit is not None else ""
        way = (
            "its window has room again when it is over"
            if limit == "window"
            else f"an officer may grant more: {self.grant_command(account.scope)}"
        )
        return PrivacyBudgetExhaustedException(
            epsilon_requested=requested,
            epsilon_remaining=remaining,
            delta_requested=delta,
            delta_remaining=delta,
            state=f"nothing was spent; account {account.scope} of the ledger promises epsilon "
            f"{cap:.6g}{adds}; {way}",
        )

    def grant_command(self, scope: Scope, *, opening: bool = False) -> str:
        """The command that raises an account, or opens it."""
        named = "/".join(scope.path) if scope.kind is ScopeKind.PROTECTION else str(scope)
        delta = " --delta DELTA" if opening else ""
        return (
            f"privacy-finetuner budget grant {named} --epsilon EPSILON{delta} --by NAME "
            f"--reason WHY --ledger {_shown(self.where)}"
        )

    def _balance(self, store: BudgetStore, scope: Scope) -> ScopeState:
        try:
            return store.balance(scope)
        except UnknownScope:
            raise ConfigurationError(
                f"the ledger has no account {scope}; an officer opens it: "
                f"{self.grant_command(scope, opening=True)}; nothing was started"
            ) from None


def _protection_named(text: str) -> Scope:
    """The scope of `COHORT/SLICE` or `protection/COHORT/SLICE`."""
    return parse_scope(text if text.startswith("protection/") else f"protection/{text}")


def _declared_delta(account: ScopeState) -> float:
    """At which delta one declared act is priced, so that it fits an account like this, unused."""
    if account.currency is Currency.GDP:
        return account.guarantee.delta
    share = math.ldexp(account.caps[-1], -_DELTA_BITS)
    if math.ldexp(share, _DELTA_BITS) > account.caps[-1]:
        share = math.nextafter(share, 0.0)
    return min(share, declared_target(account.guarantee)[1])


def _require_ledger(ledger: LedgerSource) -> None:
    """A mistyped path must not become an empty ledger."""
    if isinstance(ledger, BudgetStore):
        return
    text = os.fspath(ledger)
    path = text.removeprefix("sqlite:///")
    if "://" not in path and not Path(path).is_file():
        raise ConfigurationError(
            f"there is no ledger at {path!r}; `privacy-finetuner budget grant --delta` makes one; "
            "nothing was started"
        )


def _shown(where: LedgerSource) -> str:
    """How to name the ledger in a message: an address may hold a password."""
    if isinstance(where, BudgetStore) or "://" in os.fspath(where):
        return '"$PRIVACY_FINETUNER_LEDGER"'
    return os.fspath(where)
