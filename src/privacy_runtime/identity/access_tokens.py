"""Access tokens: JSON Web Tokens of one form, signed with Ed25519, for fifteen minutes.

    header  {"alg": "EdDSA", "kid": ..., "typ": "at+jwt"}          nothing else
    claims  iss aud sub tenant scope jti sid amr iat nbf exp auth_time   (and `privacy_budget`)

The key decides the algorithm; the header is only checked to say the same. `privacy_budget` is
written because the documents show it, and is never read: what is left stands in the ledger.

Sources: RFC 7519 (JWT), RFC 9068 (JWT access tokens), RFC 8725 (best practices; sections 3.1, 3.8,
3.9, 3.11), RFC 8037 (EdDSA), RFC 7515 section 4.1.11 (`crit`).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn

import jwt

from privacy_core.errors import InvalidParameter
from privacy_runtime.identity.errors import (
    ClaimsRefused,
    CriticalHeader,
    SignatureRefused,
    TokenExpired,
    TokenMalformed,
    TokenNotYetValid,
    UnexpectedHeader,
    UnknownTokenKey,
    WrongAlgorithm,
    WrongAudience,
    WrongIssuer,
    WrongType,
)
from privacy_runtime.identity.scopes import Method, Principal, Scope
from privacy_runtime.identity.token_keys import TokenKeys
from privacy_runtime.signing import KeyExpired, NotCanonical, parse_json
from privacy_runtime.world import Clock, Entropy

LIFETIME_S: Final = 900
SKEW_S: Final = 30
MOST_BYTES: Final = 4096
_TYPE: Final = "at+jwt"
_ALGORITHM: Final = "EdDSA"
_JTI_BYTES: Final = 16
_TEXTS: Final = ("iss", "aud", "sub", "tenant", "scope", "jti", "sid", "amr")
_INSTANTS: Final = ("iat", "nbf", "exp", "auth_time")
_INFORMATIVE: Final = "privacy_budget"
_INSTANT_MAX: Final = 253_402_300_799  # the last second of the year 9999
_TOKEN_CHECKS: Final[Any] = {
    "verify_signature": True,
    # Times, audience and issuer are ours to check: on our clock, each with its own error.
    **{f"verify_{claim}": False for claim in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a verified token says. Whether it was revoked since is for `Sessions` to say."""

    subject: str
    tenant: str
    scopes: frozenset[Scope]
    method: Method
    session: str
    token_id: str
    issued_at: datetime
    expires_at: datetime
    authenticated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPolicy:
    """For whom tokens are and how long they last.

    Args:
        issuer, audience: texts that issuing and verifying sides agree on.
        lifetime_s: seconds; the documents' 3600 is allowed, the default is 900.
        skew_s: by how much clocks of two machines may differ, in seconds.
    """

    issuer: str
    audience: str
    lifetime_s: int = LIFETIME_S
    skew_s: int = SKEW_S

    def __post_init__(self) -> None:
        if not self.issuer or not self.audience:
            raise InvalidParameter(
                "issuer, audience", found=(self.issuer, self.audience), expected="texts"
            )
        if not 0 <= self.skew_s < self.lifetime_s <= 3600:
            raise InvalidParameter(
                "lifetime_s, skew_s",
                found=(self.lifetime_s, self.skew_s),
                expected="0 <= skew_s < lifetime_s <= 3600",
            )


class AccessTokens:
    """Issues and verifies tokens.

    Guarantee: `verify` takes exactly the spellings that `issue` writes under a key that is here;
    every other text, however close, raises.

    Args:
        keys: the folder of keys.
        policy: for whom and how long.
        clock, entropy: the world.
    """

    def __init__(
        self, keys: TokenKeys, policy: TokenPolicy, *, clock: Clock, entropy: Entropy
    ) -> None:
        self.keys, self.policy = keys, policy
        self._clock, self._entropy = clock, entropy

    def issue(
        self,
        principal: Principal,
        *,
        ends: datetime | None = None,
        privacy_budget: Mapping[str, float] | None = None,
    ) -> tuple[str, Claims]:
        """Sign a token for a principal.

        Args:
            principal: who; also of whose session it is.
            ends: when the session ends at the latest; the token ends no later.
            privacy_budget: what the documents show in a token. Written, never read.

        Raises:
            KeyExpired: the signing key is too old; rotate it. Nothing was issued.
        """
        now = self._clock.now()
        key = self.keys.newest
        key.public.require_valid_at(now)
        issued = int(now.timestamp())
        expires = issued + self.policy.lifetime_s
        if ends is not None:
            expires = min(expires, int(ends.timestamp()))
        body: dict[str, Any] = {
            "iss": self.policy.issuer,
            "aud": self.policy.audience,
            "sub": principal.subject,
            "tenant": principal.tenant,
            "scope": " ".join(sorted(principal.scopes)),
            "jti": self._entropy.token_bytes(_JTI_BYTES).hex(),
            "sid": principal.session,
            "amr": str(principal.method),
            "iat": issued,
            "nbf": issued,
            "exp": expires,
            "auth_time": int(principal.authenticated_at.timestamp()),
        }
        claims = _claims(body)
        if privacy_budget is not None:
            body[_INFORMATIVE] = dict(privacy_budget)
        header = {"kid": key.public.key_id, "typ": _TYPE}
        return jwt.encode(body, key.signing, algorithm=_ALGORITHM, headers=header), claims

    def verify(self, token: str) -> Claims:
        """Check form, key, signature, issuer, audience and times, in this order.

        Raises:
            TokenRefused: one of its leaves, by what is wrong; all have one public message.
        """
        header, body = _parts(token)
        key = self.keys.find(_key_id(header))
        try:
            jwt.decode(token, key.verifying, algorithms=[_ALGORITHM], options=_TOKEN_CHECKS)
        except jwt.InvalidSignatureError:
            raise SignatureRefused("nobody who holds the key signed this") from None
        except jwt.PyJWTError:
            raise TokenMalformed("the token is in another form than ours") from None
        if body.get("iss") != self.policy.issuer:
            raise WrongIssuer("somebody else issued the token")
        if body.get("aud") != self.policy.audience:
            raise WrongAudience("the token is meant for somebody else")
        claims = _claims(body)
        self._require_time(claims)
        try:
            key.public.require_valid_at(claims.issued_at)
        except KeyExpired:
            raise UnknownTokenKey("the key's time is over") from None
        return claims

    def _require_time(self, claims: Claims) -> None:
        now, skew = self._clock.now(), timedelta(seconds=self.policy.skew_s)
        if claims.expires_at - claims.issued_at > timedelta(seconds=self.policy.lifetime_s):
            raise ClaimsRefused("the token lasts longer than tokens here do")
        if now >= claims.expires_at + skew:
            raise TokenExpired("the token's time is over")
        if now < claims.issued_at - skew:
            raise TokenNotYetValid("the token's time has not begun")


def _parts(token: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Header and claims of a token in its one spelling."""
    if not isinstance(token, str) or not token.isascii() or len(token) > MOST_BYTES:
        _malformed()
    parts = token.split(".")
    if len(parts) != 3:
        _malformed()
    header, body, _ = (_decoded(part) for part in parts)
    try:
        read = parse_json(header), parse_json(body)
    except NotCanonical:
        _malformed()
    if not all(isinstance(each, dict) for each in read):
        _malformed()
    return read


def _decoded(part: str) -> bytes:
    """Read base64url without padding. Spare bits are zero: another spelling is another token."""
    try:
        raw = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        _malformed()
    if not part or base64.urlsafe_b64encode(raw).rstrip(b"=") != part.encode():
        _malformed()
    return raw


def _key_id(header: Mapping[str, Any]) -> str:
    """The id of the key, of a header that says what ours say."""
    if "crit" in header:
        raise CriticalHeader("the token asks for an extension that nobody here knows")
    if header.get("alg") != _ALGORITHM:
        raise WrongAlgorithm("the token names another algorithm than that of the keys")
    if header.get("typ") != _TYPE:
        raise WrongType("the token is not an access token")
    if set(header) != {"alg", "kid", "typ"}:
        raise UnexpectedHeader("the token's header has other fields than alg, kid and typ")
    if not isinstance(header["kid"], str):
        raise UnknownTokenKey("the token names no key")
    return header["kid"]


def _claims(body: Mapping[str, Any]) -> Claims:
    """Read claims of our form, every one."""
    wanted = {*_TEXTS, *_INSTANTS}
    if set(body) - {_INFORMATIVE} != wanted:
        raise ClaimsRefused("the token's claims are others than ours")
    if not all(isinstance(body[name], str) and body[name] for name in _TEXTS if name != "scope"):
        raise ClaimsRefused("a claim is not text")
    if not all(type(body[name]) is int and 0 <= body[name] <= _INSTANT_MAX for name in _INSTANTS):
        raise ClaimsRefused("a claim is not a time")
    if body["nbf"] != body["iat"] or body["exp"] < body["iat"]:
        raise ClaimsRefused("the token's times do not follow each other")
    try:
        method = Method(body["amr"])
        scopes = frozenset(Scope(name) for name in body["scope"].split())
    except (ValueError, AttributeError):
        raise ClaimsRefused("a scope or method is unknown") from None
    issued, expires, authenticated = (
        datetime.fromtimestamp(body[name], UTC) for name in ("iat", "exp", "auth_time")
    )
    return Claims(
        subject=body["sub"],
        tenant=body["tenant"],
        scopes=scopes,
        method=method,
        session=body["sid"],
        token_id=body["jti"],
        issued_at=issued,
        expires_at=expires,
        authenticated_at=authenticated,
    )


def _malformed() -> NoReturn:
    raise TokenMalformed("the text is no token in the one spelling that is written here")
