"""What each role may, as one table, and the question that every act asks first.

A user has exactly one role. So separation of duties holds by the table alone: who trains does not
grant budget, who grants budget does not train, and who makes users does neither. (One person may
have two users; both are in the audit trail.)

Scopes are compared, never patterns: there is no wildcard, and what is not in the table is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from privacy_runtime.identity.errors import NotAllowed, StaleLogin, WrongTenant


class Role(StrEnum):
    """What a user is here for."""

    VIEWER = "viewer"
    ANALYST = "analyst"
    TRAINER = "trainer"
    PRIVACY_OFFICER = "privacy_officer"
    ADMIN = "admin"


class Scope(StrEnum):
    """One thing that may be done. The part before the colon is what it is done to."""

    ACCOUNT_SELF = "account:self"  # one's own password, second factor and sessions
    KEYS_OWN = "keys:own"
    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"
    RESULTS_READ = "results:read"
    RESULTS_OUTSIDE_GUARANTEE = "results:outside_guarantee"
    MODELS_READ = "models:read"
    MODELS_QUERY = "models:query"
    MODELS_EXPORT = "models:export"
    DATASETS_READ = "datasets:read"
    DATASETS_WRITE = "datasets:write"
    BUDGETS_READ = "budgets:read"
    BUDGETS_REQUEST = "budgets:request"
    BUDGETS_GRANT = "budgets:grant"
    REDACTION_USE = "redaction:use"
    REDACTION_REVEAL = "redaction:reveal"
    COMPLIANCE_READ = "compliance:read"
    COMPLIANCE_WRITE = "compliance:write"
    AUDIT_READ = "audit:read"
    SECURITY_READ = "security:read"
    SECURITY_ACT = "security:act"
    SCALING_READ = "scaling:read"
    USERS_READ = "users:read"
    USERS_WRITE = "users:write"
    KEYS_ALL = "keys:all"
    SETTINGS_WRITE = "settings:write"


_S: Final = Scope
_VIEWER: Final = frozenset(
    {_S.ACCOUNT_SELF, _S.JOBS_READ, _S.RESULTS_READ, _S.MODELS_READ, _S.BUDGETS_READ}
)
_ANALYST: Final = _VIEWER | {
    _S.KEYS_OWN,
    _S.DATASETS_READ,
    _S.MODELS_QUERY,
    _S.REDACTION_USE,
    _S.BUDGETS_REQUEST,
}
_TRAINER: Final = _ANALYST | {
    _S.JOBS_WRITE,
    _S.DATASETS_WRITE,
    _S.MODELS_EXPORT,
    _S.SCALING_READ,
}
_PRIVACY_OFFICER: Final = _VIEWER | {
    _S.RESULTS_OUTSIDE_GUARANTEE,
    _S.BUDGETS_GRANT,
    _S.DATASETS_READ,
    _S.REDACTION_USE,
    _S.REDACTION_REVEAL,
    _S.COMPLIANCE_READ,
    _S.COMPLIANCE_WRITE,
    _S.AUDIT_READ,
    _S.SECURITY_READ,
    _S.USERS_READ,
}
_ADMIN: Final = _VIEWER | {
    _S.KEYS_OWN,
    _S.AUDIT_READ,
    _S.SECURITY_READ,
    _S.SECURITY_ACT,
    _S.SCALING_READ,
    _S.USERS_READ,
    _S.USERS_WRITE,
    _S.KEYS_ALL,
    _S.SETTINGS_WRITE,
}

ROLE_SCOPES: Final[Mapping[Role, frozenset[Scope]]] = MappingProxyType(
    {
        Role.VIEWER: _VIEWER,
        Role.ANALYST: _ANALYST,
        Role.TRAINER: _TRAINER,
        Role.PRIVACY_OFFICER: _PRIVACY_OFFICER,
        Role.ADMIN: _ADMIN,
    }
)

PEOPLE_ONLY: Final = frozenset(
    {
        _S.ACCOUNT_SELF,
        _S.KEYS_OWN,
        _S.KEYS_ALL,
        _S.USERS_WRITE,
        _S.BUDGETS_GRANT,
        _S.RESULTS_OUTSIDE_GUARANTEE,
        _S.REDACTION_REVEAL,
        _S.SETTINGS_WRITE,
    }
)
"""Scopes that no API key can carry: a person with a second factor stands behind these."""

UNENROLLED: Final = frozenset({_S.ACCOUNT_SELF})
"""All that a user may whose role needs a second factor and who has none yet: enrol one."""


class Method(StrEnum):
    """How somebody showed who they are."""

    PASSWORD = "password"  # noqa: S105  the name of a method
    PASSWORD_AND_CODE = "password+code"  # noqa: S105
    API_KEY = "api_key"
    OIDC = "oidc"
    OIDC_AND_CODE = "oidc+code"

    @property
    def is_strong(self) -> bool:
        """Whether a second factor was shown."""
        return self in {Method.PASSWORD_AND_CODE, Method.OIDC_AND_CODE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks: settled before any decision, and never changed by one.

    Args:
        subject: id of the user; never a name.
        tenant: id of the organisation that the user belongs to.
        scopes: what this login may; a subset of what the role may.
        method: how they showed who they are.
        authenticated_at: when they did (not when the token was renewed).
        session: id of the session, or of the API key.
    """

    subject: str
    tenant: str
    scopes: frozenset[Scope]
    method: Method
    authenticated_at: datetime
    session: str


def require(principal: Principal, scope: Scope, *, tenant: str) -> None:
    """Check that the principal may do this to an object of `tenant`. Deny by default.

    Raises:
        WrongTenant: the object belongs to somebody else, whatever the scopes.
        NotAllowed: the scope is missing.
    """
    if principal.tenant != tenant:
        raise WrongTenant(principal.subject, scope=scope)
    if scope not in principal.scopes:
        raise NotAllowed(principal.subject, scope=scope)


def require_fresh(
    principal: Principal, scope: Scope, *, tenant: str, now: datetime, within_s: float = 300.0
) -> None:
    """As `require`, and the login was moments ago with a second factor: for acts hard to undo.

    Args:
        principal: who asks.
        scope: what for.
        tenant: whose object it is.
        now: the clock's time.
        within_s: how long ago the login may be, in seconds.

    Raises:
        WrongTenant, NotAllowed: as `require`.
        StaleLogin: the login is older, is said to be in the future, or had one factor only.

    Source: OWASP ASVS 5.0, 7.5.3 (further authentication before highly sensitive transactions).
    """
    require(principal, scope, tenant=tenant)
    age = now - principal.authenticated_at
    if not principal.method.is_strong or not timedelta() <= age <= timedelta(seconds=within_s):
        raise StaleLogin(principal.subject, scope=scope)


def scopes_of(role: Role, method: Method, needs_code: frozenset[Role]) -> frozenset[Scope]:
    """What a user of this role may after logging in like this."""
    if role in needs_code and not method.is_strong:
        return UNENROLLED
    return ROLE_SCOPES[role]
