"""Budget decisions: a pure fold over journal entries, and pure answers to requests.

`decide(state, command, now_us)` answers with an entry or raises; `fold(entries)` is the state. Only
`privacy_runtime.budget_store` calls them: what is decided here is not durable yet.
"""

from __future__ import annotations

from privacy_core.budget.allocation import (
    USUAL_SHARES,
    divide,
    shares_of,
    steps_by_epoch,
    steps_within,
)
from privacy_core.budget.amounts import INFINITE, Amounts
from privacy_core.budget.charges import (
    Charge,
    Currency,
    caps_of,
    charge_of,
    declared_target,
)
from privacy_core.budget.codec import (
    charge_from_json,
    charge_to_json,
    entry_from_json,
    entry_to_json,
    reservation_from_json,
    reservation_to_json,
    scope_state_from_json,
    scope_state_to_json,
)
from privacy_core.budget.commands import (
    ApproveVoid,
    Command,
    Commit,
    Expire,
    Grant,
    OpenAccount,
    ProposeVoid,
    Refund,
    Reserve,
    ResetClock,
    Signature,
    Watermark,
    Window,
)
from privacy_core.budget.decisions import Decision, decide, involved_scopes
from privacy_core.budget.entries import (
    AccountOpened,
    ClockReset,
    Committed,
    Entry,
    Expired,
    Granted,
    Refunded,
    Reserved,
    Voided,
    VoidProposed,
    Watermarked,
)
from privacy_core.budget.scopes import Scope, ScopeKind, parse_scope, protection, quota
from privacy_core.budget.states import LedgerState, Reservation, ScopeState, Status, fold

__all__ = [
    "INFINITE",
    "USUAL_SHARES",
    "AccountOpened",
    "Amounts",
    "ApproveVoid",
    "Charge",
    "ClockReset",
    "Command",
    "Commit",
    "Committed",
    "Currency",
    "Decision",
    "Entry",
    "Expire",
    "Expired",
    "Grant",
    "Granted",
    "LedgerState",
    "OpenAccount",
    "ProposeVoid",
    "Refund",
    "Refunded",
    "Reservation",
    "Reserve",
    "Reserved",
    "ResetClock",
    "Scope",
    "ScopeKind",
    "ScopeState",
    "Signature",
    "Status",
    "VoidProposed",
    "Voided",
    "Watermark",
    "Watermarked",
    "Window",
    "caps_of",
    "charge_from_json",
    "charge_of",
    "charge_to_json",
    "decide",
    "declared_target",
    "divide",
    "entry_from_json",
    "entry_to_json",
    "fold",
    "involved_scopes",
    "parse_scope",
    "protection",
    "quota",
    "reservation_from_json",
    "reservation_to_json",
    "scope_state_from_json",
    "scope_state_to_json",
    "shares_of",
    "steps_by_epoch",
    "steps_within",
]
