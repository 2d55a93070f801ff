"""Ed25519 signatures over documents that have one form: keys, canonical JSON, and who is trusted.

`canonical` is the form, `keys` the files, `trust` whose signatures count.
"""

from __future__ import annotations

from privacy_runtime.signing.canonical import (
    DOCUMENT_MAX,
    canonical_bytes,
    parse_canonical,
    parse_json,
    readable_bytes,
)
from privacy_runtime.signing.errors import (
    KeyExpired,
    NotCanonical,
    SignatureInvalid,
    SigningError,
    UnknownKey,
)
from privacy_runtime.signing.home import KeyHome, opened_key
from privacy_runtime.signing.instants import instant_of, text_of
from privacy_runtime.signing.keys import (
    PublicKey,
    SigningKey,
    create_key_file,
    key_id_of,
    load_key_file,
    require_signature,
    write_private,
)
from privacy_runtime.signing.trust import TrustedKeys

__all__ = [
    "DOCUMENT_MAX",
    "KeyExpired",
    "KeyHome",
    "NotCanonical",
    "PublicKey",
    "SignatureInvalid",
    "SigningError",
    "SigningKey",
    "TrustedKeys",
    "UnknownKey",
    "canonical_bytes",
    "create_key_file",
    "instant_of",
    "key_id_of",
    "load_key_file",
    "opened_key",
    "parse_canonical",
    "parse_json",
    "readable_bytes",
    "require_signature",
    "text_of",
    "write_private",
]
