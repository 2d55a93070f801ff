"""What a sealed set holds, signed: its files, its place in its series, where the ledger stood.

=========================  ====================================================================
version                    the sum of a file is
=========================  ====================================================================
2, written                 that of `segments.Witness`, from tags and GMACs
1, still read              SHA-256 of all sealed bytes
=========================  ====================================================================
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, Self

from privacy_runtime.blobs.errors import NotSealed, SealBroken
from privacy_runtime.blobs.segments import Witness
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

VERSION: Final = 2
_FORMAT: Final = "privacy-finetuner sealed set "
_SUM_FIELD: Final = {1: "sha256", 2: "sum"}


class Sums(Protocol):
    """Adds up the pieces of a file."""

    def update(self, piece: bytes, /) -> None:
        """Take the next piece."""
        ...

    def hexdigest(self) -> str:
        """The sum of all pieces so far."""
        ...


@dataclass(frozen=True, slots=True)
class SealedFile:
    """One file of a set.

    Attributes:
        name: within the set.
        sum: of the sealed bytes, in hexadecimal; how, says the version of the manifest.
        sealed_bytes, plain_bytes: sizes.
    """

    name: str
    sum: str
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
        version: of the format.
    """

    series: str
    number: int
    sealed_at: str
    parent: str
    ledger: Mapping[str, str | int] = field(default_factory=dict)
    labels: Mapping[str, str | int] = field(default_factory=dict)
    files: tuple[SealedFile, ...] = ()
    version: int = VERSION

    def sums(self) -> Sums:
        """What adds up a file of this set: front and segments, or bytes in any pieces before."""
        return Witness() if self.version == VERSION else hashlib.sha256()

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
                "manifest": self.to_json(),
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
            manifest = cls.from_json(document["manifest"])
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
        return canonical_bytes(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """What is signed, as JSON."""
        return {
            "format": f"{_FORMAT}{self.version}",
            "series": self.series,
            "number": self.number,
            "sealed_at": self.sealed_at,
            "parent": self.parent,
            "ledger": dict(self.ledger),
            "labels": dict(self.labels),
            "files": [
                {
                    "name": file.name,
                    _SUM_FIELD[self.version]: file.sum,
                    "sealed_bytes": file.sealed_bytes,
                    "plain_bytes": file.plain_bytes,
                }
                for file in self.files
            ],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote; believes it.

        Raises:
            KeyError, TypeError, ValueError: it is no manifest, or of another version.
        """
        versions = {f"{_FORMAT}{version}": version for version in _SUM_FIELD}
        version = versions[document["format"]]
        field = _SUM_FIELD[version]
        return cls(
            series=document["series"],
            number=document["number"],
            sealed_at=document["sealed_at"],
            parent=document["parent"],
            ledger=document["ledger"],
            labels=document["labels"],
            files=tuple(
                SealedFile(file["name"], file[field], file["sealed_bytes"], file["plain_bytes"])
                for file in document["files"]
            ),
            version=version,
        )


def set_name(series: str, number: int) -> str:
    """The folder of a set within its store."""
    return f"{series}/{number:06}"
