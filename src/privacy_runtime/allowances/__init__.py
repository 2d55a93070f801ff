"""Allowances: whole-numbered amounts of many accounts, debited durably before they are used."""

from privacy_runtime.allowances.contract import AMOUNT_MAX, Allowances, Balance, Reserved
from privacy_runtime.allowances.errors import (
    AllowanceExhausted,
    AllowancesError,
    AllowancesUnavailable,
    InvalidAmount,
    KeyReused,
    ReservationEnded,
    UnknownAccount,
    UnknownReservation,
)
from privacy_runtime.allowances.homes import open_allowances
from privacy_runtime.allowances.memory import MemoryHome, MemoryRows
from privacy_runtime.allowances.rows import CapRaise
from privacy_runtime.allowances.store import KEEP_S, AsyncAllowances, Store

__all__ = [
    "AMOUNT_MAX",
    "KEEP_S",
    "AllowanceExhausted",
    "Allowances",
    "AllowancesError",
    "AllowancesUnavailable",
    "AsyncAllowances",
    "Balance",
    "CapRaise",
    "InvalidAmount",
    "KeyReused",
    "MemoryHome",
    "MemoryRows",
    "ReservationEnded",
    "Reserved",
    "Store",
    "UnknownAccount",
    "UnknownReservation",
    "open_allowances",
]
