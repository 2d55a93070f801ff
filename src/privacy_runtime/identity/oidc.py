"""A login at another issuer: from claims that were verified to a principal of ours.

The seam for OpenID Connect. Somebody else spoke HTTP, checked the ID token's signature and nonce;
here it is decided whether these claims make a principal, of which organisation and with which role.
An issuer belongs to one organisation by configuration: no claim chooses it.

Source: OpenID Connect Core 1.0, sections 2 and 3.1.3.7 (ID token validation, steps 2-5 and 9-13).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, NoReturn

from privacy_core.errors import InvalidParameter
from privacy_runtime.identity.errors import ExternalLoginRefused
from privacy_runtime.identity.scopes import Method, Principal, Role, scopes_of
from privacy_runtime.identity.sessions import NEEDS_CODE

STRONG_METHODS: Final = frozenset({"mfa", "otp", "hwk", "swk", "fpt", "face"})
"""Values of `amr` that show a second factor or a key of hardware (RFC 8176)."""
_SUBJECT_MAX: Final = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalIssuer:
    """An issuer whose logins count here.

    Args:
        issuer: its `iss`, exactly.
        client_id: our `aud` there.
        tenant: the organisation that all its users belong to.
        roles: from a group's name to a role. Who is in none of these groups is refused.
        groups_claim: where the groups stand.
        max_age_s: how long ago somebody may have authenticated there, in seconds.
        skew_s: by how much the clocks may differ, in seconds.
        needs_code: roles that may nothing but enrol unless the issuer saw a second factor.
    """

    issuer: str
    client_id: str
    tenant: str
    roles: Mapping[str, Role]
    groups_claim: str = "groups"
    max_age_s: float = 3600.0
    skew_s: float = 30.0
    needs_code: frozenset[Role] = NEEDS_CODE

    def __post_init__(self) -> None:
        if not (self.issuer.startswith("https://") and self.client_id and self.tenant):
            raise InvalidParameter(
                "issuer, client_id, tenant", found=self.issuer, expected="an https issuer, two ids"
            )
        object.__setattr__(self, "roles", MappingProxyType(dict(self.roles)))


def principal_of(
    claims: Mapping[str, Any], known: ExternalIssuer, *, now: datetime, session: str
) -> Principal:
    """Make a principal of verified claims.

    Guarantee: the same person at the same issuer is always the same subject, and nobody at another
    issuer ever is; no claim but `iss`, `aud`, `azp`, `sub`, `exp`, `iat`, `auth_time`, `amr` and
    the groups is read. An e-mail address identifies nobody.

    ==========================================  =============================================
    when                                        then
    ==========================================  =============================================
    groups map to no role                       refused
    groups map to two roles                     refused: the issuer's groups must be disjoint
    the role needs a second factor, none seen   only what it takes to enrol one
    ==========================================  =============================================

    Args:
        claims: of an ID token whose signature and nonce were verified.
        known: the issuer's configuration.
        now: the clock's time.
        session: id of the session that the caller made.

    Raises:
        ExternalLoginRefused: the reason; no claim is quoted.
    """
    if claims.get("iss") != known.issuer:
        _refuse("they are of another issuer")
    _require_audience(claims, known)
    authenticated = _require_times(claims, known, now)
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= _SUBJECT_MAX:
        _refuse("they name no subject")
    groups = claims.get(known.groups_claim)
    if not isinstance(groups, list):
        _refuse("they hold no list of groups")
    roles = {known.roles[g] for g in groups if isinstance(g, str) and g in known.roles}
    if len(roles) != 1:
        _refuse(f"the groups give {len(roles)} roles, expected one")
    (role,) = roles
    method = Method.OIDC_AND_CODE if _is_strong(claims) else Method.OIDC
    return Principal(
        subject=subject_id(known.issuer, subject),
        tenant=known.tenant,
        scopes=scopes_of(role, method, known.needs_code),
        method=method,
        authenticated_at=authenticated,
        session=session,
    )


def subject_id(issuer: str, subject: str) -> str:
    """Our id of somebody at an issuer: 160 bits of SHA-256 over both, each with its length."""
    parts = (text.encode("utf-8", "surrogatepass") for text in (issuer, subject))
    data = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    digest = hashlib.sha256(b"identity oidc|" + data).digest()[:20]
    return "x_" + base64.b32encode(digest).decode().lower()


def _require_audience(claims: Mapping[str, Any], known: ExternalIssuer) -> None:
    audience = claims.get("aud")
    audiences = [audience] if isinstance(audience, str) else audience
    if not isinstance(audiences, list) or known.client_id not in audiences:
        _refuse("they are meant for somebody else")
    party = claims.get("azp")
    if (party is not None or len(audiences) > 1) and party != known.client_id:
        _refuse("they were given to somebody else")


def _require_times(claims: Mapping[str, Any], known: ExternalIssuer, now: datetime) -> datetime:
    skew = timedelta(seconds=known.skew_s)
    issued, expires = _instant(claims.get("iat")), _instant(claims.get("exp"))
    authenticated = _instant(claims["auth_time"]) if "auth_time" in claims else issued
    if now >= expires + skew:
        _refuse("their time is over")
    if issued > now + skew or authenticated > now + skew:
        _refuse("their time has not begun")
    if now - authenticated > timedelta(seconds=known.max_age_s) + skew:
        _refuse("the login there is too long ago")
    return authenticated


def _instant(value: object) -> datetime:
    if type(value) is not int or not 0 <= value < 253_402_300_800:
        _refuse("a time is missing or is none")
    return datetime.fromtimestamp(value, UTC)


def _is_strong(claims: Mapping[str, Any]) -> bool:
    shown = claims.get("amr")
    return isinstance(shown, list) and any(m in STRONG_METHODS for m in shown if isinstance(m, str))


def _refuse(reason: str) -> NoReturn:
    raise ExternalLoginRefused(f"the claims make no principal: {reason}")
