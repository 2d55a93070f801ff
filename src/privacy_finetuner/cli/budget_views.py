"""Accounts, reservations and histories as documents for programs and tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from privacy_core import dp_events
from privacy_runtime.budget_store import Reservation, Scope, ScopeKind, ScopeState, Standing


def history_table(scope: Scope, standings: Sequence[Standing]) -> Table:
    """One row an entry."""
    table = _table(f"History of {name_of(scope)}")
    for heading in ("entry", "at", "what"):
        table.add_column(heading, no_wrap=True)
    for heading in ("spent", "+ held", "cap"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("by: reason", overflow="fold", min_width=18)
    for each in standings:
        table.add_row(
            str(each.seq),
            f"{each.at:%y-%m-%d %H:%M}",
            each.kind,
            f"{each.epsilon_committed:.4g}",
            f"{each.epsilon_if_all_commit:.4g}",
            f"{each.epsilon_cap:.4g}",
            f"{each.by}: {each.reason}" if each.by else each.key,
        )
    return table


def name_of(scope: Scope) -> str:
    """A scope as people write it: a block of data without its kind."""
    return "/".join(scope.path) if scope.kind is ScopeKind.PROTECTION else str(scope)


def account_document(state: ScopeState) -> dict[str, Any]:
    """An account for programs."""
    return {
        "account": str(state.scope),
        "is_guarantee": state.scope.kind is ScopeKind.PROTECTION,
        "epsilon": state.guarantee.epsilon,
        "delta": state.guarantee.delta,
        "relation": state.guarantee.relation.value,
        "unit": state.guarantee.unit.value,
        "epsilon_spent": state.epsilon_committed,
        "epsilon_if_all_commit": state.epsilon_if_all_commit,
        "epsilon_remaining": state.epsilon_remaining,
        "currency": state.currency.value,
        "entries": state.version,
    }


def account_table(states: Sequence[ScopeState], waiting: Sequence[Reservation] = ()) -> Table:
    """One row an account."""
    table = _table("Privacy budgets")
    table.add_column("account", overflow="fold", min_width=22)
    for heading in ("epsilon", "spent", "+ held", "left", "delta"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("protects", no_wrap=True)
    for state in states:
        is_guarantee = state.scope.kind is ScopeKind.PROTECTION
        table.add_row(
            name_of(state.scope),
            f"{state.guarantee.epsilon:.4g}",
            f"{state.epsilon_committed:.4g}",
            f"{state.epsilon_if_all_commit:.4g}",
            f"{state.epsilon_remaining:.4g}",
            f"{state.guarantee.delta:g}",
            f"each {state.guarantee.unit.value}" if is_guarantee else "nobody: quota",
        )
    if waiting:
        table.caption = "open reservations: " + ", ".join(held.key for held in waiting)
    return table


def reservation_document(held: Reservation) -> dict[str, Any]:
    """A reservation for programs."""
    return {
        "reservation": held.key,
        "scopes": [str(scope) for scope in held.scopes],
        "status": held.status.value,
        "started": held.watermark is not None,
        "at_us": held.at_us,
        "expires_at_us": held.expires_at_us,
        "event": dp_events.to_json(held.charge.event),
        "void_proposed_by": held.void_proposed_by,
    }


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
