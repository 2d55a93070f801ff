"""Logins at another issuer: a small real provider, real JWTs, and every way to forge the answer."""

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from fastapi import FastAPI, Form, Request
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey
from starlette.responses import JSONResponse

from privacy_core.errors import InvalidParameter
from privacy_runtime.http import install
from privacy_runtime.http.oidc import OidcLogin, OidcProvider
from privacy_runtime.identity import ExternalIssuer, Role
from privacy_runtime.secret import Secret

pytestmark = pytest.mark.anyio
ISSUER = "https://issuer.example"
CLIENT = "privacy-finetuner"


_KEY = RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"})


class Provider:
    """An OpenID provider: discovery, JWKS, token endpoint with PKCE, and tokens as it is told."""

    def __init__(self, house: Any) -> None:
        self.house = house
        self.key = _KEY
        self.published = [self.key]
        self.shared: list[dict[str, str]] = []
        self.codes: dict[str, dict[str, str]] = {}
        self.claims: dict[str, Any] = {}
        self.header: dict[str, Any] = {}
        self.signing: Any = None
        self.token: str | None = None
        self.is_down = False
        self.metadata: dict[str, Any] = {}
        self.secret: str | None = None
        self.app = FastAPI()
        self.app.get("/.well-known/openid-configuration")(self.configuration)
        self.app.get("/keys")(self.keys)
        self.app.post("/token")(self.exchange)

    async def configuration(self) -> Any:
        if self.is_down:
            return JSONResponse({}, status_code=500)
        return {
            "issuer": ISSUER,
            "authorization_endpoint": f"{ISSUER}/authorize",
            "token_endpoint": f"{ISSUER}/token",
            "jwks_uri": f"{ISSUER}/keys",
            **self.metadata,
        }

    async def keys(self) -> Any:
        public = KeySet(self.published).as_dict(private=False)["keys"]
        return {"keys": [*self.shared, *public]}

    def authorise(self, location: str) -> dict[str, str]:
        """What the browser brings back after the person logged in there."""
        asked = {k: v[0] for k, v in parse_qs(urlsplit(location).query).items()}
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        code = f"code-{len(self.codes)}"
        self.codes[code] = asked
        return {"code": code, "state": asked["state"]}

    async def exchange(
        self,
        request: Request,
        code: str = Form(),
        code_verifier: str = Form(),
        redirect_uri: str = Form(),
    ) -> Any:
        self.secret = request.headers.get("authorization")
        asked = self.codes.pop(code, None)
        digest = base64.urlsafe_b64encode(hashlib.sha256(code_verifier.encode()).digest())
        is_bound = asked is not None and asked["code_challenge"] == digest.rstrip(b"=").decode()
        if asked is None or not is_bound or redirect_uri != asked["redirect_uri"]:
            return JSONResponse({"error": "invalid_grant"}, status_code=400)
        return {"access_token": "a", "token_type": "Bearer", "id_token": self.id_token(asked)}

    def id_token(self, asked: dict[str, str]) -> str:
        if self.token is not None:
            return self.token
        now = int(self.house.clock.now().timestamp())
        claims = {
            "iss": ISSUER,
            "aud": CLIENT,
            "sub": "248289761001",
            "iat": now,
            "exp": now + 300,
            "auth_time": now,
            "nonce": asked["nonce"],
            "groups": ["trainers", "everybody"],
            **self.claims,
        }
        header = {"alg": "RS256", "kid": "one", **self.header}
        claims = {k: v for k, v in claims.items() if v is not None}
        return jwt.encode(header, claims, self.signing or self.key, algorithms=[header["alg"]])


@pytest.fixture
def provider(house: Any) -> Provider:
    """The provider of a deployment on the loopback, and the routes that log in at it."""
    provider = Provider(house)
    tenant = house.log_in("root@example").principal.tenant
    issuer = ExternalIssuer(
        issuer=ISSUER,
        client_id=CLIENT,
        tenant=tenant,
        roles={"trainers": Role.TRAINER, "viewers": Role.VIEWER, "officers": Role.PRIVACY_OFFICER},
    )
    login = OidcLogin(
        house.access,
        [OidcProvider(name="clinic", title="Clinic", issuer=issuer, client_secret=Secret("s3"))],
        transport=httpx2.ASGITransport(app=provider.app),
    )
    house.app.include_router(login.router())
    return provider


async def _asked(client: httpx2.AsyncClient, target: str = "/jobs") -> str:
    answer = await client.get("/auth/oidc/clinic/login", params={"next": target})
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


async def _back(client: httpx2.AsyncClient, given: dict[str, str]) -> httpx2.Response:
    return await client.get("/auth/oidc/clinic/callback", params=given)


async def _logged_in(house: Any, provider: Provider) -> tuple[httpx2.Response, httpx2.Response]:
    async with house.client() as client:
        answer = await _back(client, provider.authorise(await _asked(client)))
        return answer, await client.get("/me")


async def test_a_login_opens_a_session_of_a_user_without_a_password(
    house: Any, provider: Provider
) -> None:
    answer, me = await _logged_in(house, provider)
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs")
    assert me.json()["method"] == "oidc"
    assert me.json()["subject"].startswith("x_")
    assert provider.secret is not None
    again = (await _logged_in(house, provider))[1]
    assert again.json() == me.json()
    admin = house.log_in("root@example").principal
    (found,) = [u for u in house.identity.accounts.users(admin) if u.id == me.json()["subject"]]
    assert (found.role, found.has_code, found.name) == (Role.TRAINER, False, found.id)
    answer = await _password_login(house, found.name)
    assert answer == "login_refused"


async def _password_login(house: Any, name: str) -> str:
    from privacy_runtime.identity import LoginRefused

    try:
        house.identity.logins.log_in(name, house.password, source="x")
    except LoginRefused as error:
        return error.code
    return "in"


async def test_the_cookie_of_a_login_is_short_lived_and_used_once(
    house: Any, provider: Provider
) -> None:
    async with house.client() as client:
        answer = await client.get("/auth/oidc/clinic/login")
        line = answer.headers["set-cookie"]
        assert "HttpOnly" in line
        assert "Max-Age=600" in line
        given = provider.authorise(answer.headers["location"])
        assert (await _back(client, given)).status_code == 303
        assert (await _back(client, given)).status_code == 403


FORGERIES: dict[str, dict[str, Any]] = {
    "another issuer": {"claims": {"iss": "https://evil.example"}},
    "another audience": {"claims": {"aud": "somebody-else"}},
    "two audiences": {"claims": {"aud": [CLIENT, "x"]}},
    "given to another": {"claims": {"azp": "somebody-else"}},
    "another nonce": {"claims": {"nonce": "replayed"}},
    "no nonce": {"claims": {"nonce": None}},
    "expired": {"claims": {"exp": 1_700_000_000}},
    "of the future": {"claims": {"iat": 2_000_000_000}},
    "authenticated long ago": {"claims": {"auth_time": 1_700_000_000}},
    "no group of ours": {"claims": {"groups": ["everybody"]}},
    "two roles": {"claims": {"groups": ["trainers", "viewers"]}},
    "groups as text": {"claims": {"groups": "trainers"}},
    "no subject": {"claims": {"sub": ""}},
    "another key": {"signing": RSAKey.generate_key(2048, {"kid": "one"})},
    "another kind of key": {
        "signing": ECKey.generate_key("P-256", {"kid": "one"}),
        "header": {"alg": "ES256"},
    },
    "an unknown key": {"header": {"kid": "two"}},
}


@pytest.mark.parametrize("name", FORGERIES)
async def test_claims_that_do_not_count(house: Any, provider: Provider, name: str) -> None:
    for field, value in FORGERIES[name].items():
        setattr(provider, field, value)
    answer, me = await _logged_in(house, provider)
    assert (answer.status_code, me.status_code) == (403, 401)
    assert answer.json()["error"]["code"] == "external_login_refused"
    assert "248289761001" not in answer.text


async def test_no_signature_and_the_public_key_as_a_secret(house: Any, provider: Provider) -> None:
    claims: dict[str, Any] = {}

    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    for case in ("none", "confusion", "five parts", "nothing"):
        async with house.client() as client:
            given = provider.authorise(await _asked(client))
            asked = provider.codes[given["code"]]
            genuine = provider.id_token(asked).split(".")
            claims = json.loads(base64.urlsafe_b64decode(genuine[1] + "=="))
            public = provider.key.as_pem(private=False)
            head = f"{part({'alg': 'HS256', 'kid': 'one'})}.{part(claims)}"
            mac = base64.urlsafe_b64encode(hmac.digest(public, head.encode(), "sha256"))
            provider.token = {
                "none": f"{part({'alg': 'none', 'kid': 'one'})}.{genuine[1]}.",
                "confusion": f"{head}.{mac.rstrip(b'=').decode()}",
                "five parts": "a.b.c.d.e",
                "nothing": "",
            }[case]
            if case == "confusion":
                k = base64.urlsafe_b64encode(public).rstrip(b"=").decode()
                provider.shared = [{"kty": "oct", "k": k, "kid": "one"}]
            answer = await _back(client, given)
            assert answer.status_code == 403, case
            provider.token = None
            house.clock.advance(61)


async def test_an_answer_to_another_browsers_question(house: Any, provider: Provider) -> None:
    """Login CSRF: the attacker's code in the victim's browser."""
    async with house.client() as attacker, house.client() as victim:
        stolen = provider.authorise(await _asked(attacker))
        assert (await _back(victim, stolen)).status_code == 403
        await _asked(victim)
        assert (await _back(victim, stolen)).status_code == 403
        mine = provider.authorise(await _asked(victim))
        assert (await _back(victim, mine | {"code": stolen["code"]})).status_code == 403
        assert (await victim.get("/me")).status_code == 401


async def test_the_answer_names_its_issuer(house: Any, provider: Provider) -> None:
    provider.metadata = {"authorization_response_iss_parameter_supported": True}
    async with house.client() as client:
        for iss, status in (("https://evil.example", 403), (None, 403), (ISSUER, 303)):
            given = provider.authorise(await _asked(client))
            given |= {} if iss is None else {"iss": iss}
            assert (await _back(client, given)).status_code == status


@pytest.mark.parametrize(
    "target",
    ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:x", "/a\nb"],
)
async def test_the_way_back_stays_here(house: Any, provider: Provider, target: str) -> None:
    async with house.client() as client:
        answer = await _back(client, provider.authorise(await _asked(client, target)))
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


async def test_a_second_factor_seen_there(house: Any, provider: Provider) -> None:
    provider.claims = {"groups": ["officers"]}
    async with house.client() as client:
        await _back(client, provider.authorise(await _asked(client)))
        assert (await client.get("/list")).status_code == 200
        weak = await client.get("/me")
    provider.claims |= {"amr": ["pwd", "mfa"]}
    _, strong = await _logged_in(house, provider)
    assert (weak.json()["method"], strong.json()["method"]) == ("oidc", "oidc+code")


async def test_another_role_ends_what_was_opened_before(house: Any, provider: Provider) -> None:
    async with house.client() as before:
        await _back(before, provider.authorise(await _asked(before)))
        assert (await before.get("/train")).status_code == 200
        provider.claims = {"groups": ["viewers"]}
        _, me = await _logged_in(house, provider)
        house.clock.advance(2)
        assert me.status_code == 200
        assert (await before.get("/train")).status_code == 401


async def test_disabled_and_revoked_people_stay_out(house: Any, provider: Provider) -> None:
    subject = (await _logged_in(house, provider))[1].json()["subject"]
    admin = house.log_in("root@example").principal
    house.identity.sessions.revoke_subject(admin, subject)
    long_ago = int(house.clock.now().timestamp()) - 600
    provider.claims = {"auth_time": long_ago}
    answer, _ = await _logged_in(house, provider)
    assert answer.status_code == 403  # the issuer only remembered them
    provider.claims = {}
    house.clock.advance(1)
    assert (await _logged_in(house, provider))[1].status_code == 200
    house.identity.accounts.disable(admin, subject)
    assert (await _logged_in(house, provider))[0].status_code == 403


async def test_a_rotated_key_is_found_and_an_issuer_that_is_down_says_so(
    house: Any, provider: Provider
) -> None:
    assert (await _logged_in(house, provider))[1].status_code == 200
    house.clock.advance(61)
    fresh = RSAKey.generate_key(2048, {"kid": "two", "use": "sig", "alg": "RS256"})
    provider.key, provider.published, provider.header = fresh, [fresh], {"kid": "two"}
    assert (await _logged_in(house, provider))[1].status_code == 200
    house.clock.advance(3601)
    provider.is_down = True
    async with house.client() as client:
        answer = await client.get("/auth/oidc/clinic/login")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


async def test_the_issuer_says_no_and_a_name_that_is_none(house: Any, provider: Provider) -> None:
    async with house.client() as client:
        given = provider.authorise(await _asked(client))
        refused = {"state": given["state"], "error": "access_denied"}
        answer = await client.get("/auth/oidc/clinic/callback", params=refused)
        assert (answer.status_code, "denied" in answer.text) == (403, False)
        assert (await client.get("/auth/oidc/nobody/login")).status_code == 404


@pytest.fixture
def open_plain(house_class: Any, tmp_path: Path) -> Iterator[Any]:
    """A deployment that the network reaches without TLS."""
    from privacy_runtime.http import HttpPolicy

    house = house_class(tmp_path / "plain", HttpPolicy(hosts=("pf.example",)))
    yield house
    house.identity.close()


async def test_no_login_elsewhere_without_tls(open_plain: Any) -> None:
    provider = Provider(open_plain)
    issuer = ExternalIssuer(issuer=ISSUER, client_id=CLIENT, tenant="o", roles={})
    login = OidcLogin(
        open_plain.access,
        [OidcProvider(name="clinic", title="Clinic", issuer=issuer)],
        transport=httpx2.ASGITransport(app=provider.app),
    )
    app = FastAPI()
    app.include_router(login.router())
    install(app, policy=open_plain.policy)
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://pf.example") as client:
        assert (await client.get("/auth/oidc/clinic/login")).status_code == 403


def test_what_a_provider_is(provider: Provider) -> None:
    issuer = ExternalIssuer(issuer=ISSUER, client_id=CLIENT, tenant="o", roles={})
    for wrong in ({"name": "Not A Name"}, {"name": "a", "scope": "email"}):
        with pytest.raises(InvalidParameter):
            OidcProvider(**{"title": "Clinic", "issuer": issuer} | wrong)
