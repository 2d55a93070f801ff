"""Who asks, and what they may: users, roles, scopes, passwords, codes, tokens, keys.

`Identity.open` puts the parts together. `scopes` is the table of who may what, and `require` the
question that every act asks first. Nothing here knows HTTP.
"""

from __future__ import annotations

from privacy_runtime.identity.access import Identity, IdentityPolicy
from privacy_runtime.identity.access_tokens import AccessTokens, Claims, TokenPolicy
from privacy_runtime.identity.accounts import Accounts
from privacy_runtime.identity.api_keys import ApiKey, ApiKeys, IssuedKey, is_key_text
from privacy_runtime.identity.bootstrap import bootstrap_admin
from privacy_runtime.identity.codes import Enrolment
from privacy_runtime.identity.errors import (
    AccountConflict,
    ApiKeyRefused,
    AuditUnavailable,
    CodeRequired,
    EnrolmentRefused,
    ExternalLoginRefused,
    IdentityError,
    IdentityStoreUnavailable,
    LoginDelayed,
    LoginRefused,
    NotAllowed,
    PasswordChangeRequired,
    PasswordRefused,
    RefreshRaced,
    RefreshRefused,
    RefreshReused,
    SessionOver,
    StaleLogin,
    TokenRefused,
    UnknownAccount,
    WeakSecret,
    WrongTenant,
)
from privacy_runtime.identity.lockout import LockoutPolicy
from privacy_runtime.identity.logins import Logins
from privacy_runtime.identity.oidc import ExternalIssuer, principal_of
from privacy_runtime.identity.passwords import Argon2Cost, require_strong_secret
from privacy_runtime.identity.refresh_families import SessionPolicy
from privacy_runtime.identity.scopes import (
    PEOPLE_ONLY,
    ROLE_SCOPES,
    Method,
    Principal,
    Role,
    Scope,
    require,
    require_fresh,
)
from privacy_runtime.identity.second_factors import SecondFactors
from privacy_runtime.identity.sessions import Sessions, Tokens
from privacy_runtime.identity.token_keys import TokenKeys
from privacy_runtime.identity.user_rows import User
from privacy_runtime.secret import Secret

__all__ = [
    "PEOPLE_ONLY",
    "ROLE_SCOPES",
    "AccessTokens",
    "AccountConflict",
    "Accounts",
    "ApiKey",
    "ApiKeyRefused",
    "ApiKeys",
    "Argon2Cost",
    "AuditUnavailable",
    "Claims",
    "CodeRequired",
    "Enrolment",
    "EnrolmentRefused",
    "ExternalIssuer",
    "ExternalLoginRefused",
    "Identity",
    "IdentityError",
    "IdentityPolicy",
    "IdentityStoreUnavailable",
    "IssuedKey",
    "LockoutPolicy",
    "LoginDelayed",
    "LoginRefused",
    "Logins",
    "Method",
    "NotAllowed",
    "PasswordChangeRequired",
    "PasswordRefused",
    "Principal",
    "RefreshRaced",
    "RefreshRefused",
    "RefreshReused",
    "Role",
    "Scope",
    "SecondFactors",
    "Secret",
    "SessionOver",
    "SessionPolicy",
    "Sessions",
    "StaleLogin",
    "TokenKeys",
    "TokenPolicy",
    "TokenRefused",
    "Tokens",
    "UnknownAccount",
    "User",
    "WeakSecret",
    "WrongTenant",
    "bootstrap_admin",
    "is_key_text",
    "principal_of",
    "require",
    "require_fresh",
    "require_strong_secret",
]
