"""Logging in and changing a password: the two acts that a password is good for.

In both, in this order: (1) one transaction counts the attempt and reads the hash; (2) argon2 runs
outside any lock; (3) one transaction checks that nothing changed meanwhile and decides. What a
stranger learns is one message, in one time, whether the user exists or not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from privacy_runtime.identity.errors import (
    CodeRequired,
    IdentityError,
    LoginRefused,
    PasswordChangeRequired,
    PasswordRefused,
)
from privacy_runtime.identity.gate import Gate, Visitor
from privacy_runtime.identity.passwords import Passwords
from privacy_runtime.identity.schema import USERS
from privacy_runtime.identity.scopes import Method
from privacy_runtime.identity.second_factors import SecondFactors
from privacy_runtime.identity.sessions import Sessions, Tokens
from privacy_runtime.identity.store import Store, Work
from privacy_runtime.identity.user_rows import end_all, is_name, is_open, select_user, spelled

_Answer = TypeVar("_Answer")
ONE_TIME_VALID_S: Final = 72 * 3600
"""For how long a one-time password may be used, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    visitor: Visitor
    user: str | None
    hash: str | None = field(repr=False)
    fits: bool


class Logins:
    """Checks passwords and codes, and hands out sessions.

    Args:
        store, gate, passwords, factors, sessions: the parts.
    """

    def __init__(
        self,
        store: Store,
        *,
        gate: Gate,
        passwords: Passwords,
        factors: SecondFactors,
        sessions: Sessions,
    ) -> None:
        self._store, self._gate, self._passwords = store, gate, passwords
        self._factors, self._sessions = factors, sessions

    def log_in(self, name: str, password: str, *, source: str, code: str | None = None) -> Tokens:
        """Log in. Takes tens of milliseconds and 19 MiB: call it in a small pool of threads.

        Args:
            name: user name, in any case.
            password: as typed.
            source: the client's address, from a proxy that is trusted; kept as a keyed hash.
            code: of the authenticator, or a recovery code, where the user has a second factor.

        Raises:
            LoginRefused: whatever is wrong.
            LoginDelayed: too many failures; nothing was checked.
            CodeRequired: the password is right, and a code is needed.
            PasswordChangeRequired: the password is right, and for one use only.
        """
        attempt = self._attempt(name, password, source)
        risen = None
        if attempt.fits and attempt.hash and self._passwords.is_outdated(attempt.hash):
            risen = self._passwords.hash(password)

        def found(work: Work, row: sa.Row[Any]) -> Tokens:
            self._gate.succeed(work, attempt.visitor)
            if risen is not None:
                _set(work, row.id, password_hash=risen)
            has_code = row.seed is not None
            method = Method.PASSWORD_AND_CODE if has_code else Method.PASSWORD
            return self._sessions.found(work, row, method)

        return self._store.change(
            lambda work: self._decide(work, attempt, code, found, one_time=False)
        )

    def change_password(
        self, name: str, old: str, new: str, *, source: str, code: str | None = None
    ) -> None:
        """Replace a password, one-time ones as well. Every session of the user ends.

        Args:
            name: user name, in any case.
            old: the password in force.
            new: the new password.
            source: as for a login.
            code: as for a login.

        Raises:
            PasswordRefused: the new one cannot be used, or is the old one; the old one stands.
            LoginRefused, LoginDelayed, CodeRequired: as for a login.
        """
        self._passwords.require_usable(new, about=name)
        if new == old:
            raise PasswordRefused("is the old one")
        attempt = self._attempt(name, old, source)
        fresh = self._passwords.hash(new) if attempt.fits else ""

        def change(work: Work, row: sa.Row[Any]) -> None:
            self._gate.succeed(work, attempt.visitor)
            _set(work, row.id, password_hash=fresh, one_time_until_us=None)
            ended = end_all(work, row.id, reason="password_changed")
            work.say("password_changed", subject=row.id, sessions=ended)

        self._store.change(lambda work: self._decide(work, attempt, code, change, one_time=True))

    def _attempt(self, name: str, password: str, source: str) -> _Attempt:
        """Count an attempt, then see whether the password fits: steps 1 and 2."""
        name = spelled(name)
        visitor, known = self._gate.visitor(name, source), is_name(name)

        def enter(work: Work) -> sa.Row[Any] | IdentityError | None:
            delayed = self._gate.enter(work, visitor)
            if delayed is not None:
                return delayed
            # A text that can be nobody's name is not shown to the database at all.
            return work.connection.execute(select_user(name=name)).one_or_none() if known else None

        row = self._store.change(enter)
        kept = None if row is None else row.password_hash
        fits = self._passwords.verify(kept, password)
        return _Attempt(visitor=visitor, user=None if row is None else row.id, hash=kept, fits=fits)

    def _decide(
        self,
        work: Work,
        attempt: _Attempt,
        code: str | None,
        then: Callable[[Work, sa.Row[Any]], _Answer],
        *,
        one_time: bool,
    ) -> _Answer | IdentityError:
        """Step 3. `one_time` is whether a one-time password will do."""
        row = None
        if attempt.user is not None:
            row = work.one(select_user(user=attempt.user), lock=USERS)
        if row is None:
            return self._refused(work, attempt, "unknown_user")
        if reason := _objection(work, row, attempt):
            return self._refused(work, attempt, reason)
        if row.one_time_until_us is not None and not one_time:
            self._gate.give_back(work, attempt.visitor)
            return PasswordChangeRequired("the password must be changed first; nothing was opened")
        if row.seed is not None:
            if not code:
                self._gate.give_back(work, attempt.visitor)
                return CodeRequired("a code of the second factor is needed; nothing was opened")
            if not self._factors.accepts(work, row, code):
                return self._refused(work, attempt, "wrong_code")
        return then(work, row)

    def _refused(self, work: Work, attempt: _Attempt, reason: str) -> LoginRefused:
        """The attempt stays counted. The reason is for the journal alone."""
        work.say(
            "login_refused",
            subject=attempt.user,
            source=attempt.visitor.source,
            reason=reason,
            delays_s=self._gate.delays(work, attempt.visitor),
        )
        return LoginRefused()


def _objection(work: Work, row: sa.Row[Any], attempt: _Attempt) -> str:
    """Why a user whose row is held may not log in with this; empty if they may."""
    if not attempt.fits:
        return "wrong_password"
    if row.password_hash != attempt.hash:
        return "password_changed_meanwhile"
    if not is_open(row):
        return "disabled"
    if row.one_time_until_us is not None and work.now_us >= row.one_time_until_us:
        return "one_time_password_expired"
    return ""


def _set(work: Work, user: str, **values: object) -> None:
    work.run(sa.update(USERS).where(USERS.c.id == user).values(values))
