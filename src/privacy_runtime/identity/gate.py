"""Who may try now: the durable half of the lockout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from privacy_runtime.identity.errors import LoginDelayed
from privacy_runtime.identity.lockout import Attempts, LockoutPolicy
from privacy_runtime.identity.schema import ATTEMPTS
from privacy_runtime.identity.sealing import Seal
from privacy_runtime.identity.store import Work, from_us, to_us

LONGEST_SOURCE: Final = 256


@dataclass(frozen=True, slots=True)
class Visitor:
    """An attempt as the tables know it: keyed hashes of a user name and of an address."""

    account: str
    source: str


class Gate:
    """Counts attempts for accounts and sources, known or not, alike.

    Args:
        seal: makes the keyed hashes.
        accounts, sources: how patient to be.
    """

    def __init__(self, seal: Seal, *, accounts: LockoutPolicy, sources: LockoutPolicy) -> None:
        self._seal = seal
        self._accounts, self._sources = accounts, sources

    def visitor(self, name: str, source: str) -> Visitor:
        """Name an attempt. `source` is the client's address, from a proxy that is trusted."""
        account = self._seal.pseudonym(name, purpose="lockout account")
        return Visitor(account, self._seal.pseudonym(source, purpose="lockout source"))

    def enter(self, work: Work, visitor: Visitor) -> LoginDelayed | None:
        """Count an attempt as a failure before it is looked at, or say how long to wait."""
        policies = {visitor.account: self._accounts, visitor.source: self._sources}
        held = self._held(work, sorted(policies))
        wait_s = max(held[who].locked_for_s(policy, work.now) for who, policy in policies.items())
        if wait_s:
            return LoginDelayed(retry_after_s=wait_s)
        for who, policy in policies.items():
            _keep(work, who, held[who].failed(policy, work.now))
        return None

    def delays(self, work: Work, visitor: Visitor) -> dict[str, int]:
        """How long the account and the source wait from now on, in seconds: for the record."""
        held = self._held(work, sorted((visitor.account, visitor.source)))
        return {
            "account": held[visitor.account].locked_for_s(self._accounts, work.now),
            "source": held[visitor.source].locked_for_s(self._sources, work.now),
        }

    def give_back(self, work: Work, visitor: Visitor) -> None:
        """The attempt was no failure, and no login either."""
        for who, attempts in self._held(work, sorted((visitor.account, visitor.source))).items():
            _keep(work, who, attempts.given_back())

    def succeed(self, work: Work, visitor: Visitor) -> None:
        """The attempt was a login: the account begins afresh, the source gets this one back."""
        held = self._held(work, sorted((visitor.account, visitor.source)))
        _keep(work, visitor.account, Attempts())
        _keep(work, visitor.source, held[visitor.source].given_back())

    def forget(self, work: Work) -> int:
        """Delete counts that no longer matter; returns how many."""
        longest = max(self._accounts.forget_s, self._sources.forget_s)
        old = ATTEMPTS.c.last_us < work.now_us - int(longest * 1_000_000)
        return work.run(sa.delete(ATTEMPTS).where(old)).rowcount

    def _held(self, work: Work, whos: Sequence[str]) -> dict[str, Attempts]:
        """The counts, locked in one order; rows are made first, for a lock needs a row."""
        insert: Any = sqlite.insert if _is_sqlite(work) else postgresql.insert
        for who in whos:
            row = {"who": who, "failures": 0, "last_us": work.now_us}
            work.run(insert(ATTEMPTS).values(row).on_conflict_do_nothing())
        query = sa.select(ATTEMPTS).where(ATTEMPTS.c.who.in_(whos)).order_by(ATTEMPTS.c.who)
        rows = work.connection.execute(query.with_for_update()).all()
        return {row.who: Attempts(row.failures, from_us(row.last_us)) for row in rows}


def _keep(work: Work, who: str, attempts: Attempts) -> None:
    last_us = work.now_us if attempts.last is None else to_us(attempts.last)
    row = {"failures": attempts.failures, "last_us": last_us}
    work.run(sa.update(ATTEMPTS).where(ATTEMPTS.c.who == who).values(row))


def _is_sqlite(work: Work) -> bool:
    return work.connection.dialect.name == "sqlite"
