"""Allowances that forget with the process: the same rules without a disk, for tests."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field

from privacy_runtime.allowances.rows import Account, CapRaise, Changes, Loaded, Reservation
from privacy_runtime.allowances.schema import raised_caps, require_same


@dataclass(eq=False)
class MemoryRows:
    """What several `MemoryHome`s may share, as processes would."""

    accounts: dict[str, Account] = field(default_factory=dict)
    reservations: dict[str, Reservation] = field(default_factory=dict)
    raises: dict[str, CapRaise] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


class MemoryHome:
    """The contract of a home without a disk."""

    name = "memory"

    def __init__(self, rows: MemoryRows | None = None) -> None:
        self.rows = rows or MemoryRows()
        self._in_transaction = False

    def load(self, keys: Sequence[str], names: Sequence[str]) -> Loaded:
        """Take the lock, and copy."""
        self.rows.lock.acquire()
        self._in_transaction = True
        stored = self.rows.reservations
        reservations = {key: copy(stored[key]) for key in keys if key in stored}
        wanted = {*names, *(name for row in reservations.values() for name in row.held)}
        accounts = self.rows.accounts
        return Loaded(
            reservations, {name: copy(accounts[name]) for name in wanted if name in accounts}
        )

    def commit(self, changes: Changes) -> None:
        """Replace the rows."""
        rows = self.rows
        rows.reservations.update(changes.added)
        rows.reservations.update(changes.ended)
        rows.accounts.update(changes.accounts)
        old = [
            row
            for row in rows.reservations.values()
            if row.ended_us is not None and row.ended_us < changes.forget_before_us
        ]
        old.sort(key=lambda row: row.ended_us or 0)
        for row in old[: changes.forget_most]:
            del rows.reservations[row.key]

    def rollback(self, *, unchanged: bool = False) -> None:
        """Release the lock."""
        if self._in_transaction:
            self._in_transaction = False
            self.rows.lock.release()

    def due(self, now_us: int, most: int) -> list[str]:
        """Return keys of open reservations whose deadline is not after `now_us`."""
        with self.rows.lock:
            due = [
                (row.deadline_us, row.key)
                for row in self.rows.reservations.values()
                if row.ended_us is None and row.deadline_us <= now_us
            ]
        return [key for _, key in sorted(due)[:most]]

    def look(self, names: Sequence[str]) -> dict[str, Account]:
        """Read accounts."""
        with self.rows.lock:
            accounts = self.rows.accounts
            return {name: copy(accounts[name]) for name in names if name in accounts}

    def reservations(self, prefix: str) -> list[Reservation]:
        """Read reservations."""
        with self.rows.lock:
            found = sorted(key for key in self.rows.reservations if key.startswith(prefix))
            return [copy(self.rows.reservations[key]) for key in found]

    def open_accounts(self, caps: Mapping[str, int]) -> None:
        """Add the accounts that are missing."""
        with self.rows.lock:
            for name, cap in caps.items():
                self.rows.accounts.setdefault(name, Account(cap))

    def raise_caps(self, raised: CapRaise) -> None:
        """Add to caps and keep the raise, once for its key."""
        with self.rows.lock:
            earlier = self.rows.raises.get(raised.key)
            if earlier is not None:
                require_same(earlier, raised)
                return
            caps = {name: row.cap for name, row in self.rows.accounts.items()}
            for name, cap in raised_caps(caps, raised).items():
                self.rows.accounts[name].cap = cap
            self.rows.raises[raised.key] = raised

    def raises(self) -> list[CapRaise]:
        """Every raise, the oldest first."""
        with self.rows.lock:
            return sorted(self.rows.raises.values(), key=lambda row: (row.at, row.key))

    def close(self) -> None:
        """Nothing to let go of."""
