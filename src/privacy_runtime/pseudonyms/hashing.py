"""Keyed hashes: one stand-in for one entity, and no way back, for anybody.

    [PERSON#4T9WQ2M8X1C7JZ5K]   base 32 of HMAC-SHA256(key, type, 0, canonical value), 80 bits

The key is what protects. Telephone numbers and social security numbers are so few that a hash
without a key, or with a salt that is known, is undone by trying them all in seconds.

==========  =======================================================================================
leaks       how much
==========  =======================================================================================
type        in clear
equality    of canonical values (`canonical_forms`) of one type, for one tenant and key: frequencies
            can be compared with public ones
length      nothing
==========  =======================================================================================

Whoever holds the key can test guesses. Destroying the tenant's key makes the hashes anonymous as
far as the rest of the text is.

Sources: RFC 2104 (HMAC); for 80 bits: among n values the chance of a collision is n^2 / 2^81, below
10^-6 up to 10^9 values (at 10^9: 4 * 10^-7).
"""

from __future__ import annotations

import hmac
from typing import Final

from privacy_core.errors import InvalidParameter
from privacy_core.redaction.canonical_forms import canonical
from privacy_core.redaction.findings import Finding
from privacy_core.redaction.operators import Scope
from privacy_runtime.pseudonyms import base32
from privacy_runtime.pseudonyms.keys import DEFAULT_TENANT, RedactionKeys

FEWEST_BITS: Final = 80
_MOST_BITS: Final = 255
_KEY_BYTES: Final = 32


class EntityHasher:
    """Replaces values by keyed hashes of their canonical form; an operator.

    Args:
        keys: where keys come from. After a rotation hashes differ.
        tenant: whose values these are.
        bits: length of a hash, a multiple of 5 from 80 to 255.
        region: two-letter country of telephone numbers that name none.
    """

    name: Final = "hash"
    reversible: Final = False

    def __init__(
        self,
        keys: RedactionKeys,
        tenant: str = DEFAULT_TENANT,
        *,
        bits: int = FEWEST_BITS,
        region: str | None = None,
    ) -> None:
        if bits % 5 or not FEWEST_BITS <= bits <= _MOST_BITS:
            raise InvalidParameter("bits", found=bits, expected="a multiple of 5 from 80 to 255")
        self._keys, self.tenant, self._bits, self._region = keys, tenant, bits, region

    def hash(self, value: str, label: str) -> str:
        """Return the stand-in of a value, in brackets.

        Raises:
            TenantUnknown: the tenant has no key.
            TenantDestroyed: it had one.
        """
        key = self._keys.derive("hash", self.tenant, size_bytes=_KEY_BYTES)
        known = canonical(label, value, region=self._region)
        message = label.encode("ascii") + b"\0" + known.encode("utf-8", "surrogatepass")
        code = base32.encode(hmac.digest(key, message, "sha256"))
        return f"[{label}#{code[: self._bits // 5]}]"

    def replace(self, value: str, finding: Finding, scope: Scope) -> str:
        """Return the stand-in of a value, as an operator."""
        del scope
        return self.hash(value, finding.label)

    def __repr__(self) -> str:
        return f"EntityHasher(key_id={self._keys.key_id!r}, tenant={self.tenant!r})"
