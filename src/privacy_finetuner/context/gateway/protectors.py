"""The product's redaction behind the gateway: its detector, its names, its vault.

Tokens live as long as the gateway: their values lie encrypted in a file of this process's own,
under a key that is nowhere but in its memory.
"""

from __future__ import annotations

import hmac
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from privacy_core.redaction.detection import PatternDetector
from privacy_finetuner.context.gateway.errors import GatewayRefused
from privacy_finetuner.context.gateway.policy import Policy
from privacy_finetuner.context.gateway.protection import (
    Protector,
    SessionProtector,
    Spot,
    Tokens,
    TokenSpot,
)
from privacy_finetuner.context.gateway.sessions import ProtectorFor
from privacy_runtime import names
from privacy_runtime.pseudonyms.hashing import EntityHasher
from privacy_runtime.pseudonyms.keys import DEFAULT_TENANT, RedactionKeys
from privacy_runtime.pseudonyms.vault import SessionVault
from privacy_runtime.pseudonyms.vault_store import VaultStore
from privacy_runtime.world import Clock, Entropy

FINGERPRINT_BYTES: Final = 10
# The product's detector takes time linear in the text: about 0.3 ms for 1 KB, with names 3 to 10.
PROMPT_BYTES: Final = 8192
PROMPT_BYTES_NAMES: Final = 2048
_SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108  a folder of its own is made in it


class VaultTokens:
    """A session's tokens in a `SessionVault`. See `protection.Tokens`.

    Args:
        vault: of the session.
        key: of the fingerprints in the audit trail; fingerprints of two keys cannot be compared.
    """

    def __init__(self, vault: SessionVault, key: bytes) -> None:
        self._vault, self._key = vault, key
        self._given: dict[str, str] = {}
        self._lock = threading.Lock()

    def token(self, value: str, label: str) -> str:
        """See `Tokens`. Raises what the vault raises; then the message is refused."""
        # By fingerprint: this process holds no list of values in clear for it.
        name = self.fingerprint(value, label)
        with self._lock:
            if name not in self._given:
                self._given[name] = self._vault.seal(value, label)
            return self._given[name]

    def read(self, text: str) -> Sequence[TokenSpot]:
        """See `Tokens`."""
        if "_" not in text and "[" not in text:
            return ()
        found = self._vault.reveal(text)
        spots = [TokenSpot(one.start, one.end, one.label, one.value) for one in found.restored]
        spots += [TokenSpot(one.start, one.end, one.label) for one in found.refused]
        return sorted(spots, key=lambda spot: spot.start)

    def fingerprint(self, value: str, label: str) -> str:
        """See `Tokens`: HMAC-SHA256 of type and value, cut to 80 bits."""
        return _fingerprint(self._key, value, label)


class Unread:
    """A protector that finds nothing: for what is redacted later, and goes to no model as it is.

    See `protection.Protector`.
    """

    tokens: Tokens
    prompt_bytes = 2**63

    def __init__(self) -> None:
        self.tokens = _NoTokens()

    def detect(
        self, text: str, hints: Sequence[str] = (), *, is_address: bool = False
    ) -> Sequence[Spot]:
        """Find nothing."""
        del text, hints, is_address
        return ()

    def standing(self, text: str, detected: Sequence[Spot]) -> Sequence[Spot]:
        """Know nothing."""
        del text, detected
        return ()

    def learn(self, value: str, label: str) -> None:
        """Remember nothing."""
        del value, label


class _NoTokens:
    """Tokens of nobody. See `protection.Tokens`."""

    def token(self, value: str, label: str) -> str:
        """Refuse: where nothing is found, nothing can be replaced."""
        del value
        raise GatewayRefused(f"a value of type {label} was found where nothing is looked for")

    def read(self, text: str) -> Sequence[TokenSpot]:
        """Find none."""
        del text
        return ()

    def fingerprint(self, value: str, label: str) -> str:
        """Refuse, as `token`."""
        return self.token(value, label)


class RecordTokens:
    """Tokens that nobody gives back: keyed hashes, each a function of its value alone.

    No table is behind them: whether a value was seen before changes nothing. See
    `protection.Tokens`.

    Args:
        keys: of one read; the tokens of two reads cannot be compared.
    """

    def __init__(self, keys: RedactionKeys) -> None:
        self._hasher = EntityHasher(keys)
        self._key = keys.derive("gateway-audit", DEFAULT_TENANT, size_bytes=32)

    def token(self, value: str, label: str) -> str:
        """See `Tokens`."""
        return self._hasher.hash(value, label)

    def read(self, text: str) -> Sequence[TokenSpot]:
        """Find none: no value leads back here."""
        del text
        return ()

    def fingerprint(self, value: str, label: str) -> str:
        """See `Tokens`."""
        return _fingerprint(self._key, value, label)


def _fingerprint(key: bytes, value: str, label: str) -> str:
    message = f"{label}\0{value}".encode("utf-8", "surrogatepass")
    return hmac.digest(key, message, "sha256")[:FINGERPRINT_BYTES].hex()


@contextmanager
def record_protectors(policy: Policy, *, entropy: Entropy) -> Iterator[Callable[[], Protector]]:
    """Make the redaction of every training record: each from a protector that knows no other.

    Args:
        policy: level, names and what everybody may see.
        entropy: of the key of this read.
    """
    redaction = policy.redaction
    tokens = RecordTokens(RedactionKeys.generate(entropy))
    detector = PatternDetector(names.shipped(redaction.level) if redaction.names else None)
    yield lambda: SessionProtector(detector, tokens, level=redaction.level, keep=redaction.keep)


def _in_memory() -> str | None:
    """A folder that never reaches a disk, where the system has one."""
    return _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK | os.X_OK) else None


@contextmanager
def protectors(policy: Policy, *, clock: Clock, entropy: Entropy) -> Iterator[ProtectorFor]:
    """Make the redaction of every session, while the context is open.

    Args:
        policy: level, names and what everybody may see.
        clock: of the vault.
        entropy: of its keys.
    """
    redaction = policy.redaction
    keys = RedactionKeys.generate(entropy)
    audit_key = keys.derive("gateway-audit", DEFAULT_TENANT, size_bytes=32)
    detector = PatternDetector(names.shipped(redaction.level) if redaction.names else None)
    with tempfile.TemporaryDirectory(prefix="privacy-gateway-", dir=_in_memory()) as folder:
        store = VaultStore(Path(folder) / "vault.db", clock)

        def protector_for(session: str) -> SessionProtector:
            vault = SessionVault(store, keys, session=session)
            tokens = VaultTokens(vault, audit_key)
            return SessionProtector(
                detector,
                tokens,
                level=redaction.level,
                keep=redaction.keep,
                prompt_bytes=PROMPT_BYTES_NAMES if redaction.names else PROMPT_BYTES,
            )

        yield protector_for
