"""What a request shows to say who asks: one thing, or it is refused."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from starlette.datastructures import Headers

from privacy_runtime.http.refusals import Unauthenticated

CREDENTIAL_MAX: Final = 8192
_KEY_PREFIX: Final = "pf_"
_DIGEST_BYTES: Final = 24


class Kind(StrEnum):
    """How somebody says who they are."""

    TOKEN = "token"  # noqa: S105  the name of a kind
    API_KEY = "api_key"
    COOKIE = "cookie"


@dataclass(frozen=True, slots=True)
class Credentials:
    """One credential, not yet verified. Its text does not show."""

    kind: Kind
    text: str = field(repr=False)
    _digest: bytes = field(default=b"", init=False, repr=False, compare=False)

    @property
    def digest(self) -> bytes:
        """What tells it apart from others where its text is not kept; made once."""
        if not self._digest:
            text = f"{self.kind}|{self.text}".encode()
            made = hashlib.blake2b(text, digest_size=_DIGEST_BYTES).digest()
            object.__setattr__(self, "_digest", made)
        return self._digest


def of_text(text: str) -> Credentials:
    """A bearer's credential: an API key by its beginning, else an access token."""
    if not 0 < len(text) <= CREDENTIAL_MAX or not text.isascii():
        raise Unauthenticated("the credentials cannot be read")
    return Credentials(Kind.API_KEY if text.startswith(_KEY_PREFIX) else Kind.TOKEN, text)


def credentials_of(headers: Headers, cookie: str) -> Credentials | None:
    """The credentials of a request; `None` if it shows none.

    A header wins over a cookie: programs send headers on purpose, browsers send cookies always.

    Args:
        headers: of the request.
        cookie: name of the session's cookie.

    Raises:
        Unauthenticated: two headers, two cookies of the name, or a header of another scheme.
    """
    lines, keys = headers.getlist("authorization"), headers.getlist("x-api-key")
    if len(lines) + len(keys) > 1:
        raise Unauthenticated("there is more than one credential")
    if keys:
        found = of_text(keys[0])
        if found.kind is not Kind.API_KEY:
            raise Unauthenticated("the credentials cannot be read")
        return found
    if lines:
        scheme, _, text = lines[0].partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated("the credentials are of another scheme than Bearer")
        return of_text(text.strip())
    values = cookies_named(headers, cookie)
    if len(values) > 1:
        raise Unauthenticated("there is more than one session cookie")
    return Credentials(Kind.COOKIE, values[0]) if values else None


def cookies_named(headers: Headers, name: str) -> list[str]:
    """Every value of a cookie, in order; a shadowed one is not lost."""
    found = []
    for line in headers.getlist("cookie"):
        for pair in line.split(";"):
            key, mark, value = pair.strip().partition("=")
            if mark and key == name:
                found.append(value.strip('"'))
    return found
