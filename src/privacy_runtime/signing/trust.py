"""Whose signatures count for a reader: a file of public keys, edited by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Self

from privacy_core.errors import InvalidParameter
from privacy_runtime.files import write_atomic
from privacy_runtime.signing.canonical import readable_bytes
from privacy_runtime.signing.errors import UnknownKey
from privacy_runtime.signing.keys import PublicKey, json_file, key_id_of

TRUST_VERSION: Final = 1


class TrustedKeys:
    """The keys whose signatures count for a reader.

    Raises:
        InvalidParameter: a key is there twice.
    """

    def __init__(self, keys: Iterable[PublicKey] = ()) -> None:
        self.keys: tuple[PublicKey, ...] = tuple(keys)
        if len({key.public_key for key in self.keys}) < len(self.keys):
            raise InvalidParameter("keys", found="a key twice", expected="each key once")

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """Read a file of trusted keys.

        Raises:
            InvalidParameter: it is missing, or not such a file.
        """
        path = Path(path)
        document = json_file(path)
        if not isinstance(document, Mapping) or set(document) != {"version", "keys"}:
            raise InvalidParameter(
                "path", found=f"{path}: other fields", expected="the fields ['keys', 'version']"
            )
        if document["version"] != TRUST_VERSION or not isinstance(document["keys"], list):
            raise InvalidParameter(
                "version", found=document["version"], expected=f"{TRUST_VERSION}, with a list"
            )
        return cls(PublicKey.from_json(entry) for entry in document["keys"])

    def with_key(self, key: PublicKey) -> TrustedKeys:
        """These keys and one more; one that is here already is replaced."""
        others = [known for known in self.keys if known.public_key != key.public_key]
        return TrustedKeys([*others, key])

    def write(self, path: Path | str) -> None:
        """Write the file, whole or not at all.

        Raises:
            WriteFailed: the disk refused; an earlier file is intact.
        """
        entries = [key.to_json() for key in self.keys]
        write_atomic(path, readable_bytes({"version": TRUST_VERSION, "keys": entries}))

    def find(self, public_key: str) -> PublicKey:
        """The trusted entry of a key.

        Raises:
            UnknownKey: there is none.
        """
        for known in self.keys:
            if known.public_key == public_key:
                return known
        raise UnknownKey(
            f"signed by a key you do not trust: {key_id_of(public_key)}; the signature shows that "
            "nothing was changed since, not who signed. Ask the issuer for the key id by another "
            "way, and add its .pub entry to your file of trusted keys"
        )
