"""What the ledger can be asked to do: values, checked when they are made.

Every command carries an idempotency key, unique in the whole ledger. The same command under the
same key has the same outcome however often it arrives; another command under it is refused. A
refused command leaves no entry, so its key stays free.

A reservation is named by the key of the `Reserve` that made it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, TypeAlias

from privacy_core.budget.amounts import Amounts
from privacy_core.budget.charges import SLOTS, Charge, Currency
from privacy_core.budget.scopes import Scope, ScopeKind
from privacy_core.errors import InvalidParameter
from privacy_core.guarantee import Guarantee

EXPIRY_PREFIX: Final = "expiry:"
"""Keys of the ledger's own commands; callers may not use them."""
KEY_MOST: Final = 400
TEXT_MOST: Final = 1000
TTL_MOST_S: Final = 366 * 86400
"""Longest time between two signs of life of a reservation, in seconds."""
SCOPES_MOST: Final = 256
"""Most scopes that one reservation names."""


@dataclass(frozen=True, slots=True)
class Signature:
    """Who answers for an act, and why. Whether it is really that person is checked before."""

    person: str
    reason: str

    def __post_init__(self) -> None:
        _require_text("person", self.person)
        _require_text("reason", self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """At most `epsilon` is reserved per `length_s` seconds. It throttles; it never grants.

    Windows are aligned to the epoch. What was reserved in one counts in it for good: a refund
    returns budget to the lifetime cap, not to the window.
    """

    length_s: int
    epsilon: float

    def __post_init__(self) -> None:
        _require_seconds("length_s", self.length_s, most=10 * TTL_MOST_S)
        _require_epsilon("window epsilon", self.epsilon)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAccount:
    """Open an account with a cap.

    Args:
        key: idempotency key.
        scope: whose account.
        guarantee: the cap; of a protection scope it is what its data's subjects are promised.
        currency: what the account counts in, for good.
        signature: who answers for it.
        window: a throttle, on quota scopes only.
        authorisers: who may grant and void here; empty: whoever the platform lets sign.
        caps: a share of another account's caps, on quota scopes only; see `allocation`. None: the
            caps of the guarantee.
    """

    key: str
    scope: Scope
    guarantee: Guarantee
    signature: Signature
    currency: Currency = Currency.RDP
    window: Window | None = None
    authorisers: tuple[str, ...] = ()
    caps: Amounts | None = None

    def __post_init__(self) -> None:
        _require_key(self.key)
        _require_epsilon("epsilon", self.guarantee.epsilon)
        if not 0 <= self.guarantee.delta < 1:
            raise InvalidParameter(
                "delta", found=self.guarantee.delta, expected="a number in [0, 1)"
            )
        if not isinstance(self.currency, Currency):
            raise InvalidParameter(
                "currency", found=self.currency, expected=f"one of {[c.value for c in Currency]}"
            )
        if self.caps is not None and (
            self.scope.kind is not ScopeKind.QUOTA or len(self.caps) != SLOTS[self.currency]
        ):
            raise InvalidParameter(
                "caps",
                found=self.caps,
                expected=f"{SLOTS[self.currency]}, on a quota scope",
            )
        if self.window is not None and self.scope.kind is not ScopeKind.QUOTA:
            raise InvalidParameter(
                "window", found=str(self.scope), expected="a quota scope: data has no new budget"
            )
        for person in self.authorisers:
            _require_text("authoriser", person)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Raise an account's epsilon by `epsilon`; its delta stays.

    It is a new promise: what the data's subjects are guaranteed is from now on the larger cap.
    """

    key: str
    scope: Scope
    epsilon: float
    signature: Signature

    def __post_init__(self) -> None:
        _require_key(self.key)
        if not 0 < self.epsilon < math.inf:
            raise InvalidParameter(
                "grant", found=self.epsilon, expected="a finite number > 0; caps never fall"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserve:
    """Set budget aside for an act, before its first release.

    Args:
        key: idempotency key, and from then on the reservation's name.
        protection: every block (or subject) of data that the act touches, at least one.
        quota: the leaves of the users' tree that it is done for; their ancestors are implied.
        charge: the whole declared act.
        ttl_s: seconds after which, without a sign of life, all of it is committed.
    """

    key: str
    protection: tuple[Scope, ...]
    charge: Charge
    ttl_s: int
    quota: tuple[Scope, ...] = ()

    def __post_init__(self) -> None:
        _require_key(self.key)
        _require_seconds("ttl_s", self.ttl_s, most=TTL_MOST_S)
        if not self.protection:
            raise InvalidParameter("protection", found=(), expected="at least one scope")
        for name, scopes, kind in (
            ("protection", self.protection, ScopeKind.PROTECTION),
            ("quota", self.quota, ScopeKind.QUOTA),
        ):
            if any(scope.kind is not kind for scope in scopes) or len(set(scopes)) < len(scopes):
                raise InvalidParameter(
                    name, found=[str(s) for s in scopes], expected=f"distinct {kind.value} scopes"
                )
        if len(self.protection) + len(self.quota) > SCOPES_MOST:
            raise InvalidParameter(
                "scopes",
                found=len(self.protection) + len(self.quota),
                expected=f"at most {SCOPES_MOST}",
            )

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """All scopes that are charged, ancestors included, each once, sorted."""
        named = (*self.protection, *self.quota)
        return tuple(sorted({above for scope in named for above in scope.with_ancestors}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Watermark:
    """Say, before it happens, what will have been consumed even if the process dies now.

    Args:
        key: idempotency key.
        reservation: the key of its `Reserve`.
        consumed: since the beginning, not since the last watermark.
        ttl_s: a sign of life: the reservation lives at least this long from now. None: as before.
    """

    key: str
    reservation: str
    consumed: Charge
    ttl_s: int | None = None

    def __post_init__(self) -> None:
        _require_key(self.key)
        if self.ttl_s is not None:
            _require_seconds("ttl_s", self.ttl_s, most=TTL_MOST_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """End a reservation by what happened; the rest is given back, at every order.

    Basic composition gives nothing back: an act that stopped early, perhaps because of what it
    saw, is priced there as the whole that was declared.

    Args:
        key: idempotency key.
        reservation: the key of its `Reserve`.
        actual: what happened, at least the watermark, at most the reservation; None: all of it.
    """

    key: str
    reservation: str
    actual: Charge | None = None

    def __post_init__(self) -> None:
        _require_key(self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """End a reservation under which nothing was released."""

    key: str
    reservation: str

    def __post_init__(self) -> None:
        _require_key(self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expire:
    """End a reservation whose time ran out: all of it is committed. The ledger's own command."""

    reservation: str

    @property
    def key(self) -> str:
        """One per reservation: it ends once."""
        return EXPIRY_PREFIX + self.reservation


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposeVoid:
    """The first of two persons says that what was committed was never released to anybody."""

    key: str
    reservation: str
    signature: Signature

    def __post_init__(self) -> None:
        _require_key(self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApproveVoid:
    """A second person agrees; the committed budget is given back."""

    key: str
    reservation: str
    signature: Signature

    def __post_init__(self) -> None:
        _require_key(self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetClock:
    """Accept the present clock after a wrong one ran ahead. Refills nothing."""

    key: str
    signature: Signature

    def __post_init__(self) -> None:
        _require_key(self.key)


Command: TypeAlias = (
    OpenAccount
    | Grant
    | Reserve
    | Watermark
    | Commit
    | Refund
    | Expire
    | ProposeVoid
    | ApproveVoid
    | ResetClock
)


def _require_key(key: str) -> None:
    if (
        not isinstance(key, str)
        or not 0 < len(key) <= KEY_MOST
        or not key.isprintable()
        or key.startswith(EXPIRY_PREFIX)
    ):
        raise InvalidParameter(
            "key",
            found=key,
            expected=f"1 to {KEY_MOST} printable characters, not beginning with {EXPIRY_PREFIX!r}",
        )


def _require_text(name: str, text: str) -> None:
    if not isinstance(text, str) or not text.strip() or len(text) > TEXT_MOST:
        raise InvalidParameter(name, found=text, expected=f"1 to {TEXT_MOST} characters of text")


def _require_seconds(name: str, value: int, *, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
        raise InvalidParameter(name, found=value, expected=f"whole seconds from 1 to {most}")


def _require_epsilon(name: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise InvalidParameter(name, found=value, expected="a finite number >= 0")
