"""Secrets: a text that does not show itself, and the places that one is taken from.

`${NAME}`                      the variable; else the file that the variable `NAME_FILE` names; else
                               a file `NAME` or `name` among mounted secrets (`/run/secrets`)
`${file:PATH}`                 the file
`${vault:MOUNT/PATH#FIELD}`    HashiCorp Vault, key-value store of version 2; needs hvac
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol

from privacy_runtime.settings.faults import SecretUnavailable

SECRETS_FOLDER: Final = Path("/run/secrets")
MOST_SECRET_BYTES: Final = 65_536
_SOUNDS_SECRET: Final = re.compile(r"PASS|SECRET|TOKEN|KEY|CREDENTIAL|DSN", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Found:
    """A text and where it was; `is_secret` when the place holds secrets."""

    text: str = field(repr=False)
    place: str
    is_secret: bool


class SecretStore(Protocol):
    """A service that keeps secrets."""

    def read(self, reference: str) -> str:
        """The secret at a reference.

        Raises:
            SecretUnavailable: it cannot be had.
        """


@dataclass(frozen=True, slots=True)
class Lookup:
    """Where `${...}` is looked up.

    Args:
        variables: the environment.
        folder: of mounted secrets; it need not exist.
        vault: the store behind `vault:`; made from the environment when it is first needed.
    """

    variables: Mapping[str, str] = field(repr=False)
    folder: Path = SECRETS_FOLDER
    vault: SecretStore | None = None

    def find(self, name: str) -> Found | None:
        """The value of a variable or of the secret that stands for it; `None` when there is none.

        Raises:
            SecretUnavailable: `NAME` and `NAME_FILE` are both set, or the file cannot be read.
        """
        pointer = f"{name}_FILE"
        if name in self.variables:
            if pointer in self.variables:
                raise SecretUnavailable(
                    f"{name} and {pointer} are both set; expected one of them, as it is unknown "
                    "which is meant"
                )
            is_secret = bool(_SOUNDS_SECRET.search(name))
            return Found(self.variables[name], f"variable {name}", is_secret)
        if pointer in self.variables:
            path = Path(self.variables[pointer])
            return Found(read_secret(path), f"{path} (variable {pointer})", is_secret=True)
        for path in (self.folder / name, self.folder / name.lower()):
            if path.is_file():
                return Found(read_secret(path), str(path), is_secret=True)
        return None

    def fetch(self, scheme: str, reference: str) -> Found:
        """The secret at `file:REFERENCE` or `vault:REFERENCE`.

        Raises:
            SecretUnavailable: it cannot be had.
        """
        if scheme == "file":
            return Found(read_secret(Path(reference)), reference, is_secret=True)
        store = self.vault or VaultStore.from_variables(self.variables)
        return Found(store.read(reference), f"vault {reference}", is_secret=True)


def read_secret(path: Path) -> str:
    """The text of a secret's file, without one line end at its end.

    Raises:
        SecretUnavailable: it is missing, empty, too large or not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_SECRET_BYTES + 1)
        text = data.decode("utf-8")
    except OSError as error:
        raise SecretUnavailable(f"the secret file {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise SecretUnavailable(f"the secret file {path} is not UTF-8 text") from None
    if len(data) > MOST_SECRET_BYTES:
        raise SecretUnavailable(f"the secret file {path} has over {MOST_SECRET_BYTES:,} bytes")
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise SecretUnavailable(f"the secret file {path} is empty")
    return text


@dataclass(frozen=True, slots=True)
class VaultStore:
    """Secrets of HashiCorp Vault, from its key-value store of version 2.

    Args:
        client: an `hvac.Client`, or what answers like its `secrets.kv.v2`.
    """

    client: Any = field(repr=False)

    @classmethod
    def from_variables(cls, variables: Mapping[str, str]) -> VaultStore:
        """A store at `VAULT_ADDR`, with the token of `VAULT_TOKEN` or `VAULT_TOKEN_FILE`.

        Raises:
            SecretUnavailable: hvac is not installed, or a variable is missing.
        """
        try:
            client = import_module("hvac").Client
        except ImportError as error:
            raise SecretUnavailable(
                "vault: references need the package hvac, which is not installed; install it, or "
                "mount the secret as a file and write ${file:PATH}"
            ) from error
        token = Lookup(variables).find("VAULT_TOKEN")
        if "VAULT_ADDR" not in variables or token is None:
            raise SecretUnavailable(
                "vault: references need the variables VAULT_ADDR and VAULT_TOKEN (or "
                "VAULT_TOKEN_FILE)"
            )
        return cls(client(url=variables["VAULT_ADDR"], token=token.text))

    def read(self, reference: str) -> str:
        """The field of a secret: `MOUNT/PATH#FIELD`.

        Raises:
            SecretUnavailable: the reference is none, or Vault does not give it.
        """
        path, _, name = reference.partition("#")
        mount, _, inside = path.partition("/")
        if not (mount and inside and name):
            raise SecretUnavailable(f"vault:{reference} is not MOUNT/PATH#FIELD")
        try:
            answer = self.client.secrets.kv.v2.read_secret_version(
                path=inside, mount_point=mount, raise_on_deleted_version=True
            )
        except Exception as error:  # noqa: BLE001  # hvac, requests and urllib3 each have a tree
            raise SecretUnavailable(
                f"vault:{reference} was not given: {type(error).__name__}"
            ) from None  # it may quote the request, and the token is in that
        value = answer.get("data", {}).get("data", {}).get(name)
        if not isinstance(value, str) or not value:
            raise SecretUnavailable(f"vault:{reference}: there is no text under that field")
        return value
