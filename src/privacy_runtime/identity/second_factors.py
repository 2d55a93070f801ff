"""The second factor of a user: enrolled with confirmation, used once a step, recovered once a code.

A seed is sealed for its user (`sealing`); recovery codes are kept as hashes and deleted when used.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa

from privacy_runtime.identity.codes import (
    Enrolment,
    enrolment_of,
    matching_step,
    new_recovery_codes,
    new_seed,
    recovery_hash,
)
from privacy_runtime.identity.errors import (
    AccountConflict,
    EnrolmentRefused,
    IdentityError,
    StaleLogin,
)
from privacy_runtime.identity.schema import RECOVERY_CODES, USERS
from privacy_runtime.identity.scopes import Principal, Scope, require
from privacy_runtime.identity.sealing import Seal
from privacy_runtime.identity.store import Store, Work
from privacy_runtime.identity.user_rows import end_all, held_user
from privacy_runtime.secret import Secret

FRESH_S: Final = 600.0
NO_STEP: Final = -1
_PURPOSE: Final = "totp"


class SecondFactors:
    """Enrols, checks and resets second factors.

    Args:
        store: where they are kept.
        seal: for the seeds.
        issuer: what an authenticator shows beside the account.
    """

    def __init__(self, store: Store, seal: Seal, *, issuer: str) -> None:
        self._store, self._seal, self._issuer = store, seal, issuer

    def begin(self, principal: Principal) -> Enrolment:
        """Make a seed for an authenticator, shown once; it counts after `confirm`.

        A factor that is in use stays in use until then.

        Raises:
            NotAllowed: an API key, or no scope.
            StaleLogin: the login is more than ten minutes ago: a stolen token must not be enough
                to put a thief's authenticator in.
        """
        seed = new_seed(self._store.entropy)

        def begin(work: Work) -> Enrolment:
            row = self._own_row(work, principal)
            sealed = self._seal.seal(seed, purpose=_PURPOSE, owner=row.id)
            _update(work, row.id, seed_pending=sealed)
            work.say("enrolment_begun", subject=row.id)
            return enrolment_of(seed, account=row.name, issuer=self._issuer)

        return self._store.change(begin)

    def confirm(self, principal: Principal, code: str) -> list[Secret]:
        """Check the first code of the new authenticator, and put it in force.

        Every session ends: those before had one factor, or the old one. Returns ten recovery
        codes, shown once; older ones are void.

        Raises:
            EnrolmentRefused: nothing is being enrolled, or the code does not fit. The factor in
                force, if there is one, stays.
            NotAllowed, StaleLogin: as `begin`.
        """
        codes = new_recovery_codes(self._store.entropy)

        def confirm(work: Work) -> list[Secret] | IdentityError:
            row = self._own_row(work, principal)
            if row.seed_pending is None:
                return EnrolmentRefused("no second factor is being enrolled")
            seed = self._seal.open(row.seed_pending, purpose=_PURPOSE, owner=row.id)
            step = matching_step(seed, code, now=work.now, used=NO_STEP)
            if step is None:
                return EnrolmentRefused("the code does not fit; nothing was put in force")
            _update(work, row.id, seed=row.seed_pending, seed_pending=None, step_used=step)
            self._replace_recovery_codes(work, row.id, codes)
            end_all(work, row.id, reason="second_factor_enrolled")
            work.say("second_factor_enrolled", subject=row.id)
            return [Secret(each) for each in codes]

        return self._store.change(confirm)

    def renew_recovery_codes(self, principal: Principal) -> list[Secret]:
        """Void the recovery codes and hand out ten others, once.

        Raises:
            EnrolmentRefused: there is no second factor.
            NotAllowed, StaleLogin: as `begin`.
        """
        codes = new_recovery_codes(self._store.entropy)

        def renew(work: Work) -> list[Secret] | IdentityError:
            row = self._own_row(work, principal)
            if row.seed is None:
                return EnrolmentRefused("there is no second factor to recover")
            self._replace_recovery_codes(work, row.id, codes)
            work.say("recovery_codes_renewed", subject=row.id)
            return [Secret(each) for each in codes]

        return self._store.change(renew)

    def reset(self, by: Principal, user: str) -> None:
        """Remove a user's second factor, as an administrator who is not that user.

        Raises:
            NotAllowed, WrongTenant: as `require`.
            AccountConflict: nobody resets their own.
        """

        def reset(work: Work) -> None:
            held_user(work, by, user, Scope.USERS_WRITE)
            if by.subject == user:
                raise AccountConflict("nobody resets their own factor; nothing was changed")
            _update(work, user, seed=None, seed_pending=None, step_used=NO_STEP)
            self._replace_recovery_codes(work, user, [])
            end_all(work, user, reason="second_factor_reset")
            work.say("second_factor_reset", by=by.subject, subject=user)

        self._store.change(reset)

    def accepts(self, work: Work, row: sa.Row[Any], code: str) -> bool:
        """Whether a code is right and unspent; it is spent now. The user's row is held."""
        seed = self._seal.open(row.seed, purpose=_PURPOSE, owner=row.id)
        step = matching_step(seed, code, now=work.now, used=row.step_used)
        if step is not None:
            _update(work, row.id, step_used=step)
            return True
        used = sa.delete(RECOVERY_CODES).where(
            RECOVERY_CODES.c.user == row.id, RECOVERY_CODES.c.hash == recovery_hash(row.id, code)
        )
        if not work.run(used).rowcount:
            return False
        left = sa.select(sa.func.count()).where(RECOVERY_CODES.c.user == row.id)
        remaining = work.connection.execute(left).scalar_one()
        work.say("recovery_code_used", subject=row.id, remaining=remaining)
        return True

    def _own_row(self, work: Work, principal: Principal) -> sa.Row[Any]:
        require(principal, Scope.ACCOUNT_SELF, tenant=principal.tenant)
        age = work.now - principal.authenticated_at
        if not timedelta(seconds=-1) <= age <= timedelta(seconds=FRESH_S):
            raise StaleLogin(principal.subject, scope=Scope.ACCOUNT_SELF)
        return held_user(work, principal, principal.subject, Scope.ACCOUNT_SELF)

    def _replace_recovery_codes(self, work: Work, user: str, codes: list[str]) -> None:
        work.run(sa.delete(RECOVERY_CODES).where(RECOVERY_CODES.c.user == user))
        rows = [{"user": user, "hash": recovery_hash(user, code)} for code in codes]
        if rows:
            work.run(sa.insert(RECOVERY_CODES).values(rows))


def _update(work: Work, user: str, **values: object) -> None:
    work.run(sa.update(USERS).where(USERS.c.id == user).values(values))
