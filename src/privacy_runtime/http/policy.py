"""Every number and name of the plumbing, each with a default that may stay."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

from privacy_core.errors import InvalidParameter

MEBIBYTE: Final = 1024 * 1024
_AT_ONCE: Final = 8 * MEBIBYTE
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
"""No inline script or style, nothing from another host, no frame around us."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpPolicy:
    """How this deployment meets the network.

    Args:
        hosts: names that requests may be for, in lower case; `*.example.com` for those below one.
            A loopback service answers for its loopback names.
        origin: where browsers find us, `https://pf.example`: it decides whether cookies are for TLS
            only and whose pages may act. `None`: the origin that the host header names, which the
            list of hosts bounds.
        proxies: addresses or networks of proxies whose `X-Forwarded-*` is believed; nobody's else.
        body_limit_bytes: of any body.
        body_limits: by path prefix, the longest that fits, where a route reads more or less.
        body_timeout_s: for a body to arrive in full; in proportion more where over 8 MiB may.
        headers_most: how many headers a request may have.
        headers_limit_bytes: all names and values together.
        csp: the policy of every answer that has none of its own.
        hsts_s: for how long a browser insists on TLS; said over TLS only.
        compressed: path prefixes whose answers may be compressed: nothing secret is below them.
        problem_base: what precedes the code in `type` of RFC 9457 answers.
        error_body: makes the JSON body of an error from what `envelope.answer` would put under
            `error`, for a product whose documents name another form.
    """

    hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]", "testserver")
    origin: str | None = None
    proxies: tuple[str, ...] = ()
    body_limit_bytes: int = MEBIBYTE
    body_limits: Mapping[str, int] = field(default_factory=dict)
    body_timeout_s: float = 30.0
    headers_most: int = 100
    headers_limit_bytes: int = 32 * 1024
    csp: str = CONTENT_SECURITY_POLICY
    hsts_s: int = 31_536_000
    compressed: tuple[str, ...] = ("/static/", "/openapi.json")
    problem_base: str = "urn:privacy-runtime:problem:"
    error_body: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "body_limits", MappingProxyType(dict(self.body_limits)))
        if self.origin is not None:
            parts = urlsplit(self.origin)
            if parts.scheme not in ("http", "https") or not parts.netloc or parts.path:
                raise InvalidParameter(
                    "origin", found=self.origin, expected="scheme://host[:port], nothing after it"
                )
        if "*" in self.hosts:
            raise InvalidParameter("hosts", found="*", expected="names, or *.example.com")

    def body_patience_s(self, path: str) -> float:
        """How long a body for this path may take to arrive."""
        return self.body_timeout_s * max(1.0, self.body_limit(path) / _AT_ONCE)

    def body_limit(self, path: str) -> int:
        """How many bytes a body for this path may have."""
        if not self.body_limits:
            return self.body_limit_bytes
        fitting = [prefix for prefix in self.body_limits if path.startswith(prefix)]
        return self.body_limits[max(fitting, key=len)] if fitting else self.body_limit_bytes
