"""A program's certificate, its key and whom it trusts: files that are renewed while it runs.

A renewed pair is taken when it fits together and counts now; anything else leaves what was read
before, and says so once. Connections that are open keep the certificate that they began with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from OpenSSL import SSL

from privacy_core.errors import InvalidParameter
from privacy_runtime.world import Clock, SystemClock

SOON_DAYS: Final = 14
"""A certificate that ends within so many days is worth a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Files in PEM.

    Args:
        certificate, key: the program's own chain and its key; None: it shows none.
        authority: whom it trusts; None: the machine's authorities.
    """

    certificate: Path | None = None
    key: Path | None = None
    authority: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise InvalidParameter("key", found="one of two", expected="a certificate and its key")

    def stamp(self) -> tuple[tuple[int, int], ...]:
        """What changes when a file does."""
        named = (self.certificate, self.key, self.authority)
        found = [path.stat() for path in named if path is not None]
        return tuple((one.st_mtime_ns, one.st_ino) for one in found)


class Renewable:
    """An OpenSSL context of files, made anew when they change.

    Guarantee: what does not fit together, has ended or has not begun is never taken; then
    `context` is what it was, and `problem` is told once for every state of the files.

    Args:
        files: see there.
        make: makes the context; TLS settings are the caller's, certificates ours.
        problem: told a sentence without a path's content.
        clock: None: the machine's.

    Raises:
        InvalidParameter: the files cannot be used at the start.
    """

    def __init__(
        self,
        files: TlsFiles,
        make: Callable[[], SSL.Context],
        *,
        problem: Callable[[str], None] = lambda _: None,
        clock: Clock | None = None,
    ) -> None:
        self._files, self._make, self.problem = files, make, problem
        self._clock = clock or SystemClock()
        self._told: str | None = None
        self.not_after: datetime | None = None
        try:
            self._stamp = files.stamp()
            self._take()
        except _UNUSABLE as error:
            raise InvalidParameter(
                "certificate",
                found=_reason(error),
                expected="a certificate, its key and an authority in PEM, valid now; nothing was "
                "started",
            ) from None

    def renew(self) -> bool:
        """Read the files again if they changed; returns whether a renewed pair was taken."""
        try:
            stamp = self._files.stamp()
            if stamp == self._stamp:
                return self._warned()
            self._take()
        except _UNUSABLE as error:
            self._say(f"renewed files were not taken ({_reason(error)}); the old ones stay")
            return False
        self._stamp, self._told = stamp, None
        return True

    def _warned(self) -> bool:
        """Say that the end is near; there is nothing new."""
        end = self.not_after
        if end is not None:
            left = (end - self._clock.now()).total_seconds() / 86400
            if left <= 0:
                self._say("the certificate has ended; peers refuse it")
            elif left <= SOON_DAYS:
                self._say(f"the certificate ends on {end.date().isoformat()}")
        return False

    def _take(self) -> None:
        files, end = self._files, None
        context = self._make()
        if files.authority is not None:
            context.load_verify_locations(str(files.authority))
        else:
            context.set_default_verify_paths()
        if files.certificate is not None and files.key is not None:
            now = self._clock.now()
            own = x509.load_pem_x509_certificates(files.certificate.read_bytes())[0]
            end = own.not_valid_after_utc
            if not own.not_valid_before_utc <= now <= end:
                raise _NotNow("it does not count now")
            context.use_certificate_chain_file(str(files.certificate))
            context.use_privatekey_file(str(files.key))
            context.check_privatekey()
        self.context, self.not_after = context, end

    def _say(self, sentence: str) -> None:
        if sentence != self._told:
            self.problem(sentence)
            self._told = sentence


def names_host(certificate: x509.Certificate, host: str | bytes) -> bool:
    """Whether a certificate is for a host: by subject alternative names alone.

    An address is compared with addresses, a name with names without regard to case; `*` stands for
    one whole label, the first, of a name with three or more.

    Source: RFC 9525, section 6.
    """
    from ipaddress import ip_address  # noqa: PLC0415

    text = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    try:
        named = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    try:
        address = ip_address(text.strip("[]"))
    except ValueError:
        wanted = text.lower().rstrip(".").split(".")
        return any(
            _fits(one.lower().split("."), wanted) for one in named.get_values_for_type(x509.DNSName)
        )
    return address in named.get_values_for_type(x509.IPAddress)


class _NotNow(ValueError):
    """A certificate whose time has not come, or is over."""


_UNUSABLE: Final = (OSError, ValueError, SSL.Error, IndexError)


def _fits(pattern: list[str], wanted: list[str]) -> bool:
    if pattern == wanted:
        return True
    return pattern[0] == "*" and len(pattern) > 2 and pattern[1:] == wanted[1:]


def _reason(error: Exception) -> str:
    if isinstance(error, _NotNow):
        return str(error)
    if isinstance(error, SSL.Error):
        reasons = [str(part[-1]) for part in error.args[0]] if error.args else []
        return ", ".join(dict.fromkeys(reasons)) or "it does not fit together"
    return type(error).__name__


def seconds_left(end: datetime | None, now: datetime) -> float:
    """Until a certificate ends; infinite where there is none."""
    return float("inf") if end is None else (end.astimezone(UTC) - now).total_seconds()
