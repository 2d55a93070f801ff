"""Endpoints: HTTP answers, TCP ports, and how long a certificate is still good."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pipeline_guard.config.values import POSITIVE, Within
from pipeline_guard.model import Fault, Moment, Reading
from pipeline_guard.probes.inputs import critical, ok, refused, unknown, warning, why
from pipeline_guard.probes.streams import (
    Address,
    Answer,
    NotHttp,
    address_of,
    context_of,
    exchange,
)
from pipeline_guard.probes.trends import duration
from privacy_runtime.secret import Secret

Span = Annotated[float, POSITIVE]
Port = Annotated[int, Within(1, 65535)]
_DAY_S = 86_400.0


@dataclass(frozen=True, kw_only=True)
class HttpProbe:
    """An HTTP endpoint: it answers in time, with the right status and body.

    No answer, a wrong one and a late one are critical; over `slow_s` is a warning. Redirects are
    not followed: a redirect is a status like any other.

    Args:
        url: `http://` or `https://`, without a password.
        method: of the request.
        headers: added to the request; a value may be a secret: `${TOKEN}`.
        bearer_file: holds a token, sent as `Authorization: Bearer ...`; read at every look.
        status: what the answer may have.
        body: a regular expression that the first 64 KiB of the body must contain.
        slow_s: a later answer is a warning.
        answer_s: a later answer is none.
        authorities: PEM certificates to check the other side's by; without, the system's.
        is_verified: whether its certificate is checked.
        certificate, key: shown to the other side, in PEM, where it asks for one (mTLS); read at
            every look, so that renewed files are taken.
    """

    url: str
    method: Literal["GET", "HEAD", "POST"] = "GET"
    headers: Mapping[str, Secret | str] = field(default_factory=dict)
    bearer_file: Path | None = None
    status: tuple[int, ...] = (200,)
    body: str = ""
    slow_s: Span | None = None
    answer_s: Span = 4.0
    authorities: Path | None = None
    is_verified: bool = True
    certificate: Path | None = None
    key: Path | None = None
    _address: Address = field(init=False, repr=False, compare=False)
    _context: ssl.SSLContext | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse what is no URL or no expression."""
        address = address_of(self.url)
        if (self.certificate is None) != (self.key is None):
            raise refused("certificate", "one of two files", "certificate and key together")
        try:
            re.compile(self.body)
        except re.error as error:
            raise refused("body", self.body, "a regular expression") from error
        context = None
        if address.is_encrypted:
            context = context_of(self.authorities, is_verified=self.is_verified)
        object.__setattr__(self, "_address", address)
        object.__setattr__(self, "_context", context)

    async def look(self, moment: Moment) -> Reading:
        """Ask once."""
        evidence: dict[str, Any] = {"url": self.url}
        try:
            headers = self._headers()
        except OSError as error:
            words = f"bearer_file cannot be read: {why(error)}"
            return unknown(words, evidence=evidence)
        try:
            self._show_certificate()
        except (OSError, ssl.SSLError):
            return unknown("certificate and key cannot be read", evidence=evidence)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            async with asyncio.timeout(self.answer_s):
                answer = await exchange(
                    self._address, method=self.method, headers=headers, context=self._context
                )
        except TimeoutError:
            return _dead(f"no answer within {self.answer_s:g} s", evidence)
        except (OSError, NotHttp) as error:
            return _dead(_sentence(error), evidence)
        return self._judged(answer, loop.time() - began_s, evidence)

    def _show_certificate(self) -> None:
        if self._context is not None and self.certificate is not None:
            self._context.load_cert_chain(self.certificate, self.key)

    def _judged(self, answer: Answer, took_s: float, evidence: dict[str, Any]) -> Reading:
        evidence["status"] = answer.status
        more: dict[str, Any] = {"measurements": {"latency_seconds": took_s}, "evidence": evidence}
        words = f"{answer.status} in {1_000 * took_s:.0f} ms"
        if answer.status not in self.status:
            expected = " or ".join(map(str, self.status))
            return critical(f"{words}, expected {expected}", Fault.DEAD_ENDPOINT, **more)
        if self.body and not re.search(self.body, answer.body.decode(errors="replace")):
            words = f"{words}, the body lacks what it should contain"
            return critical(words, Fault.DEAD_ENDPOINT, **more)
        if self.slow_s is not None and took_s > self.slow_s:
            return warning(f"{words}, over {self.slow_s:g} s", Fault.OVERLOAD, **more)
        return ok(words, **more)

    def _headers(self) -> dict[str, str]:
        headers = {
            name: value.reveal() if isinstance(value, Secret) else value
            for name, value in self.headers.items()
        }
        if self.bearer_file is not None:
            headers["Authorization"] = f"Bearer {self.bearer_file.read_text().strip()}"
        return headers


@dataclass(frozen=True, kw_only=True)
class TcpProbe:
    """A TCP port: somebody accepts the connection in time.

    Args:
        host, port: whom to connect to.
        slow_s: a later connection is a warning.
        answer_s: a later connection is none.
    """

    host: str
    port: Port
    slow_s: Span | None = None
    answer_s: Span = 3.0

    async def look(self, moment: Moment) -> Reading:
        """Connect once, and hang up."""
        evidence: dict[str, Any] = {"host": self.host, "port": self.port}
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            async with asyncio.timeout(self.answer_s):
                _, writer = await asyncio.open_connection(self.host, self.port)
        except TimeoutError:
            return _dead(f"no connection within {self.answer_s:g} s", evidence)
        except OSError as error:
            return _dead(_sentence(error), evidence)
        writer.transport.abort()
        took_s = loop.time() - began_s
        more: dict[str, Any] = {"measurements": {"latency_seconds": took_s}, "evidence": evidence}
        words = f"connected in {1_000 * took_s:.0f} ms"
        if self.slow_s is not None and took_s > self.slow_s:
            return warning(f"{words}, over {self.slow_s:g} s", Fault.OVERLOAD, **more)
        return ok(words, **more)


@dataclass(frozen=True, kw_only=True)
class CertificateProbe:
    """A certificate, in a file or as a server shows it: it is good now, and for a while.

    The chain and the name are not checked here (a check of type `http` does): only the time.

    Args:
        path: a file of PEM certificates; the first to end counts.
        host, port: a server that speaks TLS; one of `path` and `host`.
        warn_s, crit_s: it ends within this time.
        answer_s: the server must answer within this time.
    """

    path: Path | None = None
    host: str = ""
    port: Port = 443
    warn_s: Span = 21 * _DAY_S
    crit_s: Span = 3 * _DAY_S
    answer_s: Span = 4.0

    def __post_init__(self) -> None:
        """Refuse both or neither."""
        if (self.path is None) == (not self.host):
            raise refused("host", self.host, "either host or path")

    async def look(self, moment: Moment) -> Reading:
        """Read it, and compare its time with now."""
        where = str(self.path) if self.path is not None else f"{self.host}:{self.port}"
        evidence: dict[str, Any] = {"certificate": where}
        try:
            begins, ends, name = await self._times()
        except TimeoutError:
            return unknown(f"no answer within {self.answer_s:g} s", evidence=evidence)
        except (OSError, ValueError) as error:
            words = _sentence(error) if isinstance(error, OSError) else "it holds no certificate"
            return unknown(words, evidence=evidence)
        left_s = (ends - moment.at).total_seconds()
        evidence |= {"subject": name, "ends": ends.isoformat()}
        more: dict[str, Any] = {"measurements": {"left_seconds": left_s}, "evidence": evidence}
        if begins > moment.at:
            words = f"it is not good before {begins.isoformat()}"
            return critical(words, Fault.CERTIFICATE_EXPIRY, **more)
        if left_s <= 0:
            return critical(f"it ended {duration(-left_s)} ago", Fault.CERTIFICATE_EXPIRY, **more)
        words = f"it ends in {duration(left_s)}"
        if left_s <= self.crit_s:
            return critical(words, Fault.CERTIFICATE_EXPIRY, **more)
        if left_s <= self.warn_s:
            return warning(words, Fault.CERTIFICATE_EXPIRY, **more)
        return ok(words, **more)

    async def _times(self) -> tuple[datetime, datetime, str]:
        from cryptography import x509  # noqa: PLC0415 -- 15 MB that only this check needs

        if self.path is not None:
            found = x509.load_pem_x509_certificates(self.path.read_bytes())
        else:
            async with asyncio.timeout(self.answer_s):
                found = [x509.load_der_x509_certificate(await _shown(self.host, self.port))]
        first = min(found, key=lambda each: each.not_valid_after_utc)
        return first.not_valid_before_utc, first.not_valid_after_utc, first.subject.rfc4514_string()


async def _shown(host: str, port: int) -> bytes:
    """The certificate that a server shows, whoever signed it, in DER."""
    context = context_of(None, is_verified=False)
    _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=host)
    try:
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.transport.abort()
    if not shown:
        raise ValueError("no certificate")
    return bytes(shown)


def _dead(words: str, evidence: dict[str, Any]) -> Reading:
    return critical(words, Fault.DEAD_ENDPOINT, evidence=evidence)


def _sentence(error: Exception) -> str:
    """What went wrong, without addresses or content."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"no TLS: {(error.reason or 'the handshake failed').lower().replace('_', ' ')}"
    if isinstance(error, NotHttp):
        return str(error)
    with suppress(AttributeError):
        if isinstance(error, OSError) and error.errno is None and error.args:
            return "every address refused the connection"
    return why(error) if isinstance(error, OSError) else type(error).__name__
