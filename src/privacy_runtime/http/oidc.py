"""Log in at another issuer: authorisation code with PKCE, state and nonce.

GET /auth/oidc/{name}/login?next=/jobs      to the issuer, and the browser gets a short-lived cookie
GET /auth/oidc/{name}/callback?code&state   back: the code is exchanged, the ID token verified

The cookie holds what binds the answer to this browser: state, nonce and verifier. Keys come from
the issuer's JWKS; an algorithm counts only if it is asymmetric and on the list here, whatever the
token says. What claims make a principal is decided in `privacy_runtime.identity.oidc`.

Sources: OpenID Connect Core 1.0, section 3.1; RFC 9700 (best practices); RFC 9207 (`iss`).
"""

from __future__ import annotations

import base64
import hmac
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import httpx2
from authlib.integrations.base_client import OAuthError  # type: ignore[import-untyped]
from authlib.integrations.httpx_client import AsyncOAuth2Client  # type: ignore[import-untyped]
from authlib.oauth2.rfc7636 import create_s256_code_challenge  # type: ignore[import-untyped]
from fastapi import APIRouter, Depends, Query, Request
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from starlette.responses import RedirectResponse, Response

from privacy_core.errors import InvalidParameter
from privacy_runtime.http import browsers
from privacy_runtime.http.access import Access
from privacy_runtime.http.external_logins import open_external
from privacy_runtime.http.refusals import NotFound, Unavailable
from privacy_runtime.http.visits import visit_of
from privacy_runtime.identity import ExternalIssuer, ExternalLoginRefused
from privacy_runtime.secret import Secret

ALGORITHMS: Final = ("RS256", "PS256", "ES256", "ES384", "EdDSA")
COOKIE: Final = "oidc"
PATIENCE_S: Final = 600
_TIMEOUT_S: Final = 5.0
_KEYS_S: Final = 3600.0
_KEYS_AGAIN_S: Final = 60.0
_ID_TOKEN_MAX: Final = 16_384
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1", "testserver"})


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcProvider:
    """One issuer that people may log in at.

    Args:
        name: in our addresses; lower case.
        title: on the login page.
        issuer: whose claims count, for which organisation, with which roles.
        client_secret: ours there; `None` for a public client, which PKCE alone protects.
        scope: what is asked for; the groups must be among what it gives.
    """

    name: str
    title: str
    issuer: ExternalIssuer
    client_secret: Secret | None = field(default=None, repr=False)
    scope: str = "openid"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InvalidParameter("name", found=self.name, expected="a-z, 0-9 and -, 32 at most")
        if "openid" not in self.scope.split():
            raise InvalidParameter("scope", found=self.scope, expected="openid and what you need")


@dataclass(slots=True)
class _Known:
    """What an issuer said about itself, and when its keys were read."""

    metadata: Mapping[str, Any]
    keys: KeySet
    read_s: float


class OidcLogin:
    """The two routes, for any number of issuers.

    Args:
        access: opens the browser's session.
        providers: the issuers.
        transport: in the place of the network, in tests.
    """

    def __init__(
        self,
        access: Access,
        providers: Iterable[OidcProvider],
        *,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._access, self._transport = access, transport
        self.providers = {provider.name: provider for provider in providers}
        self._known: dict[str, _Known] = {}

    def router(self) -> APIRouter:
        """The routes, below `/auth/oidc`."""
        router = APIRouter(prefix="/auth/oidc", tags=["auth"])
        limited = [Depends(self._access.limited("login"))]
        paths = (("login", self.login), ("callback", self.callback))
        for name, endpoint in paths:
            router.add_api_route(
                f"/{{name}}/{name}",
                endpoint,
                methods=["GET"],
                operation_id=f"oidc_{name}",
                dependencies=limited,
                response_class=RedirectResponse,
                status_code=303,
            )
        return router

    async def login(
        self,
        request: Request,
        name: str,
        target: Annotated[str, Query(alias="next", max_length=512)] = "/",
        fresh: bool = False,
    ) -> Response:
        """Send the browser to the issuer. `fresh` asks it to authenticate the person again."""
        provider, known = await self._provider(name)
        self._require_safe_place(request)
        kept = {one: self._random() for one in ("state", "nonce", "verifier")}
        kept |= {"name": name, "next": target if browsers.is_path_here(target) else "/"}
        asked = {
            "state": kept["state"],
            "nonce": kept["nonce"],
            "code_challenge": create_s256_code_challenge(kept["verifier"]),
            "code_challenge_method": "S256",
            "max_age": "0" if fresh else str(int(provider.issuer.max_age_s)),
        }
        if fresh:
            asked["prompt"] = "login"
        async with self._client(provider, self._redirect_uri(request)) as client:
            url, _ = client.create_authorization_url(
                _endpoint(known.metadata, "authorization_endpoint"), **asked
            )
        response = RedirectResponse(url, status_code=303)
        raw = base64.urlsafe_b64encode(json.dumps(kept).encode()).decode()
        visit, policy = visit_of(request), self._access.policy
        browsers.set_cookie(response, visit, policy, raw, name=COOKIE, max_age_s=PATIENCE_S)
        return response

    async def callback(
        self,
        request: Request,
        name: str,
        state: Annotated[str, Query(max_length=256)] = "",
        code: Annotated[str, Query(max_length=4096)] = "",
        iss: Annotated[str | None, Query(max_length=512)] = None,
        error: Annotated[str, Query(max_length=256)] = "",
    ) -> Response:
        """Take the issuer's answer, and open a session if it is one to this browser's question."""
        provider, known = await self._provider(name)
        self._require_safe_place(request)
        kept = self._kept(request, name, state)
        _require_issuer(iss, known.metadata, provider.issuer.issuer)
        if error or not code:
            raise ExternalLoginRefused("the issuer did not let the person in")
        token = await self._exchanged(request, provider, known, code, kept["verifier"])
        claims = await self._claims(provider, token, kept["nonce"])
        access = self._access
        tokens = await access.run(open_external, access.identity, claims, provider.issuer)
        response = RedirectResponse(kept["next"], status_code=303)
        await access.open_session(request, response, tokens)
        browsers.clear_cookie(response, visit_of(request), access.policy, name=COOKIE)
        return response

    async def _exchanged(
        self, request: Request, provider: OidcProvider, known: _Known, code: str, verifier: str
    ) -> str:
        """The ID token for a code."""
        endpoint = _endpoint(known.metadata, "token_endpoint")
        try:
            async with self._client(provider, self._redirect_uri(request)) as client:
                given = await client.fetch_token(
                    endpoint, grant_type="authorization_code", code=code, code_verifier=verifier
                )
        except OAuthError:
            raise ExternalLoginRefused("the issuer does not take the code") from None
        except (httpx2.HTTPError, ValueError):
            raise Unavailable("the issuer does not answer; log in again later") from None
        token = given.get("id_token")
        if not isinstance(token, str) or len(token) > _ID_TOKEN_MAX:
            raise ExternalLoginRefused("the issuer gave no ID token")
        return token

    async def _claims(self, provider: OidcProvider, token: str, nonce: str) -> Mapping[str, Any]:
        """Verified claims: signature under the issuer's keys, and our nonce."""
        claims = None
        for again in (False, True):  # a key may have been rotated since its keys were read
            known = await self._read(provider, again=again)
            try:
                claims = jwt.decode(token, known.keys, algorithms=list(ALGORITHMS)).claims
                break
            except (JoseError, ValueError, TypeError):
                continue
        if claims is None:
            raise ExternalLoginRefused("the ID token is not signed by a key of the issuer")
        found = claims.get("nonce")
        if not isinstance(found, str) or not hmac.compare_digest(found.encode(), nonce.encode()):
            raise ExternalLoginRefused("the ID token answers another question")
        return claims

    async def _provider(self, name: str) -> tuple[OidcProvider, _Known]:
        provider = self.providers.get(name)
        if provider is None:
            raise NotFound("there is no such issuer")
        return provider, await self._read(provider, again=False)

    async def _read(self, provider: OidcProvider, *, again: bool) -> _Known:
        """What an issuer says about itself; read hourly, and once more for an unknown key."""
        known, now_s = self._known.get(provider.name), self._access.clock.monotonic_s()
        age_s = float("inf") if known is None else now_s - known.read_s
        if known is not None and age_s < (_KEYS_AGAIN_S if again else _KEYS_S):
            return known
        issuer = provider.issuer.issuer
        try:
            async with httpx2.AsyncClient(transport=self._transport, timeout=_TIMEOUT_S) as client:
                metadata = await _json(
                    client, issuer.rstrip("/") + "/.well-known/openid-configuration"
                )
                if metadata.get("issuer") != issuer:
                    raise Unavailable("the issuer's configuration names another issuer")
                found = await _json(client, _endpoint(metadata, "jwks_uri"))
            keys = KeySet.import_key_set({"keys": [k for k in found["keys"] if _is_public(k)]})
        except (httpx2.HTTPError, JoseError, ValueError, KeyError, TypeError):
            raise Unavailable("the issuer does not answer; log in again later") from None
        known = self._known[provider.name] = _Known(metadata, keys, now_s)
        return known

    def _client(self, provider: OidcProvider, redirect_uri: str) -> AsyncOAuth2Client:
        secret = provider.client_secret
        return AsyncOAuth2Client(
            provider.issuer.client_id,
            None if secret is None else secret.reveal(),
            scope=provider.scope,
            redirect_uri=redirect_uri,
            token_endpoint_auth_method="none" if secret is None else "client_secret_basic",
            transport=self._transport,
            timeout=_TIMEOUT_S,
        )

    def _kept(self, request: Request, name: str, state: str) -> Mapping[str, str]:
        """What the login of this browser kept.

        Raises:
            ExternalLoginRefused: nothing, another issuer's, or an answer to another question.
        """
        cookie = browsers.cookie_name(visit_of(request), self._access.policy, COOKIE)
        try:
            kept = json.loads(base64.urlsafe_b64decode(request.cookies.get(cookie, "")))
            fields = {one: str(kept[one]) for one in ("state", "nonce", "verifier", "name", "next")}
        except (ValueError, KeyError, TypeError):
            raise ExternalLoginRefused("this browser asked for no login, or too long ago") from None
        is_ours = hmac.compare_digest(fields["state"].encode(), state.encode())
        if not is_ours or fields["name"] != name or not browsers.is_path_here(fields["next"]):
            raise ExternalLoginRefused("the answer is to another question than this browser's")
        return fields

    def _redirect_uri(self, request: Request) -> str:
        path = request.url.path.rpartition("/")[0] + "/callback"
        return browsers.own_origin(request, self._access.policy) + path

    def _require_safe_place(self, request: Request) -> None:
        """Codes and cookies of a login travel over TLS, or never leave the machine."""
        is_here = (request.url.hostname or "") in _LOOPBACK
        if not browsers.is_tls(visit_of(request), self._access.policy) and not is_here:
            raise ExternalLoginRefused("logins at another issuer need TLS")

    def _random(self) -> str:
        raw = self._access.identity.store.entropy.token_bytes(32)
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _endpoint(metadata: Mapping[str, Any], name: str) -> str:
    """An address of an issuer: over TLS, or it is none."""
    url = metadata.get(name)
    if not isinstance(url, str) or urlsplit(url).scheme != "https":
        raise Unavailable("the issuer's configuration lacks an address over TLS")
    return url


def _require_issuer(given: str | None, metadata: Mapping[str, Any], issuer: str) -> None:
    """RFC 9207: the answer says whose it is, and it is whom we asked."""
    is_promised = metadata.get("authorization_response_iss_parameter_supported") is True
    if (given is None and is_promised) or (given is not None and given != issuer):
        raise ExternalLoginRefused("the answer is of another issuer than was asked")


def _is_public(key: object) -> bool:
    """Whether a key of a JWKS may verify: no shared secret, not for encryption."""
    return isinstance(key, dict) and key.get("kty") != "oct" and key.get("use", "sig") == "sig"


async def _json(client: httpx2.AsyncClient, url: str) -> Mapping[str, Any]:
    response = await client.get(url)
    response.raise_for_status()
    found = response.json()
    if not isinstance(found, dict):
        raise ValueError("not an object")  # noqa: TRY004  the caller knows one kind of failure
    return found
