"""Wrapping keys in HashiCorp Vault or OpenBao: its transit engine wraps, the keys stay there.

The client is `hvac`. The policy of our token needs `update` on `transit/encrypt/NAME`,
`transit/decrypt/NAME` and `transit/keys/NAME/rotate`, and `read` on `transit/keys/NAME`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import hvac  # type: ignore[import-untyped]  # it ships no types
import requests
from hvac import exceptions
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from privacy_runtime.keys.contract import Wrapping, WrappingKey, require_secret
from privacy_runtime.keys.errors import KeyringRefused, KeyringUnavailable, UnknownWrapping
from privacy_runtime.secret import Secret

_PREFIX: Final = "vault:v"
_CONNECTIONS: Final = 32
# Only where no connection came about: then Vault has not seen the request, and a rotation is not
# made twice.
_RETRIES: Final = Retry(total=3, connect=3, read=0, redirect=0, status=0, backoff_factor=0.1)


class VaultKeyring:
    """Wrapping keys in a transit engine, by version.

    Args:
        address: `https://vault.example:8200`.
        token: ours.
        name: of the key; it exists, and is of type `aes256-gcm96`.
        mount: where the engine is mounted.
        timeout_s: of each request.
    """

    keeper: Final = "vault"

    def __init__(
        self,
        address: str,
        token: Secret,
        *,
        name: str = "privacy-finetuner",
        mount: str = "transit",
        timeout_s: float = 10.0,
    ) -> None:
        self._where = f"transit key {name!r}"
        self._name = name
        self._mount = mount
        session = requests.Session()
        for scheme in ("https://", "http://"):
            session.mount(scheme, HTTPAdapter(pool_maxsize=_CONNECTIONS, max_retries=_RETRIES))
        client = hvac.Client(url=address, token=token.reveal(), timeout=timeout_s, session=session)
        self._transit: Any = client.secrets.transit

    def known(self) -> list[WrappingKey]:
        """All versions that may still decrypt, oldest first."""
        with self._asking():
            data = self._transit.read_key(self._name, mount_point=self._mount)["data"]
        latest = int(data["latest_version"])
        made = {int(version): int(at) for version, at in data["keys"].items()}
        return [
            WrappingKey(
                f"v{version}", datetime.fromtimestamp(made[version], UTC), version == latest
            )
            for version in sorted(made)
        ]

    def wrap(self, secret: bytes) -> Wrapping:
        """See `Keyring`."""
        require_secret(secret)
        with self._asking():
            answer = self._transit.encrypt_data(
                self._name, base64.b64encode(secret).decode(), mount_point=self._mount
            )
        sealed: str = answer["data"]["ciphertext"]
        return Wrapping(self.keeper, _version_of(sealed, self._where), sealed.encode())

    def unwrap(self, wrapping: Wrapping) -> bytes:
        """See `Keyring`."""
        sealed = wrapping.sealed.decode("ascii", "replace")
        if wrapping.keeper != self.keeper or not sealed.startswith(f"vault:{wrapping.key}:"):
            raise UnknownWrapping(self._where, wrapping.key)
        with self._asking(wrapping):
            answer = self._transit.decrypt_data(self._name, sealed, mount_point=self._mount)
        try:
            return base64.b64decode(answer["data"]["plaintext"], validate=True)
        except (KeyError, ValueError, binascii.Error) as error:
            raise KeyringRefused(self._where, "its answer holds no key") from error

    def rotate(self) -> WrappingKey:
        """See `Keyring`."""
        with self._asking():
            self._transit.rotate_key(self._name, mount_point=self._mount)
        return self.known()[-1]

    @contextmanager
    def _asking(self, opened: Wrapping | None = None) -> Iterator[None]:
        """Say in our words what Vault refuses; its own may hold what we sent."""
        try:
            yield
        except exceptions.InvalidRequest as error:
            if opened is not None:
                raise UnknownWrapping(self._where, opened.key) from error
            raise KeyringRefused(self._where, "Vault calls the request invalid") from error
        except (exceptions.Forbidden, exceptions.Unauthorized) as error:
            raise KeyringRefused(self._where, "Vault does not allow it to our token") from error
        except exceptions.InvalidPath as error:
            raise KeyringRefused(self._where, "Vault knows no such key") from error
        except (exceptions.VaultError, requests.RequestException) as error:
            raise KeyringUnavailable(self._where, type(error).__name__) from error


def _version_of(sealed: str, where: str) -> str:
    head, _, rest = sealed.removeprefix(_PREFIX).partition(":")
    if not (sealed.startswith(_PREFIX) and head.isdecimal() and rest):
        raise KeyringRefused(where, "its answer is no ciphertext of transit")
    return f"v{head}"
