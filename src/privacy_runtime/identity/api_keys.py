"""API keys: for programs, shown once, kept as a hash, with fewer scopes than their owner.

    pf_ID_SECRETCHECKSUM       ID 80 bits, SECRET 256 bits, CHECKSUM CRC-32; base32, lower case

The fixed beginning and the checksum let scanners find a key that was committed by mistake, and
spare a look into the database for one that was mistyped. The secret is 256 random bits: one round
of SHA-256 keeps it as well as a slow hash would, and a key for an HMAC would have to be kept too.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from privacy_core.errors import InvalidParameter
from privacy_runtime.identity.errors import ApiKeyRefused, NotAllowed, UnknownAccount
from privacy_runtime.identity.schema import API_KEYS, ORGANISATIONS, USERS
from privacy_runtime.identity.scopes import (
    PEOPLE_ONLY,
    ROLE_SCOPES,
    Method,
    Principal,
    Role,
    Scope,
    require,
)
from privacy_runtime.identity.store import Store, Work, from_us
from privacy_runtime.identity.user_rows import is_id, is_open
from privacy_runtime.secret import Secret
from privacy_runtime.world import Entropy

PREFIX: Final = "pf"
MOST_DAYS: Final = 366
LABEL_MAX: Final = 128
_FORM: Final = re.compile(r"pf_([a-z2-7]{16})_([a-z2-7]{52})([a-z2-7]{7})")
_ID_BYTES: Final = 10
_SECRET_BYTES: Final = 32
_HOUR_US: Final = 3_600_000_000
_DAY_US: Final = 24 * _HOUR_US


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as its owner sees it afterwards. `used_at` is to the hour."""

    id: str
    owner: str
    label: str
    scopes: frozenset[Scope]
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None
    is_revoked: bool


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key; its text is shown once."""

    key: ApiKey
    text: Secret = field(repr=False)


class ApiKeys:
    """Issues, checks and revokes keys.

    Args:
        store: where they are kept.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def issue(
        self, by: Principal, *, label: str, scopes: Iterable[Scope], valid_days: int = 90
    ) -> IssuedKey:
        """Make a key for oneself.

        Args:
            by: a person who may (`keys:own`).
            label: what it is for; shown in lists.
            scopes: some of one's own; none that asks for a person (`PEOPLE_ONLY`).
            valid_days: 1 to 366.

        Raises:
            NotAllowed: a scope that one does not have, or that no key carries.
            InvalidParameter: label, scopes or validity.
        """
        require(by, Scope.KEYS_OWN, tenant=by.tenant)
        asked = frozenset(scopes)
        if not asked or not 0 < len(label) <= LABEL_MAX or not label.isprintable():
            raise InvalidParameter(
                "label, scopes", found="another form", expected="a printable label, a scope or more"
            )
        if not 1 <= valid_days <= MOST_DAYS:
            raise InvalidParameter("valid_days", found=valid_days, expected=f"1 to {MOST_DAYS}")
        for scope in sorted(asked):
            if scope not in by.scopes or scope in PEOPLE_ONLY:
                raise NotAllowed(by.subject, scope=scope)
        text = new_key_text(self._store.entropy)
        key_id = _parts(text)[0]

        def issue(work: Work) -> IssuedKey:
            work.run(
                sa.insert(API_KEYS).values(
                    id=key_id,
                    user=by.subject,
                    label=label,
                    hash=_hash(text),
                    scopes=" ".join(sorted(asked)),
                    created_us=work.now_us,
                    ends_us=work.now_us + valid_days * _DAY_US,
                )
            )
            work.say("api_key_issued", subject=by.subject, api_key=key_id, scopes=sorted(asked))
            row = work.connection.execute(sa.select(API_KEYS).where(API_KEYS.c.id == key_id)).one()
            return IssuedKey(_key_of(row), Secret(text))

        return self._store.change(issue)

    def authenticate(self, text: str) -> Principal:
        """Say whose program bears a key, and what it may: no more than its owner's role does now.

        Raises:
            ApiKeyRefused: whatever is wrong.
        """
        key_id, digest = _parts(text)[0], _hash(text)
        row = self._store.read(
            lambda connection: connection.execute(_standing(key_id)).one_or_none()
        )
        now = self._store.clock.now()
        kept = "" if row is None else row.hash
        if not hmac.compare_digest(kept, digest) or row is None:
            raise ApiKeyRefused("there is no such key")
        is_over = row.revoked_us is not None or now >= from_us(row.ends_us)
        if is_over or not is_open(row):
            raise ApiKeyRefused("the key was revoked, has expired, or its owner is disabled")
        self._note_use(row, now)
        asked = frozenset(Scope(name) for name in row.scopes.split())
        return Principal(
            subject=row.user,
            tenant=row.tenant,
            scopes=(asked & ROLE_SCOPES[Role(row.role)]) - PEOPLE_ONLY,
            method=Method.API_KEY,
            authenticated_at=now,
            session=key_id,
        )

    def revoke(self, by: Principal, key_id: str) -> None:
        """Refuse a key from now on: one's own, or any of the organisation as an administrator.

        Raises:
            UnknownAccount: there is no such key, or it is another organisation's.
            NotAllowed: it is somebody else's.
        """

        def revoke(work: Work) -> None:
            known = _standing(key_id)
            row = work.connection.execute(known).one_or_none() if is_id(key_id) else None
            if row is None or row.tenant != by.tenant:
                raise UnknownAccount("there is no such key; nothing was changed")
            scope = Scope.KEYS_OWN if row.user == by.subject else Scope.KEYS_ALL
            require(by, scope, tenant=row.tenant)
            living = sa.update(API_KEYS).where(
                API_KEYS.c.id == key_id, API_KEYS.c.revoked_us.is_(None)
            )
            if work.run(living.values(revoked_us=work.now_us)).rowcount:
                work.say("api_key_revoked", by=by.subject, subject=row.user, api_key=key_id)

        self._store.change(revoke)

    def keys(self, by: Principal) -> list[ApiKey]:
        """One's own keys, or all of the organisation's for an administrator; oldest first."""
        query = sa.select(API_KEYS).join(USERS, USERS.c.id == API_KEYS.c.user)
        query = query.where(USERS.c.tenant == by.tenant).order_by(API_KEYS.c.created_us)
        if Scope.KEYS_ALL not in by.scopes:
            require(by, Scope.KEYS_OWN, tenant=by.tenant)
            query = query.where(API_KEYS.c.user == by.subject)
        return self._store.read(lambda c: [_key_of(row) for row in c.execute(query)])

    def _note_use(self, row: sa.Row[Any], now: datetime) -> None:
        """Keep the hour of the last use: enough to find keys that nobody uses."""
        hour_us = int(now.timestamp()) // 3600 * _HOUR_US
        if row.used_us != hour_us:
            noted = sa.update(API_KEYS).where(API_KEYS.c.id == row.id).values(used_us=hour_us)
            self._store.database.change(lambda connection: connection.execute(noted))


def new_key_text(entropy: Entropy) -> str:
    """Make the text of a key."""
    head = f"{PREFIX}_{_spelled(entropy.token_bytes(_ID_BYTES))}_"
    body = head + _spelled(entropy.token_bytes(_SECRET_BYTES))
    return body + _checksum(body)


def is_key_text(text: str) -> bool:
    """Whether a text is spelled as a key, checksum included: for scanners. Asks no database."""
    form = _FORM.fullmatch(text)
    return form is not None and _checksum(text[: -len(form[3])]) == form[3]


def _parts(text: str) -> tuple[str, str]:
    form = _FORM.fullmatch(text)
    if form is None or not is_key_text(text):
        raise ApiKeyRefused("the text is not spelled as a key")
    return form[1], form[2]


def _standing(key_id: str) -> sa.Select[Any]:
    return (
        sa.select(
            API_KEYS,
            USERS.c.tenant,
            USERS.c.role,
            USERS.c.disabled_us,
            ORGANISATIONS.c.disabled_us.label("tenant_disabled_us"),
        )
        .join(USERS, USERS.c.id == API_KEYS.c.user)
        .join(ORGANISATIONS, ORGANISATIONS.c.id == USERS.c.tenant)
        .where(API_KEYS.c.id == key_id)
    )


def _key_of(row: sa.Row[Any]) -> ApiKey:
    return ApiKey(
        id=row.id,
        owner=row.user,
        label=row.label,
        scopes=frozenset(Scope(name) for name in row.scopes.split()),
        created_at=from_us(row.created_us),
        expires_at=from_us(row.ends_us),
        used_at=None if row.used_us is None else from_us(row.used_us),
        is_revoked=row.revoked_us is not None,
    )


def _hash(text: str) -> str:
    return hashlib.sha256(b"identity api key|" + text.encode()).hexdigest()


def _checksum(body: str) -> str:
    return _spelled(binascii.crc32(body.encode()).to_bytes(4, "big"))


def _spelled(raw: bytes) -> str:
    return base64.b32encode(raw).decode().rstrip("=").lower()
