"""A keyring by its address, as configurations and command lines write it.

==============================  ================================================================
address                         what else is read
==============================  ================================================================
`file:PATH`                     the file is made, with a first key, where there is none
`environment:`                  `PRIVACY_FINETUNER_WRAPPING_KEYS`
`vault:NAME@https://HOST:8200`  `VAULT_TOKEN`, or the file that `VAULT_TOKEN_FILE` names
`pkcs11:TOKEN@LIBRARY`          `PKCS11_PIN`, or the file that `PKCS11_PIN_FILE` names
==============================  ================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from privacy_runtime.files import reason_of
from privacy_runtime.keys.contract import Keyring
from privacy_runtime.keys.errors import KeyringRefused
from privacy_runtime.keys.held import EnvironmentKeyring, FileKeyring
from privacy_runtime.secret import Secret
from privacy_runtime.world import Clock, Entropy


def opened_keyring(
    address: str, *, environment: Mapping[str, str], clock: Clock, entropy: Entropy
) -> Keyring:
    """Open a keyring.

    Raises:
        KeyringRefused: the address is none of those above, or what it needs is missing.
        KeyringUnavailable: its keeper does not answer.
    """
    kind, _, rest = address.partition(":")
    name, at, place = rest.partition("@")
    match kind:
        case "file" if rest:
            return FileKeyring.opened(rest, clock=clock, entropy=entropy)
        case "environment" if not rest:
            return EnvironmentKeyring(environment, entropy=entropy)
        case "vault" if name and at and place.startswith(("https://", "http://127.0.0.1")):
            return _vault(place, name, _secret("VAULT_TOKEN", environment))
        case "pkcs11" if name and at and place:
            return _pkcs11(place, name, _secret("PKCS11_PIN", environment), clock)
    raise KeyringRefused(
        f"the keyring {kind + ':'!r}",
        "expected file:PATH, environment:, vault:NAME@https://HOST or pkcs11:TOKEN@LIBRARY",
    )


def _vault(address: str, name: str, token: Secret) -> Keyring:
    try:
        from privacy_runtime.keys.vault import VaultKeyring  # noqa: PLC0415  an extra
    except ImportError as error:
        raise _missing("vault", error) from error
    return VaultKeyring(address, token, name=name)


def _pkcs11(library: str, token: str, pin: Secret, clock: Clock) -> Keyring:
    try:
        from privacy_runtime.keys.pkcs11 import Pkcs11Keyring  # noqa: PLC0415  an extra
    except ImportError as error:
        raise _missing("pkcs11", error) from error
    return Pkcs11Keyring(library, token, pin, clock=clock)


def _missing(extra: str, error: ImportError) -> KeyringRefused:
    return KeyringRefused(
        f"a keyring of kind {extra}",
        f"{error.name} is not installed: pip install 'privacy-finetuner[{extra}]'",
    )


def _secret(name: str, environment: Mapping[str, str]) -> Secret:
    if value := environment.get(name):
        return Secret(value)
    file = environment.get(f"{name}_FILE")
    if not file:
        raise KeyringRefused(name, f"neither it nor {name}_FILE is set")
    try:
        return Secret(Path(file).read_text(encoding="utf-8").strip())
    except OSError as error:
        raise KeyringRefused(f"{name}_FILE", reason_of(error)) from error
