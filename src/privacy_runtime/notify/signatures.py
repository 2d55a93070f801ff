"""Signed messages: HMAC-SHA256 as Standard Webhooks has it, for senders and for receivers.

::

    webhook-id: msg_...                 the same at every attempt: what a receiver remembers
    webhook-timestamp: 1767225600       when this attempt was made, seconds since 1970
    webhook-signature: v1,BASE64 ...    of "ID.TIMESTAMP.BODY"; one for each secret in force

While a secret is being replaced both sign, so that no receiver misses a message.

Source: Standard Webhooks specification, github.com/standard-webhooks/standard-webhooks.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import orjson

from privacy_core.errors import InvalidParameter
from privacy_runtime.notify.errors import SignatureRefused
from privacy_runtime.secret import Secret
from privacy_runtime.world import Entropy, SystemClock

ID: Final = "webhook-id"
TIMESTAMP: Final = "webhook-timestamp"
SIGNATURE: Final = "webhook-signature"
PREFIX: Final = "whsec_"
_SECRET_BYTES: Final = 32
_SHORTEST: Final = 24  # bytes, as the specification asks
_LONGEST: Final = 64
_MOST_SIGNATURES: Final = 16


def new_secret(entropy: Entropy) -> Secret:
    """Make a secret of 256 bits, spelled as receivers' libraries expect it."""
    return Secret(PREFIX + base64.b64encode(entropy.token_bytes(_SECRET_BYTES)).decode())


def sign(message: str, *, seconds: int, body: bytes, secrets: Sequence[Secret]) -> dict[str, str]:
    """The headers of one attempt, signed with every secret in force.

    Args:
        message: its id.
        seconds: of the attempt, since 1970.
        body: exactly what is sent.
        secrets: newest first.

    Raises:
        InvalidParameter: a secret is not `whsec_` and base64 of 24 to 64 bytes.
    """
    signed = _signed(message, str(seconds), body)
    signatures = " ".join(f"v1,{_mac(_key(secret), signed)}" for secret in secrets)
    return {ID: message, TIMESTAMP: str(seconds), SIGNATURE: signatures}


def verify(
    headers: Mapping[str, str],
    body: bytes,
    secret: Secret | str | Sequence[Secret | str],
    *,
    now: datetime | None = None,
    tolerance_s: float = 300.0,
) -> Any:
    """Check a received message, and return what it says. For receivers.

    Guarantee: what is returned was signed with one of the secrets, no more than `tolerance_s`
    before or after `now`. It may arrive twice: remember `webhook-id`.

    Args:
        headers: of the request; names in any case.
        body: as received, before any decoding.
        secret: of the endpoint, as it was shown; several while one is being replaced.
        now: None: the machine's clock.
        tolerance_s: how far the two clocks may be apart, in seconds.

    Raises:
        SignatureRefused: a header is missing or malformed, no signature fits, the message is too
            old or from the future, or it is not JSON.
        InvalidParameter: a secret of yours is not `whsec_` and base64.
    """
    given = {name.lower(): value for name, value in headers.items()}
    message, stamp, signatures = (given.get(name, "") for name in (ID, TIMESTAMP, SIGNATURE))
    if not message or not stamp or not signatures:
        raise SignatureRefused(f"it needs the headers {ID}, {TIMESTAMP} and {SIGNATURE}")
    if not stamp.isascii() or not stamp.isdigit() or len(stamp) > 12:
        raise SignatureRefused(f"{TIMESTAMP} is not a number of seconds")
    signed = _signed(message, stamp, body)
    secrets = [secret] if isinstance(secret, Secret | str) else list(secret)
    keys = [_key(each) for each in secrets]
    offered = [each[3:] for each in signatures.split(" ") if each.startswith("v1,")]
    fits = [
        hmac.compare_digest(_mac(key, signed).encode(), mac.encode("utf-8", "surrogatepass"))
        for key in keys
        for mac in offered[:_MOST_SIGNATURES]
    ]
    if not any(fits):
        raise SignatureRefused("no signature fits")
    age = (now or SystemClock().now()).timestamp() - int(stamp)
    if abs(age) > tolerance_s:
        raise SignatureRefused(f"it was signed {age:.0f} s ago; at most {tolerance_s:.0f} are fine")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise SignatureRefused("its body is not JSON") from None


def _signed(message: str, stamp: str, body: bytes) -> bytes:
    return f"{message}.{stamp}.".encode("utf-8", "surrogatepass") + body


def _mac(key: bytes, signed: bytes) -> str:
    return base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def _key(secret: Secret | str) -> bytes:
    text = secret.reveal() if isinstance(secret, Secret) else secret
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not _SHORTEST <= len(key) <= _LONGEST:
        raise InvalidParameter(
            "secret",
            found=f"{len(text)} characters",
            expected=f"{PREFIX} and base64 of {_SHORTEST} to {_LONGEST} bytes",
        )
    return key
