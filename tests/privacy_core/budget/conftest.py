"""A ledger in memory, and the values that its tests share."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from privacy_core.budget import (
    Charge,
    Command,
    Currency,
    Decision,
    LedgerState,
    OpenAccount,
    Reserve,
    Scope,
    ScopeState,
    Signature,
    charge_of,
    decide,
    entry_from_json,
    entry_to_json,
    protection,
    quota,
)
from privacy_core.dp_events import Gaussian, SelfComposed
from privacy_core.guarantee import Guarantee

BLOCK = protection("hospital-a", "2026-08")
TEAM = quota("clinic", "research")
SIGNED = Signature("ada", "the study was approved")


def steps(count: int, noise_multiplier: float = 20.0) -> Charge:
    """A run of so many full-batch steps."""
    return charge_of(SelfComposed(Gaussian(noise_multiplier), count))


@dataclass
class Book:
    """Decides, keeps the entries, and reads each back from its JSON before it counts."""

    state: LedgerState = field(default_factory=LedgerState)
    now_us: int = 1_700_000_000_000_000
    entries: list[Any] = field(default_factory=list)

    def do(self, command: Command) -> Decision:
        """Answer a command at the present time."""
        decision = decide(self.state, command, self.now_us)
        if not decision.is_replay:
            entry = entry_from_json(json.loads(json.dumps(entry_to_json(decision.entry))))
            assert entry == decision.entry
            self.entries.append(entry)
            self.state = self.state.after(entry)
        return decision

    def wait_s(self, seconds: float) -> None:
        """Let the clock run, or jump."""
        self.now_us += int(seconds * 1e6)

    def open(self, scope: Scope, epsilon: float = 2.0, **more: Any) -> None:
        """Open an account."""
        guarantee = Guarantee(epsilon=epsilon, delta=more.pop("delta", 1e-6))
        self.do(
            OpenAccount(
                key=f"open {scope}", scope=scope, guarantee=guarantee, signature=SIGNED, **more
            )
        )

    def reserve(self, key: str, charge: Charge, **more: Any) -> Decision:
        """Reserve on the block, for an hour."""
        more = {"protection": (BLOCK,), "ttl_s": 3600, **more}
        return self.do(Reserve(key=key, charge=charge, **more))

    @property
    def block(self) -> ScopeState:
        """The account of the block."""
        return self.state.scopes[BLOCK]


@pytest.fixture
def empty_book() -> Book:
    """No account is open."""
    return Book()


@pytest.fixture
def book() -> Book:
    """The block has epsilon 2, the clinic and its research team 4."""
    book = Book()
    book.open(BLOCK)
    for scope in TEAM.with_ancestors:
        book.open(scope, 4.0)
    return book


@pytest.fixture
def gaussian_book() -> Book:
    """The block counts in mu^2."""
    book = Book()
    book.open(BLOCK, currency=Currency.GDP)
    return book


@pytest.fixture
def run() -> Any:
    """Make the charge of so many steps."""
    return steps


@pytest.fixture
def block() -> Scope:
    """The protection scope of the books."""
    return BLOCK


@pytest.fixture
def team() -> Scope:
    """The quota leaf of the books."""
    return TEAM


@pytest.fixture
def signed() -> Signature:
    """Ada's signature."""
    return SIGNED
