"""What a client shows to be let in, and where it may show it."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from privacy_finetuner.client.credentials import API_KEY_VARIABLE, GrantHome
from privacy_finetuner.client.errors import CredentialsUnsafe, NotLoggedIn
from privacy_runtime.secret import Secret

Headers: TypeAlias = Mapping[str, str]

_LOCAL_NAME: Final = "localhost"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key of a program; it is sent as it is until it expires or is revoked."""

    key: Secret


@dataclass(frozen=True, slots=True)
class Login:
    """Tokens of a login, which are renewed as they expire."""

    home: GrantHome


@dataclass(frozen=True, slots=True)
class Nobody:
    """No credentials: enough to log in, and for the health of the service."""


Credentials: TypeAlias = ApiKey | Login | Nobody


def api_key_of(given: str | Secret | None, environment: Mapping[str, str]) -> ApiKey:
    """The key that was given, or the one of the environment.

    Raises:
        NotLoggedIn: there is none, or it cannot be a header.
    """
    text = given.reveal() if isinstance(given, Secret) else given
    text = text or environment.get(API_KEY_VARIABLE)
    if not text:
        raise NotLoggedIn(
            f"no API key: pass api_key=, set {API_KEY_VARIABLE}, or log in; nothing was sent"
        )
    if not text.isascii() or not text.isprintable() or " " in text:
        raise NotLoggedIn("the API key has characters that no key has; nothing was sent")
    return ApiKey(Secret(text))


def bearer(secret: Secret) -> Headers:
    """The header that shows a token or a key."""
    return {"Authorization": f"Bearer {secret.reveal()}"}


def address_of(url: str, *, allow_http: bool = False) -> str:
    """The address of a service without a slash at its end.

    Raises:
        CredentialsUnsafe: it is no address of a service; it holds a password; or it is `http://` to
            another machine, where anybody on the way reads passwords, tokens and texts.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise CredentialsUnsafe("the address of the service is no URL; nothing was sent") from error
    if parts.scheme not in {"http", "https"} or not host or parts.query or parts.fragment:
        raise CredentialsUnsafe(
            "expected the address of a service as https://HOST[:PORT][/PATH]; nothing was sent"
        )
    if parts.username is not None or parts.password is not None:
        raise CredentialsUnsafe(
            "the address of the service holds a user or password, expected neither: addresses end "
            "up in logs; nothing was sent"
        )
    if parts.scheme == "http" and not allow_http and not _is_this_machine(host):
        raise CredentialsUnsafe(
            f"http://{host} is another machine, and everybody on the way could read what is sent; "
            "expected https:// (or allow_http=True where the way is private); nothing was sent"
        )
    return url.rstrip("/")


def _is_this_machine(host: str) -> bool:
    if host == _LOCAL_NAME or host.endswith(f".{_LOCAL_NAME}"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
