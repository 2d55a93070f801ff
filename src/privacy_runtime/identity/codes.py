"""One-time codes: TOTP (RFC 6238), each step used once, and recovery codes.

Source: RFC 4226 (HOTP), RFC 6238 (TOTP; section 5.2: a code is accepted once, and one step of
delay either way is allowed for); OWASP ASVS 5.0, 6.5.1 and 6.5.5.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import pyotp

from privacy_runtime.secret import Secret
from privacy_runtime.world import Entropy

STEP_S: Final = 30
WINDOW: Final = 1
DIGITS: Final = 6
_SEED_BYTES: Final = 20
_RECOVERY_CODES: Final = 10
_RECOVERY_BYTES: Final = 15
_GROUP: Final = 6


def code_at(
    seed: bytes, step: int, *, digits: int = DIGITS, digest: Callable[..., Any] = hashlib.sha1
) -> str:
    """The code of a step: seconds since 1970, divided by 30. SHA-1 is what authenticators speak."""
    return pyotp.HOTP(base64.b32encode(seed).decode(), digits=digits, digest=digest).at(step)


def step_of(now: datetime) -> int:
    """The step that an instant lies in."""
    return int(now.timestamp()) // STEP_S


def matching_step(seed: bytes, code: str, *, now: datetime, used: int) -> int | None:
    """The step that a code is of, if it is one of three around now and after the last used one.

    Args:
        seed: the shared secret.
        code: as typed; blanks do not count.
        now: the clock's time.
        used: the last step that was accepted. That one and all before it are spent.

    Every candidate is computed and compared in constant time, whichever fits.
    """
    typed = "".join(code.split()).encode("utf-8", "surrogatepass")
    found = None
    for step in range(step_of(now) - WINDOW, step_of(now) + WINDOW + 1):
        fits = hmac.compare_digest(code_at(seed, step).encode(), typed)
        if fits and step > used:
            found = step
    return found


def new_seed(entropy: Entropy) -> bytes:
    """Make a shared secret of 160 bits (RFC 4226, section 4, R6)."""
    return entropy.token_bytes(_SEED_BYTES)


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What an authenticator needs, shown once: the seed, and the same as a link for a QR code."""

    seed: Secret = field(repr=False)
    link: Secret = field(repr=False)


def enrolment_of(seed: bytes, *, account: str, issuer: str) -> Enrolment:
    """Spell a seed for an authenticator."""
    text = base64.b32encode(seed).decode()
    link = pyotp.TOTP(text, digits=DIGITS, interval=STEP_S).provisioning_uri(
        name=account, issuer_name=issuer
    )
    return Enrolment(Secret(text), Secret(link))


def new_recovery_codes(entropy: Entropy) -> list[str]:
    """Make ten codes of 120 bits, four groups of six letters and digits."""
    return [_grouped(entropy.token_bytes(_RECOVERY_BYTES)) for _ in range(_RECOVERY_CODES)]


def recovery_hash(user: str, code: str) -> str:
    """What is kept of a recovery code.

    One round of SHA-256 with the user in it: 120 random bits leave nothing to guess, slow or fast.
    """
    plain = "".join(sign for sign in code.casefold() if sign.isalnum())
    data = f"identity recovery|{user}|{plain}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(data).hexdigest()


def _grouped(raw: bytes) -> str:
    text = base64.b32encode(raw).decode().lower()
    return "-".join(text[start : start + _GROUP] for start in range(0, len(text), _GROUP))
