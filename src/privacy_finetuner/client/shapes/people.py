"""Who one is, users, API keys: as the service shows them. Secrets are shown once, as `Secret`."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from privacy_finetuner.client.shapes.hidden import SecretText


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What a login and a refresh hand out, in the documented shape. `expires_in`: seconds."""

    access_token: SecretText = field(repr=False)
    refresh_token: SecretText = field(repr=False)
    expires_in: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """It was done, and there is nothing more to say."""

    status: str = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Me:
    """Who asks, and what they may with this login.

    Attributes:
        method: how they proved it: `password`, `password+code`, `api_key`, ...
        scopes: what they may.
    """

    id: str
    tenant: str
    method: str
    authenticated_at: datetime
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """A seed for an authenticator. It counts after it was confirmed with a first code."""

    secret: SecretText = field(repr=False)
    uri: SecretText = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryCodes:
    """Ten codes, each for one login without the authenticator."""

    recovery_codes: tuple[SecretText, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user, as those who may read users see one."""

    id: str
    name: str
    role: str
    is_disabled: bool
    has_second_factor: bool
    must_change_password: bool
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUser(User):
    """A user who was just made, with the password for their first login."""

    one_time_password: SecretText = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class OneTimePassword:
    """A password for one use: it opens nothing but the change of itself."""

    one_time_password: SecretText = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeyEntry:
    """An API key without its text."""

    id: str
    owner: str
    label: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None
    is_revoked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NewApiKey(ApiKeyEntry):
    """An API key that was just made, with its text."""

    key: SecretText = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEntry:
    """One of one's own sessions; `is_this`: the one that asks."""

    session_id: str
    method: str
    founded_at: datetime
    used_at: datetime
    is_this: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEntries:
    """One's own sessions, the newest first."""

    items: tuple[SessionEntry, ...]
