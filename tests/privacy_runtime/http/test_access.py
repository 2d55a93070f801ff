"""Who asks: tokens, keys and cookies, and every way to pretend."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import jwt
import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives import serialization

from privacy_runtime.http.browser_sessions import csrf_token
from privacy_runtime.http.credentials import Credentials, Kind
from privacy_runtime.http.tables import BROWSER_SESSIONS
from privacy_runtime.identity import Role, Scope

pytestmark = pytest.mark.anyio


def _spelled(part: Any) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


async def test_a_token_a_key_and_nobody(house: Any, as_bearer: Any) -> None:
    tokens = house.user("nora", Role.TRAINER)
    key = house.identity.api_keys.issue(tokens.principal, label="ci", scopes=[Scope.JOBS_WRITE])
    text = key.text.reveal()
    async with house.client() as client:
        for headers, status in (
            (as_bearer(tokens), 200),
            ({"X-API-Key": text}, 200),
            ({"Authorization": f"bearer {text}"}, 200),
            ({}, 401),
            ({"Authorization": "Basic cm9vdDpyb290"}, 401),
            ({"Authorization": "Bearer"}, 401),
            ({"Authorization": f"Bearer {'x' * 9000}"}, 401),
            ({"X-API-Key": tokens.access_token.reveal()}, 401),
            ({"X-API-Key": text[:-1] + ("a" if text[-1] != "a" else "b")}, 401),
        ):
            answer = await client.get("/train", headers=headers)
            assert answer.status_code == status, headers
            assert ("www-authenticate" in answer.headers) == (status == 401)


async def test_two_credentials_are_none(house: Any, as_bearer: Any) -> None:
    """Smuggling: what a proxy looks at must be what counts here."""
    one, other = house.user("nora", Role.TRAINER), house.user("olaf", Role.VIEWER)
    token = as_bearer(other)["Authorization"]
    async with house.client() as client:
        pairs = [*as_bearer(one).items(), ("Authorization", token)]
        assert (await client.get("/me", headers=pairs)).status_code == 401
        pairs = [*as_bearer(one).items(), ("X-API-Key", "pf_x")]
        assert (await client.get("/me", headers=pairs)).status_code == 401
        cookies = "; ".join(
            f"session={house.access.sessions.open(each).reveal()}" for each in (one, other)
        )
        assert (await client.get("/me", headers={"Cookie": cookies})).status_code == 401


async def test_forged_tokens_are_one_answer(house: Any, as_bearer: Any) -> None:
    """alg=none, key confusion, another key, another type, a changed claim, a second spelling."""
    genuine = house.log_in("root@example").access_token.reveal()
    head, body, signature = genuine.split(".")
    header = json.loads(base64.urlsafe_b64decode(head + "=="))
    claims = jwt.decode(genuine, options={"verify_signature": False})
    public = house.identity.tokens.keys.newest.verifying.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    import hashlib
    import hmac

    confused = f"{_spelled(header | {'alg': 'HS256'})}.{body}"
    mac = hmac.digest(public, confused.encode(), hashlib.sha256)
    forged = {
        "none": f"{_spelled(header | {'alg': 'none'})}.{body}.",
        "None": f"{_spelled(header | {'alg': 'None'})}.{body}.",
        "no signature": f"{head}.{body}.",
        "key confusion": f"{confused}.{_spelled(mac)}",
        "a key of its own": f"{_spelled(header | {'jwk': {'kty': 'OKP'}})}.{body}.{signature}",
        "a path as key": f"{_spelled(header | {'kid': '../../etc/passwd'})}.{body}.{signature}",
        "another type": f"{_spelled(header | {'typ': 'JWT'})}.{body}.{signature}",
        "more scopes": f"{head}.{_spelled(claims | {'scope': 'settings:write'})}.{signature}",
        "padding": genuine + "=",
        "two tokens": f"{genuine}, {genuine}",
        "a null": genuine[:-4] + "\\u0000",
    }
    async with house.client() as client:
        assert (await client.get("/me", headers=as_bearer(house.log_in("root@example")))).is_success
        answers = set()
        for name, token in forged.items():
            answer = await client.get("/me", headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == 401, name
            answers.add((answer.json()["error"]["code"], answer.json()["error"]["message"]))
    assert answers == {("token_refused", "the access token is not valid")}


async def test_an_expired_token_and_one_of_a_session_that_ended(house: Any, as_bearer: Any) -> None:
    tokens = house.user("nora", Role.TRAINER)
    async with house.client(headers=as_bearer(tokens)) as client:
        assert (await client.get("/me")).status_code == 200
        house.identity.sessions.log_out(tokens.principal)
        assert (await client.get("/me")).status_code == 200  # believed, for a second at most
        house.clock.advance(1.0)
        assert (await client.get("/me")).status_code == 401
    again = house.log_in("nora")
    async with house.client(headers=as_bearer(again)) as client:
        house.clock.advance(930)
        assert (await client.get("/me")).status_code == 401


async def test_what_this_process_ends_is_gone_at_once(house: Any, as_bearer: Any) -> None:
    tokens = house.user("nora", Role.TRAINER)
    async with house.client(headers=as_bearer(tokens)) as client:
        assert (await client.get("/me")).status_code == 200
        house.identity.sessions.log_out(tokens.principal)
        house.access.forget(tokens.principal.session)
        assert (await client.get("/me")).status_code == 401


async def test_a_verification_under_way_does_not_outlive_a_logout(house: Any) -> None:
    tokens = house.user("nora", Role.TRAINER)
    shown = Credentials(Kind.TOKEN, tokens.access_token.reveal())
    entered, leave = asyncio.Event(), asyncio.Event()
    kept = house.access._kept

    async def slow() -> Any:
        entered.set()
        await leave.wait()
        return tokens.principal

    first = asyncio.create_task(kept.get(shown, slow))
    await entered.wait()
    second = asyncio.create_task(kept.get(shown, slow))
    await asyncio.sleep(0)
    house.access.forget(tokens.principal.session)
    leave.set()
    await asyncio.gather(first, second)
    asked = []

    async def fresh() -> Any:
        asked.append(1)
        return tokens.principal

    await kept.get(shown, fresh)
    await kept.get(shown, fresh)
    assert asked == [1]


async def test_a_credential_in_use_is_verified_ahead_of_time(house: Any) -> None:
    """Nobody waits for the database while it answers in time; a refusal is heard."""
    tokens = house.user("nora", Role.TRAINER)
    shown, kept, asked = Credentials(Kind.TOKEN, "t"), house.access._kept, []

    async def verify() -> Any:
        asked.append(house.clock.monotonic_s())
        await asyncio.sleep(0)
        if len(asked) == 3:
            raise ValueError("revoked")
        return tokens.principal

    for _ in range(3):
        await kept.get(shown, verify)
        house.clock.advance(0.2)
    assert len(asked) == 1
    assert await kept.get(shown, verify) is tokens.principal  # and looks ahead meanwhile
    await asyncio.gather(*kept._ahead.values())
    assert len(asked) == 2
    house.clock.advance(0.6)
    await kept.get(shown, verify)
    await asyncio.gather(*kept._ahead.values())
    assert len(asked) == 3
    await kept.get(shown, verify)
    assert len(asked) == 4  # what was known is gone with the refusal


async def test_many_requests_at_once_look_ahead_once(house: Any) -> None:
    tokens = house.user("nora", Role.TRAINER)
    shown, kept, asked = Credentials(Kind.TOKEN, "t"), house.access._kept, []

    async def verify(_: Credentials | None = None) -> Any:
        asked.append(1)
        await asyncio.sleep(0)
        return tokens.principal

    assert kept.known(shown, verify) is None
    await kept.get(shown, verify)
    house.clock.advance(0.6)
    assert {kept.known(shown, verify) for _ in range(20)} == {tokens.principal}
    await asyncio.gather(*(kept.get(shown, verify) for _ in range(20)), *kept._ahead.values())
    assert len(asked) == 2
    house.clock.advance(1.1)
    assert kept.known(shown, verify) is None  # too old to be believed without a look


async def test_requests_at_once_verify_once_and_fail_together(house: Any) -> None:
    asked = []

    async def failing() -> Any:
        asked.append(1)
        await asyncio.sleep(0)
        raise ValueError("no")

    calls = [house.access._kept.get(Credentials(Kind.TOKEN, "t"), failing) for _ in range(20)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert asked == [1]
    assert all(isinstance(answer, ValueError) for answer in answers)


async def test_scopes_and_freshness(house: Any, as_bearer: Any) -> None:
    viewer = house.user("vera", Role.VIEWER)
    admin = house.log_in("root@example")
    async with house.client() as client:
        assert (await client.get("/train", headers=as_bearer(viewer))).status_code == 403
        assert (await client.get("/grant", headers=as_bearer(admin))).status_code == 200
        house.clock.advance(301)
        answer = await client.get("/grant", headers=as_bearer(admin))
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "stale_login")


async def test_a_cookie_acts_only_with_the_token_of_its_session(house: Any) -> None:
    mine = house.access.sessions.open(house.user("nora", Role.TRAINER)).reveal()
    other = house.access.sessions.open(house.user("olaf", Role.TRAINER)).reveal()
    good = csrf_token(mine, b"m" * 32)
    ours = {"Cookie": f"session={mine}", "X-CSRF-Token": good}
    form = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": f"session={mine}"}
    cases = [
        (ours, 200),
        (ours | {"Origin": "http://testserver", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Cookie": f"session={mine}"}, 403),
        (ours | {"X-CSRF-Token": csrf_token(other, b"m" * 32)}, 403),
        (ours | {"X-CSRF-Token": good[:-1] + "!"}, 403),
        (ours | {"X-CSRF-Token": mine}, 403),
        (ours | {"Origin": "http://evil.example"}, 403),
        (ours | {"Origin": "https://testserver"}, 403),
        (ours | {"Origin": "null"}, 403),
        (ours | {"Sec-Fetch-Site": "cross-site"}, 403),
        (ours | {"Sec-Fetch-Site": "same-site"}, 403),
    ]
    async with house.client() as client:
        for headers, status in cases:
            assert (await client.post("/me", headers=headers)).status_code == status, headers
        for field, status in ((good, 200), ("", 403)):
            content = f"field=one&csrf_token={field}"
            answer = await client.post("/form", headers=form, content=content)
            assert answer.status_code == status
        assert answer.json()["error"]["code"] == "cross_site_refused"
        cookie = {"Cookie": f"session={mine}"}
        assert (await client.get("/me", headers=cookie)).status_code == 200


async def test_masks_differ_and_the_token_fits(house: Any) -> None:
    cookie = house.access.sessions.open(house.user("nora", Role.VIEWER)).reveal()
    assert csrf_token(cookie, b"a" * 32) != csrf_token(cookie, b"b" * 32)
    assert cookie not in repr(
        house.identity.store.read(lambda c: c.execute(sa.select(BROWSER_SESSIONS)).all())
    )


async def test_over_tls_only_the_host_cookie_counts(tls_house: Any) -> None:
    """A cookie that another host of the domain could set is no session."""
    cookie = tls_house.access.sessions.open(tls_house.log_in("root@example")).reveal()
    async with tls_house.client("https://pf.example") as client:
        for name, status in (("session", 401), ("__Host-session", 200)):
            answer = await client.get("/me", headers={"Cookie": f"{name}={cookie}"})
            assert answer.status_code == status


async def test_the_cookie_is_bound_and_taken_away(tls_house: Any) -> None:
    from starlette.requests import Request
    from starlette.responses import Response

    scope = {"type": "http", "headers": [], "method": "POST", "path": "/", "query_string": b""}
    request, response = Request(scope), Response()
    tokens = tls_house.log_in("root@example")
    await tls_house.access.open_session(request, response, tokens)
    line = response.headers["set-cookie"]
    assert line.startswith("__Host-session=")
    assert {"HttpOnly", "Secure", "SameSite=lax", "Path=/"} <= {
        part.strip() for part in line.split(";")
    }
    assert "Domain" not in line
    cookie = line.split("=", 1)[1].split(";")[0]
    async with tls_house.client("https://pf.example") as client:
        headers = {"Cookie": f"__Host-session={cookie}"}
        assert (await client.get("/me", headers=headers)).status_code == 200
        gone = Response()
        await tls_house.access.log_out(request, gone, tokens.principal)
        assert "Max-Age=0" in gone.headers["set-cookie"]
        assert gone.headers["clear-site-data"] == '"cache", "storage"'
        assert (await client.get("/me", headers=headers)).status_code == 401


async def test_a_login_voids_the_cookie_that_the_browser_had(house: Any) -> None:
    """Session fixation: whoever planted or kept the old cookie has nothing."""
    from starlette.requests import Request
    from starlette.responses import Response

    old = house.access.sessions.open(house.user("nora", Role.VIEWER)).reveal()
    lines = [(b"cookie", f"session={old}".encode())]
    scope = {"type": "http", "headers": lines, "method": "POST", "path": "/", "query_string": b""}
    async with house.client(headers={"Cookie": f"session={old}"}) as client:
        assert (await client.get("/me")).status_code == 200
        await house.access.open_session(Request(scope), Response(), house.log_in("nora"))
        assert (await client.get("/me")).status_code == 401


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Mode": "cors"}, {"Sec-Fetch-Mode": "navigate"}])
async def test_a_page_that_polls_does_not_put_the_logoff_off(
    house: Any, headers: dict[str, str]
) -> None:
    cookie = house.access.sessions.open(house.user("nora", Role.VIEWER)).reveal()
    is_person = headers["Sec-Fetch-Mode"] == "navigate"
    async with house.client(headers=headers | {"Cookie": f"session={cookie}"}) as client:
        for _ in range(4):
            house.clock.advance(600)
            status = (await client.get("/me")).status_code
        assert status == (200 if is_person else 401)
        for _ in range(80):
            house.clock.advance(600)
            status = (await client.get("/me")).status_code
        assert status == 401  # at most twelve hours, however busy


async def test_a_disabled_user_and_a_lower_role(house: Any) -> None:
    admin = house.log_in("root@example").principal
    tokens = house.user("nora", Role.TRAINER)
    cookie = {"Cookie": f"session={house.access.sessions.open(tokens).reveal()}"}
    async with house.client(headers=cookie) as client:
        assert (await client.get("/train")).status_code == 200
        house.identity.accounts.disable(admin, tokens.principal.subject)
        house.access.forget_subject(tokens.principal.subject)
        assert (await client.get("/train")).status_code == 401


async def test_a_database_that_is_gone(house: Any, as_bearer: Any) -> None:
    headers = as_bearer(house.log_in("root@example"))
    house.identity.close()
    (house.folder / "identity.db").write_bytes(b"this is no database" * 100)
    async with house.client() as client:
        answer = await client.get("/me", headers=headers)
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert "identity.db" not in answer.text
