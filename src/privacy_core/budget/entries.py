"""What happened in the ledger: facts, each with the command that asked for it.

An entry is never changed or removed, and its meaning never changes. `at_us` is the ledger's time in
microseconds since the epoch (UTC); it never goes back, but by a `ClockReset`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from privacy_core.budget.commands import (
    ApproveVoid,
    Commit,
    Expire,
    Grant,
    OpenAccount,
    ProposeVoid,
    Refund,
    Reserve,
    ResetClock,
    Watermark,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountOpened:
    """An account exists. Its caps follow from the guarantee by `caps_of`, and are kept here."""

    command: OpenAccount
    at_us: int
    caps: tuple[int, ...]
    window_caps: tuple[int, ...] = ()

    @property
    def key(self) -> str:
        """The command's idempotency key."""
        return self.command.key


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """An account's epsilon was raised; `caps` are the new ones, in full."""

    command: Grant
    at_us: int
    caps: tuple[int, ...]

    @property
    def key(self) -> str:
        """The command's idempotency key."""
        return self.command.key


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """Budget was set aside in every scope of `command.scopes`."""

    command: Reserve
    at_us: int
    expires_at_us: int

    @property
    def key(self) -> str:
        """The command's idempotency key, and the reservation's name."""
        return self.command.key


@dataclass(frozen=True, slots=True, kw_only=True)
class Watermarked:
    """From now on at least `command.consumed` counts as released."""

    command: Watermark
    at_us: int
    expires_at_us: int

    @property
    def key(self) -> str:
        """The command's idempotency key."""
        return self.command.key


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """A reservation ended by what happened."""

    command: Commit
    at_us: int

    @property
    def key(self) -> str:
        """The command's idempotency key."""
        return self.command.key


@dataclass(frozen=True, slots=True, kw_only=True)
class Refunded:
    """A reservation ended; nothing had been released."""

    command: Refund
    at_us: int

    @property
    def key(self) -> str:
        """The command's idempotency key."""
        return self.command.key


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """A reservation's time ran out; all of it counts as released."""

    command: Expire
    at_us: int

    @property
    def key(self) -> str:
        """The command's key: one per reservation."""
        return self.command.key


@dataclass(frozen=True, slots=True, kw_only=True)
class VoidProposed:
    """The first of two persons signed."""

    command: ProposeVoid
    at_us: int

    @property
    def key(self) -> str:
        """The command's idempotency key."""
        return self.command.key


@dataclass(frozen=True, slots=True, kw_only=True)
class Voided:
    """The second person signed; what was committed was given back."""

    command: ApproveVoid
    at_us: int

    @property
    def key(self) -> str:
        """The command's idempotency key."""
        return self.command.key


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockReset:
    """The ledger's time is `at_us`, also if that is earlier than before."""

    command: ResetClock
    at_us: int

    @property
    def key(self) -> str:
        """The command's idempotency key."""
        return self.command.key


Entry: TypeAlias = (
    AccountOpened
    | Granted
    | Reserved
    | Watermarked
    | Committed
    | Refunded
    | Expired
    | VoidProposed
    | Voided
    | ClockReset
)
