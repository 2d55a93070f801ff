"""`AsyncClient`: one service, one identity, its operations in groups."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

from privacy_finetuner.client.access import (
    Credentials,
    Login,
    Nobody,
    address_of,
    api_key_of,
)
from privacy_finetuner.client.asynchronous.budgets import AsyncBudgets
from privacy_finetuner.client.asynchronous.catalogue import AsyncCertificates, AsyncModels
from privacy_finetuner.client.asynchronous.compliance import AsyncCompliance
from privacy_finetuner.client.asynchronous.governance import (
    AsyncAuditTrail,
    AsyncScaling,
    AsyncSecurity,
)
from privacy_finetuner.client.asynchronous.people import AsyncAccount, AsyncApiKeys, AsyncUsers
from privacy_finetuner.client.asynchronous.redaction import AsyncRedaction
from privacy_finetuner.client.asynchronous.session import AsyncSession, AsyncSettings
from privacy_finetuner.client.asynchronous.training import AsyncJobs
from privacy_finetuner.client.asynchronous.webhooks import AsyncWebhooks
from privacy_finetuner.client.calls import Call, given, place
from privacy_finetuner.client.credentials import (
    CredentialsFile,
    Grant,
    GrantHome,
    MemoryGrant,
    default_file,
)
from privacy_finetuner.client.retries import RetryPolicy
from privacy_finetuner.client.shapes.people import Tokens
from privacy_runtime.secret import Secret


class AsyncClient:
    """The service from Python. Use it as a context manager, or call `close`.

    One client may be used from many tasks at once. It never follows redirects, so credentials
    go to the named service only.

    Args:
        url: `https://HOST[:PORT]`; `http://` for this machine only, unless `allow_http`.
        api_key: a key of a program. Default: the environment's `PRIVACY_FINETUNER_API_KEY`.
        timeout_s: of a connection, and of each read and write.
        retries: how patient calls are; `RetryPolicy(tries=1)` sends everything once.
        allow_http: the way to another machine is private although it is `http://`.
        settings: all of the above at once, and what tests exchange.

    Raises:
        NotLoggedIn: there is no key.
        CredentialsUnsafe: the address would give credentials away.

    Example::

        async with AsyncClient("https://privacy.example.org") as client:
            job = await client.jobs.start_training("sample:model", "sample:records")
            async for event in client.jobs.watch(job.job_id):
                print(event.kind, dict(event.body))
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | Secret | None = None,
        timeout_s: float = 30.0,
        retries: RetryPolicy | None = None,
        allow_http: bool = False,
        settings: AsyncSettings | None = None,
    ) -> None:
        settings = settings or AsyncSettings(timeout_s=timeout_s, retries=retries or RetryPolicy())
        address = address_of(url, allow_http=allow_http)
        self._connect(address, api_key_of(api_key, os.environ), settings)

    @classmethod
    async def login(
        cls,
        url: str,
        username: str,
        password: str | Secret,
        *,
        mfa_token: str | None = None,
        allow_http: bool = False,
        settings: AsyncSettings | None = None,
    ) -> Self:
        """A client for a person. Its tokens are renewed as they expire, and kept in memory only.

        Args:
            url: as of the class.
            username: who logs in.
            password: theirs.
            mfa_token: six digits of the authenticator, or a recovery code.
            allow_http: as of the class.
            settings: as of the class.

        Raises:
            Unauthenticated: with code `login_refused`; `code_required` if a second factor is
                needed; `password_change_required` after the first login: see `change_password`.
            TooManyRequests: too many wrong guesses; `retry_after_s` says how long to wait.
        """
        settings = settings or AsyncSettings()
        address = address_of(url, allow_http=allow_http)
        body = given(username=username, password=_text(password), mfa_token=mfa_token)
        async with _anonymous(address, settings) as session:
            call = Call(method="POST", path=place("auth", "login"), body=body, anonymous=True)
            grant = Grant.of(await session.answer(call, Tokens), settings.clock)
        return cls._with(address, Login(MemoryGrant(grant)), settings)

    @classmethod
    async def change_password(
        cls,
        url: str,
        username: str,
        old_password: str | Secret,
        new_password: str | Secret,
        *,
        mfa_token: str | None = None,
        allow_http: bool = False,
        settings: AsyncSettings | None = None,
    ) -> None:
        """Exchange a password; the way out of a one-time password too.

        Raises:
            InvalidRequest: the new one is too short, common, or like the name.
            Unauthenticated: the old one is wrong.
        """
        settings = settings or AsyncSettings()
        body = given(
            username=username,
            old_password=_text(old_password),
            new_password=_text(new_password),
            mfa_token=mfa_token,
        )
        async with _anonymous(address_of(url, allow_http=allow_http), settings) as session:
            call = Call(method="POST", path=place("auth", "password"), body=body, anonymous=True)
            await session.content(call)

    @classmethod
    def from_profile(
        cls,
        profile: str | None = None,
        *,
        file: Path | str | None = None,
        settings: AsyncSettings | None = None,
    ) -> Self:
        """A client with the credentials that `privacy-finetuner login` kept.

        Several processes may do this at once: they renew one after the other.

        Args:
            profile: its name; default: the default profile of the file.
            file: where credentials are kept; default: the user's folder for configuration.
            settings: as of the class.

        Raises:
            NotLoggedIn: there is no such profile.
            CredentialsUnsafe: others may read the file.
        """
        credentials = CredentialsFile(default_file(os.environ) if file is None else Path(file))
        name, found = credentials.load(profile)
        return cls._with(
            address_of(found.url, allow_http=found.allow_http),
            Login(credentials.grant_home(name)),
            settings or AsyncSettings(),
        )

    @classmethod
    def with_grants(
        cls, url: str, home: GrantHome, *, settings: AsyncSettings | None = None
    ) -> Self:
        """A client whose tokens are kept in a place of one's own."""
        return cls._with(address_of(url), Login(home), settings or AsyncSettings())

    @classmethod
    def with_headers(cls, url: str, settings: AsyncSettings) -> Self:
        """A client that shows what `settings.headers` hold: for a service that asks itself."""
        return cls._with(address_of(url, allow_http=True), Nobody(), settings)

    @classmethod
    def _with(cls, url: str, credentials: Credentials, settings: AsyncSettings) -> Self:
        client = cls.__new__(cls)
        client._connect(url, credentials, settings)
        return client

    def _connect(self, url: str, credentials: Credentials, settings: AsyncSettings) -> None:
        self.url = url
        self._credentials = credentials
        self._session = AsyncSession(url, credentials, settings)
        self.jobs = AsyncJobs(self._session)
        self.models = AsyncModels(self._session)
        self.budgets = AsyncBudgets(self._session)
        self.redaction = AsyncRedaction(self._session)
        self.certificates = AsyncCertificates(self._session)
        self.account = AsyncAccount(self._session)
        self.users = AsyncUsers(self._session)
        self.api_keys = AsyncApiKeys(self._session)
        self.security = AsyncSecurity(self._session)
        self.compliance = AsyncCompliance(self._session)
        self.scaling = AsyncScaling(self._session)
        self.webhooks = AsyncWebhooks(self._session)
        self.audit = AsyncAuditTrail(self._session)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r}, {type(self._credentials).__name__})"

    async def __aenter__(self) -> Self:
        """Use the client."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close its connections."""
        await self.close()

    async def close(self) -> None:
        """Close all connections. The session of the person stays; see `logout`."""
        await self._session.close()

    @property
    def grant(self) -> Grant | None:
        """The newest tokens, to be kept somewhere; `None` for an API key."""
        if not isinstance(self._credentials, Login):
            return None
        return self._credentials.home.load()

    async def logout(self) -> None:
        """End the person's session at the service, and forget its tokens here.

        The tokens are forgotten in any case. With an API key there is nothing to end.
        """
        if not isinstance(self._credentials, Login):
            return
        try:
            await self._session.content(Call(method="POST", path=place("auth", "logout")))
        finally:
            self._credentials.home.forget()

    async def health(self) -> Mapping[str, Any]:
        """How the service is, as it says itself.

        Raises:
            Unavailable: it is not well.
        """
        call = Call(method="GET", path="/health", anonymous=True)
        return await self._session.answer(call, dict[str, Any])


@asynccontextmanager
async def _anonymous(url: str, settings: AsyncSettings) -> AsyncIterator[AsyncSession]:
    """A session of nobody, closed at the end."""
    session = AsyncSession(url, Nobody(), settings)
    try:
        yield session
    finally:
        await session.close()


def _text(secret: str | Secret) -> str:
    return secret.reveal() if isinstance(secret, Secret) else secret
