"""What a sealed set holds, signed: its files, its place in its series, where the ledger stood."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from privacy_runtime.blobs.errors import NotSealed, SealBroken
from privacy_runtime.signing import (
    NotCanonical,
    PublicKey,
    SignatureInvalid,
    SigningKey,
    TrustedKeys,
    canonical_bytes,
    instant_of,
    parse_canonical,
    require_signature,
)

FORMAT: Final = "privacy-finetuner sealed set 1"


@dataclass(frozen=True, slots=True)
class SealedFile:
    """One file of a set.

    Attributes:
        name: within the set.
        sha256: of the sealed bytes, in hexadecimal: anybody can check it, without a key.
        sealed_bytes, plain_bytes: sizes.
    """

    name: str
    sha256: str
    sealed_bytes: int
    plain_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One set of a series.

    Attributes:
        series: what it is a state of: a run.
        number: its place, from 1.
        sealed_at: RFC 3339 in UTC.
        parent: SHA-256 of the manifest before it; empty for the first.
        ledger: where the ledger's stream stood: `stream`, `seq`, `hash`; empty if there is none.
        labels: public figures to find it by, such as the step.
        files: what it holds.
    """

    series: str
    number: int
    sealed_at: str
    parent: str
    ledger: Mapping[str, str | int] = field(default_factory=dict)
    labels: Mapping[str, str | int] = field(default_factory=dict)
    files: tuple[SealedFile, ...] = ()

    @property
    def name(self) -> str:
        """`SERIES/NUMBER`: the folder of the set."""
        return set_name(self.series, self.number)

    @property
    def digest(self) -> str:
        """SHA-256 of what is signed, in hexadecimal."""
        return hashlib.sha256(self._signed()).hexdigest()

    def signed(self, key: SigningKey) -> bytes:
        """The manifest with its signature, as it lies in a store."""
        return canonical_bytes(
            {
                "manifest": self._document(),
                "public_key": key.public.to_json(),
                "signature": key.sign(self._signed()),
            }
        )

    @classmethod
    def opened(cls, data: bytes, name: str, trusted: TrustedKeys) -> Self:
        """Read a signed manifest.

        Raises:
            NotSealed: it is none.
            SealBroken: it was changed, or signed by nobody who is trusted or by a key out of time.
        """
        try:
            document = parse_canonical(data)
            public = PublicKey.from_json(document["public_key"])
            manifest = cls._read(document["manifest"])
            require_signature(public.public_key, document["signature"], manifest._signed())
            trusted.find(public.public_key).require_valid_at(instant_of(manifest.sealed_at))
        except SignatureInvalid as error:
            raise SealBroken(name, "its manifest was changed since it was signed") from error
        except NotCanonical as error:
            raise SealBroken(name, "its manifest is not in canonical form") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise NotSealed(name, "its manifest is malformed or of another version") from error
        return manifest

    def _signed(self) -> bytes:
        return canonical_bytes(self._document())

    def _document(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "series": self.series,
            "number": self.number,
            "sealed_at": self.sealed_at,
            "parent": self.parent,
            "ledger": dict(self.ledger),
            "labels": dict(self.labels),
            "files": [
                {
                    "name": file.name,
                    "sha256": file.sha256,
                    "sealed_bytes": file.sealed_bytes,
                    "plain_bytes": file.plain_bytes,
                }
                for file in self.files
            ],
        }

    @classmethod
    def _read(cls, document: Mapping[str, Any]) -> Self:
        if document["format"] != FORMAT:
            raise ValueError("format")
        return cls(
            series=document["series"],
            number=document["number"],
            sealed_at=document["sealed_at"],
            parent=document["parent"],
            ledger=document["ledger"],
            labels=document["labels"],
            files=tuple(SealedFile(**file) for file in document["files"]),
        )


def set_name(series: str, number: int) -> str:
    """The folder of a set within its store."""
    return f"{series}/{number:06}"
