"""Tokens that callers of the HTTP server show: JWT, signed by whoever the configuration trusts.

The algorithm follows from the key, never from the token (RFC 8725, 3.1 and 3.2): HS256 for a
shared secret, EdDSA, ES256 or RS256 for a public key.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from pipeline_guard.config import HttpSettings
from pipeline_guard.errors import ConfigurationError
from privacy_runtime.http import Unauthenticated

READ: Final = "guard:read"
WRITE: Final = "guard:write"
SCOPES: Final = (READ, WRITE)
_SECRET_LEAST: Final = 32
_LEEWAY_S: Final = 30
_LONGEST: Final = timedelta(days=366)
_ALGORITHMS: Final = {
    ed25519.Ed25519PublicKey: "EdDSA",
    ec.EllipticCurvePublicKey: "ES256",
    rsa.RSAPublicKey: "RS256",
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    Attributes:
        subject: as the token says.
        scopes: what they may: `guard:read`, `guard:write`.
        until_s: when the token ends, POSIX seconds.
    """

    subject: str
    scopes: frozenset[str]
    until_s: float


class Tokens:
    """Checks tokens, and makes them where the key is a shared secret.

    Args:
        settings: the key, and whom a token must name.

    Raises:
        ConfigurationError: there are two keys, the secret is shorter than 32 bytes, or the public
            key is not one that is known.
    """

    def __init__(self, settings: HttpSettings) -> None:
        self._audience, self._issuer = settings.jwt_audience, settings.jwt_issuer
        self._secret: str | None = None
        self._key: Any = None
        self._algorithm = "HS256"
        if settings.jwt_key is not None and settings.jwt_public_key is not None:
            raise _refused("jwt_key", "not given beside jwt_public_key")
        if settings.jwt_key is not None:
            self._secret = self._key = settings.jwt_key.reveal()
            if len(self._secret.encode()) < _SECRET_LEAST:
                raise _refused("jwt_key", f"at least {_SECRET_LEAST} bytes")
        elif settings.jwt_public_key is not None:
            self._key, self._algorithm = _public_key(settings.jwt_public_key)

    @property
    def are_possible(self) -> bool:
        """Whether there is a key; without one nobody gets in."""
        return self._key is not None

    def caller(self, token: str) -> Caller:
        """Return who shows a token.

        Raises:
            Unauthenticated: it is not one of ours, or is over; which part is wrong is not said.
        """
        if self._key is None:
            raise Unauthenticated("this guard has no http.jwt_key, so it lets nobody in")
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=[self._algorithm],
                audience=self._audience,
                issuer=self._issuer,
                leeway=_LEEWAY_S,
                options={
                    "require": ["exp", "sub"],
                    "verify_aud": self._audience is not None,
                },
            )
        except jwt.InvalidTokenError:
            raise Unauthenticated("the token does not count; nothing was done") from None
        named = claims.get("scope", "")
        scopes = frozenset(named.split() if isinstance(named, str) else ())
        return Caller(str(claims["sub"]), scopes, float(claims["exp"]))

    def issue(self, subject: str, scopes: frozenset[str], at: datetime, lasts: timedelta) -> str:
        """Make a token.

        Raises:
            ConfigurationError: there is no shared secret, a scope is unknown, or it would last
                longer than a year.
        """
        if self._secret is None:
            raise _refused("jwt_key", "given, to make tokens with")
        if not scopes or not scopes <= set(SCOPES):
            raise _refused("scope", f"some of {', '.join(SCOPES)}")
        if not timedelta(0) < lasts <= _LONGEST:
            raise _refused("lasts", "above 0 and at most a year")
        claims: dict[str, Any] = {
            "sub": subject,
            "scope": " ".join(sorted(scopes)),
            "iat": at,
            "exp": at + lasts,
        }
        if self._audience is not None:
            claims["aud"] = self._audience
        if self._issuer is not None:
            claims["iss"] = self._issuer
        return jwt.encode(claims, self._secret, algorithm="HS256")


def _public_key(path: Path) -> tuple[Any, str]:
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _refused("jwt_public_key", "the file of a public key in PEM") from error
    for kind, algorithm in _ALGORITHMS.items():
        if isinstance(key, kind):
            if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name != "secp256r1":
                break
            return key, algorithm
    raise _refused("jwt_public_key", "Ed25519, P-256 or RSA")


def _refused(name: str, constraint: str) -> ConfigurationError:
    return ConfigurationError(
        f"http.{name}: expected {constraint}; the server was not started",
        {"parameter": f"http.{name}", "constraint": constraint},
    )
