"""Who may use the gateway over HTTP: tokens of one issuer, for this gateway and no other.

The gateway is an OAuth 2.1 resource server. A token is checked for its signature or by asking the
issuer, for its issuer, its audience (RFC 8707: this gateway's address) and its time; the text of
the token is dropped there and then, so nothing behind this page could pass it on.

Sources: RFC 9068 section 4 (JWT access tokens), RFC 7662 section 2 (introspection), RFC 8725 (no
algorithm but asymmetric ones).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final

import anyio
import httpx2
import jwt
from mcp.server.auth.provider import AccessToken, TokenVerifier
from mcp.server.auth.settings import AuthSettings

from privacy_finetuner.context.gateway.errors import GatewayRefused
from privacy_finetuner.context.gateway.policy import AuthPolicy
from privacy_runtime.world import Clock

ALGORITHMS: Final = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "EdDSA",
)
LEEWAY_S: Final = 10
REFETCH_S: Final = 60.0
TIMEOUT_S: Final = 10.0
NOT_KEPT: Final = "not kept"

HttpClient = Callable[[], httpx2.AsyncClient]


def settings_of(policy: AuthPolicy) -> AuthSettings:
    """The SDK's settings: it answers 401 and 403, and says where tokens come from (RFC 9728)."""
    # As texts: a URL object has gained a slash, and issuers are compared letter by letter.
    return AuthSettings.model_validate(
        {
            "issuer_url": policy.issuer,
            "resource_server_url": policy.resource,
            "required_scopes": list(policy.scopes) or None,
            "validate_token_resource": True,
        }
    )


def verifier_of(
    policy: AuthPolicy, clock: Clock, *, http: HttpClient | None = None
) -> TokenVerifier:
    """The verifier that a policy asks for.

    Args:
        policy: the issuer, and how its tokens are checked.
        clock: for how long keys were not fetched.
        http: makes HTTP clients; tests put an issuer in this process there.

    Raises:
        GatewayRefused: the credentials for introspection are not in the environment.
    """
    http = http or _http
    if policy.jwks_url is not None:
        return SignedTokens(policy, policy.jwks_url, clock, http)
    return AskedTokens(policy, str(policy.introspection_url), _credentials(policy), http)


class SignedTokens:
    """Tokens that are JWTs, checked with the issuer's published keys."""

    def __init__(self, policy: AuthPolicy, url: str, clock: Clock, http: HttpClient) -> None:
        self._policy, self._url, self._clock, self._http = policy, url, clock, http
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at_s: float | None = None
        self._lock = anyio.Lock()

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return whose token this is; `None` when it is not good here, whatever the reason."""
        try:
            key = await self._key(str(jwt.get_unverified_header(token).get("kid", "")))
            if key is None:
                return None
            claims = jwt.decode(
                token,
                key,
                algorithms=list(ALGORITHMS),
                audience=self._policy.resource,
                issuer=self._policy.issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud"]},
            )
        except (jwt.PyJWTError, httpx2.HTTPError, ValueError):
            return None
        return _access(claims, self._policy)

    async def _key(self, key_id: str) -> jwt.PyJWK | None:
        """The issuer's key of this id; asked for again when unknown, but not at every request."""
        async with self._lock:
            now = self._clock.monotonic_s()
            due = self._fetched_at_s is None or now - self._fetched_at_s >= REFETCH_S
            if key_id not in self._keys and due:
                self._fetched_at_s = now
                async with self._http() as http:
                    answer = await http.get(self._url)
                    answer.raise_for_status()
                found = jwt.PyJWKSet.from_dict(answer.json())
                self._keys = {key.key_id or "": key for key in found.keys}
            return self._keys.get(key_id)


class AskedTokens:
    """Opaque tokens, checked by asking the issuer about each."""

    def __init__(
        self, policy: AuthPolicy, url: str, credentials: tuple[str, str], http: HttpClient
    ) -> None:
        self._policy, self._url, self._http = policy, url, http
        self._credentials = credentials

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return whose token this is; `None` when it is not good here, whatever the reason."""
        try:
            async with self._http() as http:
                answer = await http.post(self._url, data={"token": token}, auth=self._credentials)
                answer.raise_for_status()
            claims = answer.json()
        except (httpx2.HTTPError, ValueError):
            return None
        if not isinstance(claims, dict) or claims.get("active") is not True:
            return None
        if claims.get("iss", self._policy.issuer) != self._policy.issuer or "exp" not in claims:
            return None
        return _access(claims, self._policy)


def _access(claims: Mapping[str, Any], policy: AuthPolicy) -> AccessToken | None:
    """The claims as the SDK takes them, without the token.

    `None` for another audience, and where they do not say whose the token is (RFC 7662 lets an
    issuer leave it out): all such people would be one session and read each other's tokens.
    """
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if policy.resource not in audiences:
        return None
    scope = claims.get("scope", "")
    subject, expires = claims.get("sub") or claims.get("username"), claims.get("exp")
    if not subject or not isinstance(expires, int | float):
        return None
    return AccessToken(
        token=NOT_KEPT,
        client_id=str(claims.get("client_id") or claims.get("azp") or subject or ""),
        scopes=scope.split() if isinstance(scope, str) else [],
        expires_at=int(expires),
        resource=policy.resource,
        subject=str(subject),
        claims={"iss": policy.issuer},
    )


def _credentials(policy: AuthPolicy) -> tuple[str, str]:
    names = (policy.client_id_env, policy.client_secret_env)
    found = [os.environ.get(name or "", "") for name in names]
    if not all(found):
        raise GatewayRefused(
            "introspection needs credentials: client_id_env and client_secret_env name two "
            "environment variables that are set; the gateway was not started"
        )
    return found[0], found[1]


def _http() -> httpx2.AsyncClient:
    return httpx2.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False)
