"""Stand-ins for values: tokens, hashes, surrogates, and the keys that lead back."""

from privacy_runtime.pseudonyms.errors import PseudonymError
from privacy_runtime.pseudonyms.format_preserving import FormatPreserving
from privacy_runtime.pseudonyms.hashing import EntityHasher
from privacy_runtime.pseudonyms.keys import RedactionKeys
from privacy_runtime.pseudonyms.revealing import Reason, Refused, Restored, Revealed
from privacy_runtime.pseudonyms.streams import StreamingRevealer
from privacy_runtime.pseudonyms.surrogates import SurrogateMaker
from privacy_runtime.pseudonyms.tokens import TokenCipher
from privacy_runtime.pseudonyms.vault import SessionVault
from privacy_runtime.pseudonyms.vault_store import VaultStore

__all__ = [
    "EntityHasher",
    "FormatPreserving",
    "PseudonymError",
    "Reason",
    "RedactionKeys",
    "Refused",
    "Restored",
    "Revealed",
    "SessionVault",
    "StreamingRevealer",
    "SurrogateMaker",
    "TokenCipher",
    "VaultStore",
]
