"""Sends requests: with credentials, within a deadline, again where that is safe."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import httpx2
from tenacity import AsyncRetrying

from privacy_finetuner.client.access import ApiKey, Credentials, Headers, Nobody, bearer
from privacy_finetuner.client.asynchronous.renewal import AsyncRenewal
from privacy_finetuner.client.asynchronous.sending import pieces
from privacy_finetuner.client.asynchronous.waiting import sleep
from privacy_finetuner.client.calls import Call
from privacy_finetuner.client.credentials import Grant
from privacy_finetuner.client.decoding import decoded, error_of
from privacy_finetuner.client.errors import NotLoggedIn, UnexpectedAnswer, Unreachable
from privacy_finetuner.client.retries import RetryPolicy
from privacy_finetuner.client.shapes.people import Tokens
from privacy_runtime.secret import Secret
from privacy_runtime.world import Clock, Entropy, SystemClock, SystemEntropy

T = TypeVar("T")

_KEY_BYTES: Final = 16
_LARGEST_ANSWER: Final = 32 << 20  # bytes; files are streamed and not bounded by this


@dataclass(frozen=True, slots=True, kw_only=True)
class AsyncSettings:
    """What a client is made of besides its credentials.

    Attributes:
        timeout_s: of a connection, and of each read and write.
        transport: sends requests instead of the network: an application in this process.
        headers: sent with every request besides.
        sleep: how pauses pass.
    """

    timeout_s: float = 30.0
    retries: RetryPolicy = field(default_factory=RetryPolicy)
    transport: httpx2.AsyncBaseTransport | None = None
    headers: Headers = field(default_factory=dict, repr=False)
    clock: Clock = field(default_factory=SystemClock)
    entropy: Entropy = field(default_factory=SystemEntropy)
    sleep: Callable[[float], Awaitable[None]] = sleep


class AsyncSession:
    """One service, one identity, a pool of connections.

    Args:
        url: address of the service.
        credentials: what is shown.
        settings: how patient.
    """

    def __init__(self, url: str, credentials: Credentials, settings: AsyncSettings) -> None:
        self.url = url
        self.settings = settings
        self.clock = settings.clock
        self._credentials = credentials
        self._http = httpx2.AsyncClient(
            base_url=url,
            timeout=httpx2.Timeout(settings.timeout_s),
            transport=settings.transport,
            headers={
                "User-Agent": "privacy-finetuner-client",
                "Accept": "application/json",
                **settings.headers,
            },
        )
        self._renewal = (
            None
            if isinstance(credentials, ApiKey | Nobody)
            else AsyncRenewal(credentials.home, self._renewed, settings.clock)
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    def new_key(self) -> str:
        """A fresh idempotency key."""
        return self.settings.entropy.token_bytes(_KEY_BYTES).hex()

    async def answer(self, call: Call, kind: type[T]) -> T:
        """Send, and read the answer as a value.

        Raises:
            ServiceError: the service refused, and went on refusing where it was asked again.
            Unreachable: no answer came.
            UnexpectedAnswer: the answer is no such value.
        """
        return decoded(kind, await self.content(call))

    async def content(self, call: Call) -> bytes:
        """Send, and read the answer as it is. Errors as `answer`."""
        policy = self.settings.retries
        if not call.is_repeatable:
            return await self._whole(call)
        retrying = AsyncRetrying(
            sleep=self.settings.sleep, **policy.keywords(self.settings.entropy)
        )
        return await retrying(self._whole, call)

    @asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[httpx2.Response]:
        """Send once, and hand over the answer while it comes. Errors as `answer`."""
        headers = await self._shown(call)
        renewal = None if call.anonymous else self._renewal
        async with self._opened(call, headers) as response:
            if response.status_code != httpx2.codes.UNAUTHORIZED or renewal is None:
                await self._require_success(response)
                yield response
                return
        headers = await renewal.after(headers)
        async with self._opened(call, headers) as response:
            await self._require_success(response)
            yield response

    async def _whole(self, call: Call) -> bytes:
        async with self.stream(call) as response:
            return await _read(response)

    async def _shown(self, call: Call) -> Headers:
        if call.anonymous or isinstance(self._credentials, Nobody):
            return {}
        if isinstance(self._credentials, ApiKey):
            return bearer(self._credentials.key)
        if self._renewal is None:
            raise NotLoggedIn("no credentials; nothing was sent")
        return await self._renewal.shown()

    @asynccontextmanager
    async def _opened(self, call: Call, shown: Headers) -> AsyncIterator[httpx2.Response]:
        headers = {**call.headers, **shown}
        if call.key is not None:
            headers["Idempotency-Key"] = call.key
        content = None if call.file is None else pieces(call.file)
        if call.file is not None:
            headers["Content-Length"] = str(call.file.stat().st_size)
            headers["Content-Type"] = "application/octet-stream"
        try:
            async with self._http.stream(
                call.method,
                call.path,
                params=call.asked,
                json=call.body,
                content=content,
                headers=headers,
            ) as response:
                yield response
        except httpx2.SSEError as error:
            raise UnexpectedAnswer("the stream of events is damaged") from error
        except httpx2.TransportError as error:
            raise Unreachable(self.url, reason=type(error).__name__) from error
        except httpx2.DecodingError as error:
            raise UnexpectedAnswer("the answer's encoding is damaged") from error

    async def _require_success(self, response: httpx2.Response) -> None:
        if response.is_success:
            return
        content = await _read(response)
        raise error_of(response.status_code, response.headers, content, self.clock)

    async def _renewed(self, refresh_token: Secret) -> Grant:
        body: Mapping[str, Any] = {"refresh_token": refresh_token.reveal()}
        call = Call(method="POST", path="/api/v1/auth/refresh", body=body, anonymous=True)
        return Grant.of(decoded(Tokens, await self._whole(call)), self.clock)


async def _read(response: httpx2.Response) -> bytes:
    """The whole answer, unless it is larger than any answer of the service."""
    parts: list[bytes] = []
    size_bytes = 0
    async for part in response.aiter_bytes():
        size_bytes += len(part)
        if size_bytes > _LARGEST_ANSWER:
            raise UnexpectedAnswer(f"the answer is larger than {_LARGEST_ANSWER} bytes")
        parts.append(part)
    return b"".join(parts)
