"""One POST to an address that was looked at, within one time limit for everything."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

import httpx2

from privacy_core.errors import InvalidParameter
from privacy_runtime.notify.addresses import Network, Resolve, require_url, target_of
from privacy_runtime.notify.errors import AddressRefused
from privacy_runtime.notify.signatures import sign
from privacy_runtime.notify.sinks.outcome import Outcome, Parcel
from privacy_runtime.secret import Secret

_AGENT: Final = "privacy-finetuner-webhooks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """How messages are posted.

    Args:
        limit_s: for all of an attempt: resolving, connecting, sending, and the answer's head.
        allowed: networks that are fine although they are not public.
        allow_http: whether an address may be without TLS.
        trust: what certificates are checked against; None: the system's.
        resolve: from names to addresses; None: the system's.
    """

    limit_s: float = 15.0
    allowed: Sequence[Network] = ()
    allow_http: bool = False
    trust: ssl.SSLContext | None = None
    resolve: Resolve | None = None

    def post(self, url: str, body: bytes, headers: Mapping[str, str], at: float) -> Outcome:
        """Post once.

        Guarantee: ends within `limit_s`, but for a resolver that does not answer; follows no
        redirect, uses no proxy of the environment, keeps no byte of the answer's body.

        Args:
            url: where to.
            body: what.
            headers: besides `Host` and `User-Agent`.
            at: now, in seconds since 1970; for a `Retry-After` that is a date.
        """
        try:
            return asyncio.run(asyncio.wait_for(self._post(url, body, headers, at), self.limit_s))
        except AddressRefused:
            return Outcome(reason="address_refused")
        except TimeoutError:
            return Outcome(reason="timeout")
        except (httpx2.HTTPError, OSError, ssl.SSLError) as error:
            return Outcome(reason=_reason(error))

    async def _post(self, url: str, body: bytes, headers: Mapping[str, str], at: float) -> Outcome:
        require_url(url, allow_http=self.allow_http, allowed=self.allowed)
        target = await target_of(url, allowed=self.allowed, resolve=self.resolve)
        trust = self.trust or ssl.create_default_context()
        async with (
            httpx2.AsyncClient(
                verify=trust, trust_env=False, follow_redirects=False, timeout=self.limit_s
            ) as client,
            client.stream(
                "POST",
                target.url,
                content=body,
                headers={**headers, "host": target.authority, "user-agent": _AGENT},
                extensions={"sni_hostname": target.host},
            ) as answer,
        ):
            return _outcome(answer.status_code, answer.headers.get("retry-after"), at)


class Webhook:
    """A signed message as Standard Webhooks has it."""

    def __init__(self, posting: Posting) -> None:
        self._posting = posting

    def send(self, parcel: Parcel) -> Outcome:
        """See `Sink`."""
        seconds = int(parcel.now.timestamp())
        headers = sign(parcel.message, seconds=seconds, body=parcel.body, secrets=parcel.secrets)
        headers["content-type"] = "application/json"
        return self._posting.post(parcel.address.reveal(), parcel.body, headers, seconds)


def require_webhook(address: Secret, posting: Posting) -> str:
    """What lists show of a webhook's address: its host. Its path may be a secret.

    Raises:
        AddressRefused: see `addresses`.
    """
    return require_url(address.reveal(), allow_http=posting.allow_http, allowed=posting.allowed)


def require_seconds(limit_s: float) -> float:
    """A time limit that leaves the lease alone.

    Raises:
        InvalidParameter: it is not above 0 and at most 60 seconds.
    """
    if not 0 < limit_s <= 60:
        raise InvalidParameter("limit_s", found=limit_s, expected="above 0 and at most 60 seconds")
    return limit_s


def _outcome(status: int, retry_after: str | None, at: float) -> Outcome:
    if 200 <= status < 300:
        return Outcome(is_delivered=True, status=status)
    if status == 410:
        return Outcome(is_gone=True, status=status, reason="gone")
    reason = "redirect" if 300 <= status < 400 else "refused"
    asked_s = _asked(retry_after, at) if status in (429, 503) else None
    return Outcome(status=status, reason=reason, asked_s=asked_s)


def _asked(text: str | None, at: float) -> float | None:
    """Seconds that `Retry-After` asks for: a number, or a date (RFC 9110, 10.2.3)."""
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - at)
    except (ValueError, TypeError, OverflowError):
        return None


def _reason(error: Exception) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return "tls"
        cause = cause.__cause__ or cause.__context__
    return "connection" if isinstance(error, httpx2.TransportError | OSError) else "protocol"
