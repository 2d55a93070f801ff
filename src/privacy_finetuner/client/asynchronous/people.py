"""One's own account, users, API keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from privacy_finetuner.client.asynchronous.paging import AsyncGroup
from privacy_finetuner.client.calls import given, place
from privacy_finetuner.client.shapes.people import (
    ApiKeyEntry,
    Done,
    Enrolment,
    Me,
    NewApiKey,
    NewUser,
    OneTimePassword,
    RecoveryCodes,
    SessionEntries,
    SessionEntry,
    User,
)


class AsyncAccount(AsyncGroup):
    """One's own account."""

    async def me(self) -> Me:
        """Who asks, and what they may with this login."""
        return await self._get(place("auth", "me"), Me)

    async def list_sessions(self) -> tuple[SessionEntry, ...]:
        """One's own sessions that have not ended, the newest first."""
        return (await self._get(place("auth", "sessions"), SessionEntries)).items

    async def end_session(self, session_id: str) -> None:
        """End one of one's own sessions, with its tokens."""
        await self._delete(place("auth", "sessions", session_id))

    async def enrol_mfa(self) -> Enrolment:
        """A seed for an authenticator. It counts after `confirm_mfa`."""
        return await self._post_secret(place("auth", "mfa"), Enrolment)

    async def confirm_mfa(self, code: str) -> RecoveryCodes:
        """Prove that the authenticator works; from now on logging in needs its codes.

        Returns the recovery codes, which are shown once.
        """
        return await self._post_secret(
            place("auth", "mfa", "confirm"), RecoveryCodes, {"code": code}
        )

    async def renew_recovery_codes(self) -> RecoveryCodes:
        """Ten new recovery codes; the old ones stop to count."""
        return await self._post_secret(place("auth", "recovery-codes"), RecoveryCodes)


class AsyncUsers(AsyncGroup):
    """The users of one's organisation."""

    def list_users(self) -> AsyncIterator[User]:
        """All users."""
        return self._pages(place("users"), User)

    async def get_user(self, user_id: str) -> User:
        """A user."""
        return await self._get(place("users", user_id), User)

    async def create_user(self, name: str, role: str) -> NewUser:
        """Make a user with exactly one role. Their first password is shown once."""
        return await self._post_secret(place("users"), NewUser, {"name": name, "role": role})

    async def update_user(
        self, user_id: str, *, role: str | None = None, is_disabled: bool | None = None
    ) -> User:
        """Change a role, or shut out and let in again. What is `None` stays."""
        body = given(role=role, is_disabled=is_disabled)
        return await self._change("PATCH", place("users", user_id), User, body)

    async def reset_password(self, user_id: str) -> OneTimePassword:
        """A password for one use, for somebody who forgot theirs; ends their sessions."""
        return await self._post_secret(place("users", user_id, "password-reset"), OneTimePassword)

    async def reset_mfa(self, user_id: str) -> None:
        """Remove the second factor of somebody who lost it; ends their sessions."""
        await self._post(place("users", user_id, "mfa-reset"), Done)

    async def revoke_sessions(self, user_id: str) -> None:
        """End every session of a user."""
        await self._delete(place("users", user_id, "sessions"))


class AsyncApiKeys(AsyncGroup):
    """Keys for programs."""

    def list_api_keys(self) -> AsyncIterator[ApiKeyEntry]:
        """The keys that one may see, without their texts."""
        return self._pages(place("api-keys"), ApiKeyEntry)

    async def create_api_key(
        self, label: str, scopes: Sequence[str], *, valid_days: int = 90
    ) -> NewApiKey:
        """Make a key with some of one's own scopes. Its text is shown once.

        Args:
            label: what it is for.
            scopes: what it may; no more than its maker.
            valid_days: 1 to 366.
        """
        body = {"label": label, "scopes": list(scopes), "valid_days": valid_days}
        return await self._post_secret(place("api-keys"), NewApiKey, body)

    async def revoke_api_key(self, key_id: str) -> None:
        """Let a key count no more."""
        await self._delete(place("api-keys", key_id))
