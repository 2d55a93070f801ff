"""The head of a request for a completion, where nothing about it is unusual.

llhttp judges the grammar, strictly: a bare line feed, a folded line, a space before a colon, two
lengths, or a length beside `transfer-encoding` is an error to it. What is no error and yet not
plain (no length, chunks, an expectation, an upgrade, HTTP/1.0, another path) is not read here.

Source: RFC 9112, 3 (request line), 5 (fields), 6.3 (length of a body), 11.2 (smuggling).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import httptools

from federated_dp_llm.gateway.backends import PATHS
from privacy_runtime.http.credentials import Credentials, of_text
from privacy_runtime.http.refusals import Unauthenticated

BEGINNING: Final = b"POST /v1/c"
"""How every such request begins."""
END: Final = b"\r\n\r\n"
LENGTH: Final = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: ([1-9][0-9]{0,8})\r\n")
"""What differs between the heads of most clients' requests, and nothing else does."""
_PATHS: Final = {path.encode(): path for path in PATHS}
_UNUSUAL: Final = frozenset({b"expect", b"upgrade", b"transfer-encoding", b"te", b"trailer"})
_DIGITS_MOST: Final = 12


@dataclass(frozen=True, slots=True)
class Head:
    """What a plain head says.

    Attributes:
        path: one of `PATHS`.
        length: of the body, in bytes.
        credentials: of who asks.
        is_kept: whether the connection is to carry another request.
    """

    path: str
    length: int
    credentials: Credentials
    is_kept: bool


class _Heard:
    """What llhttp finds in a head."""

    __slots__ = ("has_body", "headers", "is_kept", "is_plain", "parser", "url")

    def __init__(self) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.is_plain = self.has_body = self.is_kept = False
        self.parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)

    def feed(self, head: bytes) -> None:
        parser = self.parser
        try:
            if parser is not None:
                parser.feed_data(head)
        finally:
            self.parser = None  # it holds this object: let both go

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        parser = self.parser
        if parser is not None:
            self.is_plain = parser.get_method() == b"POST" and parser.get_http_version() == "1.1"
            self.is_kept = parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        del body
        self.has_body = True

    def on_message_complete(self) -> None:
        self.has_body = True


def read_head(head: bytes, *, headers_most: int) -> Head | None:
    """Read a head, its empty line included; None: it is not a plain one, or is none at all.

    Guarantee: a body of `length` bytes follows, at least one, for every reader of HTTP/1.1.
    """
    heard = _Heard()
    try:
        heard.feed(head)
        plain = _plain(heard, headers_most)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade, Unauthenticated):
        plain = None
    return plain


def _plain(heard: _Heard, headers_most: int) -> Head | None:
    path = _PATHS.get(heard.url)
    if path is None or heard.has_body or not heard.is_plain:
        return None
    found = dict(heard.headers)
    names = [name for name, _ in heard.headers]
    if len(names) > headers_most or _UNUSUAL.intersection(names):
        return None
    if any(names.count(name) != 1 for name in (b"host", b"content-length", b"authorization")):
        return None
    if found.get(b"connection", b"close").strip().lower() not in {b"close", b"keep-alive"}:
        return None
    length, shown = found[b"content-length"], found[b"authorization"]
    if not length.isdigit() or len(length) > _DIGITS_MOST or shown[:7].lower() != b"bearer ":
        return None
    credentials = of_text(shown[7:].strip().decode("latin-1"))
    return Head(path, int(length), credentials, heard.is_kept)
