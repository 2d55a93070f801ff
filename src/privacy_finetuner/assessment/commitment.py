"""A commitment to the records: their holder can show later which they were, nobody else learns.

A plain digest of a small data set is an oracle: who guesses the set can confirm the guess, record
by record if all others are known. So a certificate holds

    HMAC-SHA-256(key, "privacy-finetuner/records/1" 0x00 || fingerprint)

with a fresh 32-byte key that is *not* in the certificate. It lies in an opening file, mode 0600,
for the holder of the records. Without it the value tells nothing (HMAC-SHA-256 as a pseudo-random
function: a computational claim, not one of differential privacy); with it and the records anybody
can check. The issuer says which records they were; nothing in the run proves it.

The fingerprint is SHA-256 over the sorted SHA-256 digests of each record's JSON (ASCII, sorted
keys, Python's `json.dumps` separators), so the order of records does not matter.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from privacy_finetuner.assessment.certificate_errors import NotACertificate
from privacy_finetuner.assessment.certificate_fields import COMMITMENT_SCHEME
from privacy_runtime.signing import NotCanonical, parse_json, readable_bytes, write_private
from privacy_runtime.world import Entropy

KEY_BYTES: Final = 32
_DOMAIN: Final = b"privacy-finetuner/records/1\x00"
_HEX_32: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, repr=False)
class Opening:
    """The key of a commitment. Secret: with it a guess of the records can be confirmed."""

    key: bytes

    @classmethod
    def fresh(cls, entropy: Entropy) -> Self:
        """Draw a key."""
        return cls(entropy.token_bytes(KEY_BYTES))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read an opening file.

        Raises:
            NotACertificate: it is not one. OSError: it is not there.
        """
        try:
            document = parse_json(path.read_bytes())
            key, scheme = document["key"], document["scheme"]
        except (NotCanonical, KeyError, TypeError):
            key = scheme = None
        if scheme != COMMITMENT_SCHEME or not _HEX_32.fullmatch(str(key)):
            raise NotACertificate(f"{path} is not an opening of a commitment")
        return cls(bytes.fromhex(str(key)))

    def write(self, path: Path) -> None:
        """Write the opening to a new file, mode 0600.

        Raises:
            InvalidParameter: the file exists. WriteFailed: the disk refused.
        """
        document = {"scheme": COMMITMENT_SCHEME, "key": self.key.hex()}
        write_private(path, readable_bytes(document))

    def commit(self, fingerprint: str) -> dict[str, Any]:
        """The commitment to records with this fingerprint, as a certificate holds it."""
        message = _DOMAIN + bytes.fromhex(fingerprint)
        value = hmac.new(self.key, message, hashlib.sha256).hexdigest()
        return {"scheme": COMMITMENT_SCHEME, "value": value}

    def fits(self, commitment: dict[str, Any], fingerprint: str) -> bool:
        """Whether this opens a commitment to these records."""
        return hmac.compare_digest(self.commit(fingerprint)["value"], str(commitment["value"]))

    def __repr__(self) -> str:
        """Show nothing of the key."""
        return "Opening(***)"
