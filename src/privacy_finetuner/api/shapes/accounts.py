"""Logging in, one's own account, users, API keys."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from privacy_finetuner.api.shapes.bodies import LONGEST_NAME, Answer, Body
from privacy_runtime.identity import ApiKey, Method, Principal, Role, Scope, User
from privacy_runtime.identity.api_keys import LABEL_MAX, MOST_DAYS

_LONGEST_SECRET: Final = 4096
UserName = Annotated[
    str, Field(min_length=1, max_length=LONGEST_NAME, examples=["ada"], description="User name.")
]
Password = Annotated[
    str,
    Field(
        min_length=1,
        max_length=_LONGEST_SECRET,
        examples=["quince umbrella 47 fjord"],
        description="As typed; 12 characters or more for a new one.",
    ),
]
Code = Annotated[
    str,
    Field(
        min_length=1,
        max_length=64,
        examples=["123456"],
        description="Six digits of the authenticator, or a recovery code.",
    ),
]


class LoginRequest(Body):
    """A user name, a password, and a code where the user has a second factor."""

    username: UserName
    password: Password
    mfa_token: Code | None = None


class TokensAnswer(Answer):
    """Tokens of a session. Both are shown here and nowhere else."""

    access_token: Annotated[str, Field(examples=["eyJhbGciOiJFZERTQSIs..."])]
    token_type: Annotated[str, Field(examples=["bearer"])]
    expires_in: Annotated[int, Field(examples=[900], description="Of the access token, seconds.")]
    refresh_token: Annotated[str, Field(examples=["pr_c2VjcmV0..."])]


class RefreshRequest(Body):
    """The newest refresh token of a session; it can be used once."""

    refresh_token: Annotated[str, Field(min_length=1, max_length=128, examples=["pr_c2Vjc..."])]


class PasswordRequest(Body):
    """A password and its successor. The way out of a one-time password too."""

    username: UserName
    old_password: Password
    new_password: Password
    mfa_token: Code | None = None


class Me(Answer):
    """Who asks, and what they may with this login."""

    id: Annotated[str, Field(examples=["u_0b5f..."])]
    tenant: Annotated[str, Field(examples=["o_91c2..."])]
    method: Annotated[Method, Field(examples=["password+code"])]
    authenticated_at: datetime
    scopes: Annotated[list[Scope], Field(examples=[["account:self", "jobs:read"]])]

    @classmethod
    def of(cls, principal: Principal) -> Self:
        """What a principal is."""
        return cls(
            id=principal.subject,
            tenant=principal.tenant,
            method=principal.method,
            authenticated_at=principal.authenticated_at,
            scopes=sorted(principal.scopes),
        )


class SessionAnswer(Answer):
    """One of one's own sessions that goes on; `is_this`: the one that asks."""

    session_id: Annotated[str, Field(examples=["s_5b0c..."])]
    method: Annotated[Method, Field(examples=["password+code"])]
    founded_at: datetime
    used_at: datetime
    is_this: bool


class SessionsAnswer(Answer):
    """One's own sessions, the newest first."""

    items: list[SessionAnswer]


class EnrolmentAnswer(Answer):
    """A seed for an authenticator, shown once. It counts after it was confirmed with a code."""

    secret: Annotated[str, Field(examples=["JBSWY3DPEHPK3PXP..."], description="To type, base32.")]
    uri: Annotated[
        str,
        Field(examples=["otpauth://totp/..."], description="For a QR code; holds the secret."),
    ]


class CodeRequest(Body):
    """The first code of a new authenticator."""

    code: Code


class RecoveryCodes(Answer):
    """Ten codes, each for one login without the authenticator. Shown once."""

    recovery_codes: Annotated[list[str], Field(examples=[["k7mq-..."]])]


class UserAnswer(Answer):
    """A user, as those who may read users see one."""

    id: Annotated[str, Field(examples=["u_0b5f..."])]
    name: Annotated[str, Field(examples=["ada"])]
    role: Annotated[Role, Field(examples=["trainer"])]
    is_disabled: bool
    has_second_factor: bool
    must_change_password: bool
    created_at: datetime

    @classmethod
    def of(cls, user: User) -> Self:
        """What a user is."""
        return cls(
            id=user.id,
            name=user.name,
            role=user.role,
            is_disabled=user.is_disabled,
            has_second_factor=user.has_code,
            must_change_password=user.must_change_password,
            created_at=user.created_at,
        )


class UserRequest(Body):
    """A new user."""

    name: UserName
    role: Annotated[Role, Field(strict=False, examples=["trainer"])]


class UserCreated(UserAnswer):
    """A new user with a password for one use, shown here and nowhere else."""

    one_time_password: Annotated[str, Field(examples=["7kq2m-..."])]


class UserChange(Body):
    """One change of a user: another role, or whether they are kept out."""

    role: Annotated[Role | None, Field(strict=False, examples=["analyst"])] = None
    is_disabled: bool | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.role is None) == (self.is_disabled is None):
            raise PydanticCustomError("one_change", "one of role and is_disabled is expected")
        return self


class OneTimePassword(Answer):
    """A password for one use: it opens nothing but the change of itself, for three days."""

    one_time_password: Annotated[str, Field(examples=["7kq2m-..."])]


KeyScope = Annotated[Scope, Field(strict=False)]


class KeyRequest(Body):
    """A key for a program."""

    label: Annotated[str, Field(min_length=1, max_length=LABEL_MAX, examples=["nightly training"])]
    scopes: Annotated[
        list[KeyScope],
        Field(min_length=1, max_length=len(Scope), examples=[["jobs:read", "jobs:write"]]),
    ]
    valid_days: Annotated[int, Field(ge=1, le=MOST_DAYS, examples=[90])] = 90


class KeyAnswer(Answer):
    """An API key without its text."""

    id: Annotated[str, Field(examples=["mfrggzdfmztwq2lk"])]
    owner: Annotated[str, Field(examples=["u_0b5f..."])]
    label: Annotated[str, Field(examples=["nightly training"])]
    scopes: Annotated[list[Scope], Field(examples=[["jobs:read"]])]
    created_at: datetime
    expires_at: datetime
    used_at: Annotated[datetime | None, Field(description="To the hour.")]
    is_revoked: bool

    @classmethod
    def of(cls, key: ApiKey) -> Self:
        """What a key is."""
        return cls(**_key_fields(key))


class KeyIssued(KeyAnswer):
    """A new key with its text, shown here and nowhere else."""

    key: Annotated[str, Field(examples=["pf_mfrggzdfmztwq2lk_..."])]

    @classmethod
    def issued(cls, key: ApiKey, text: str) -> Self:
        """A key that was just made."""
        return cls(key=text, **_key_fields(key))


def _key_fields(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "owner": key.owner,
        "label": key.label,
        "scopes": sorted(key.scopes),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "used_at": key.used_at,
        "is_revoked": key.is_revoked,
    }
