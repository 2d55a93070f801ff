"""Data subjects by keyed hash: the register knows that two requests are one person's, not whose.

    pseudonym = KEY_ID:HMAC-SHA256(key of the tenant, id), 128 bits

An id is given by an officer, used once, and not kept. Whoever holds the key can test guesses; after
the tenant's keys are destroyed nobody can. A rotation changes pseudonyms, so a search tries the
keys of all masters that are still kept.
"""

from __future__ import annotations

import hmac
from typing import Final

from privacy_core.errors import InvalidParameter
from privacy_runtime.pseudonyms import RedactionKeys
from privacy_runtime.pseudonyms.errors import TenantUnknown
from privacy_runtime.world import Entropy

_PURPOSE: Final = "data subject"
_KEY_BYTES: Final = 32
_HEX: Final = 32
ID_MOST: Final = 256


class Subjects:
    """Names data subjects.

    Args:
        keys: where keys come from.
        entropy: for the salt of an organisation that has none yet.
    """

    def __init__(self, keys: RedactionKeys, entropy: Entropy) -> None:
        self._keys, self._entropy = keys, entropy

    def pseudonym(self, tenant: str, subject: str) -> str:
        """The name of a subject under the key that seals now.

        Raises:
            InvalidParameter: the id is empty or too long; it is not repeated.
            TenantDestroyed: the organisation's keys were destroyed.
        """
        return self._named(tenant, subject, self._keys.key_id)

    def pseudonyms(self, tenant: str, subject: str) -> set[str]:
        """The names of a subject under every key that is kept."""
        return {self._named(tenant, subject, each) for each in self._keys.key_ids}

    def _named(self, tenant: str, subject: str, key_id: str) -> str:
        if not 0 < len(subject.strip()) <= ID_MOST:
            raise InvalidParameter(
                "data_subject_id", found=f"{len(subject)} characters", expected=f"1 to {ID_MOST}"
            )
        ensure_tenant(self._keys, tenant, self._entropy)
        key = self._keys.derive(_PURPOSE, tenant, size_bytes=_KEY_BYTES, key_id=key_id)
        message = subject.strip().encode("utf-8", "surrogatepass")
        return f"{key_id}:{hmac.digest(key, message, 'sha256').hex()[:_HEX]}"


def ensure_tenant(keys: RedactionKeys, tenant: str, entropy: Entropy) -> None:
    """Make an organisation's salt where its keys need one and it never had any.

    Raises:
        TenantDestroyed: it had one; what was destroyed stays destroyed.
    """
    try:
        keys.derive(_PURPOSE, tenant, size_bytes=_KEY_BYTES)
    except TenantUnknown:
        keys.add_tenant(tenant, entropy)
