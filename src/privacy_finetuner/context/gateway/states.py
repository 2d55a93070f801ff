"""What a server wants to have back, kept from the model's eyes: request states and addresses.

A `requestState` is a server's own text, and may quote what it will. The client gets it sealed; the
server gets back, byte for byte, what it gave. Addresses of resources are rewritten where they carry
values; the book says which address was meant.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections import OrderedDict
from typing import Any, Final, TypeVar
from urllib.parse import unquote

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from privacy_finetuner.context.gateway.errors import MessageRefused, Reason
from privacy_runtime.world import Entropy

SCHEME: Final = "mcp://"
ADDRESSES_MAX: Final = 10_000
_NONCE_BYTES: Final = 12

_Key = TypeVar("_Key")


class StateSeal:
    """Seals states for one session: AES-256-GCM under a key that this process forgets.

    Guarantee: a state that was changed, comes from another session, or belongs to another request
    is refused. Nonces are random; NIST SP 800-38D section 8.3 allows 2^32 of them for a key.
    """

    def __init__(self, entropy: Entropy) -> None:
        self._cipher = AESGCM(entropy.token_bytes(32))
        self._entropy = entropy

    def seal(self, state: dict[str, Any], *, purpose: str) -> str:
        """Return a state as the text that the client carries."""
        nonce = self._entropy.token_bytes(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, json.dumps(state).encode(), purpose.encode())
        return base64.urlsafe_b64encode(nonce + sealed).decode()

    def open(self, text: str, *, purpose: str) -> dict[str, Any]:
        """Return what was sealed for this purpose.

        Raises:
            MessageRefused: it was not sealed here, or not for this.
        """
        try:
            data = base64.urlsafe_b64decode(text)
            plain = self._cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], purpose.encode())
        except (binascii.Error, ValueError, InvalidTag):
            raise MessageRefused(Reason.UNKNOWN_STATE) from None
        state: dict[str, Any] = json.loads(plain)
        return state


class AddressBook:
    """Which address a server meant by the one that the client was shown. Holds the latest ones."""

    def __init__(self) -> None:
        self._meant: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._owner: OrderedDict[str, str] = OrderedDict()

    def note(self, server: str, *, shown: str, meant: str) -> None:
        """Remember a rewritten address, and whose it is."""
        _keep(self._meant, (server, shown), meant)
        _keep(self._owner, shown, server)
        # Clients write addresses anew, encoding more or less of them. What they write exactly as
        # it was shown goes first, and of two that differ only in this the one shown first.
        plain = unquote(shown)
        if plain != shown or (server, plain) not in self._meant:
            self._meant.setdefault((server, plain), meant)
            self._owner.setdefault(plain, server)

    def meant(self, server: str, shown: str) -> str | None:
        """The server's own address, if this one was shown to the client."""
        exact = self._meant.get((server, shown))
        return exact if exact is not None else self._meant.get((server, unquote(shown)))

    def owner(self, shown: str) -> str | None:
        """The server that an address without a server's name was last shown for."""
        return self._owner.get(shown) or self._owner.get(unquote(shown))


def _keep(book: OrderedDict[_Key, str], key: _Key, value: str) -> None:
    book[key] = value
    book.move_to_end(key)
    while len(book) > ADDRESSES_MAX:
        book.popitem(last=False)


def with_server(server: str, uri: str) -> str:
    """The client's address of a server's resource: `mcp://SERVER/ADDRESS`."""
    return f"{SCHEME}{server}/{uri}"


def without_server(address: str) -> tuple[str, str] | None:
    """Server and address of a client's address; `None` if it names no server."""
    if not address.startswith(SCHEME):
        return None
    server, slash, uri = address.removeprefix(SCHEME).partition("/")
    return (server, uri) if slash and server else None
