"""The front door: identifiers, headers, hosts, proxies, sizes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from privacy_core.errors import InvalidParameter
from privacy_runtime.http import HttpPolicy, Rate

pytestmark = pytest.mark.anyio


async def _chunks(size: int, count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * size


@pytest.mark.parametrize(
    ("given", "is_kept"),
    [
        ("abcd-1234.EF_56", True),
        ("short", False),
        ("x" * 65, False),
        ("with space here", False),
        ("<script>alert(1)</script>", False),
        ("-starts-with-a-dash", False),
    ],
)
async def test_a_request_id_is_kept_if_it_is_sane(house: Any, given: str, is_kept: bool) -> None:
    async with house.client() as client:
        answer = await client.get("/nowhere", headers={"X-Request-ID": given})
    assert (answer.headers["x-request-id"] == given) == is_kept
    assert answer.headers.get_list("x-request-id") == [answer.json()["error"]["request_id"]]


async def test_two_request_ids_are_none(house: Any) -> None:
    pairs = [("X-Request-ID", "abcdefgh"), ("X-Request-ID", "ijklmnop")]
    async with house.client() as client:
        answer = await client.get("/nowhere", headers=pairs)
    assert answer.headers["x-request-id"].startswith("req_")


async def test_every_answer_carries_the_security_headers(house: Any, tls_house: Any) -> None:
    async with house.client() as client:
        for path in ("/nowhere", "/list", "/raise/unexpected", "/static/long"):
            headers = (await client.get(path)).headers
            policy = headers["content-security-policy"]
            assert "unsafe-inline" not in policy
            assert "unsafe-eval" not in policy
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "same-origin"
            assert headers["cache-control"] == "no-store"
            assert "strict-transport-security" not in headers
            assert "server" not in headers
    async with tls_house.client("https://pf.example") as client:
        assert (
            "max-age=31536000" in (await client.get("/list")).headers["strict-transport-security"]
        )


@pytest.mark.parametrize(
    "host", ["evil.example", "", "testserver.evil.example", "evil@testserver", "testserver:80:80"]
)
async def test_other_hosts_are_refused(house: Any, host: str) -> None:
    async with house.client() as client:
        answer = await client.get("/list", headers={"Host": host})
        twice = await client.get("/list", headers=[("Host", "testserver"), ("Host", host)])
    assert (answer.status_code, twice.status_code) == (421, 421)
    assert answer.json()["error"]["code"] == "unknown_host"


async def test_hosts_below_a_name(house_class: Any, tmp_path: Any) -> None:
    house = house_class(tmp_path, HttpPolicy(hosts=("*.pf.example", "[::1]")))
    async with house.client() as client:
        for host, status in {
            "a.pf.example": 200,
            "a.b.pf.example:8443": 200,
            "pf.example": 421,
            "evilpf.example": 421,
            "[::1]:8080": 200,
            "[::1]": 200,
        }.items():
            answer = await client.get("/list", headers={"Host": host})
            assert answer.status_code == status, host
    house.identity.close()


def test_a_policy_that_lets_everybody_in_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="hosts"):
        HttpPolicy(hosts=("*",))
    with pytest.raises(InvalidParameter, match="origin"):
        HttpPolicy(origin="https://pf.example/path")


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_body_above_the_limit(house: Any, is_chunked: bool) -> None:
    house_limit = house.policy.body_limit_bytes
    async with house.client() as client:
        fitting = await client.post("/echo", content=b"x" * house_limit)
        content: Any = _chunks(65_536, 17) if is_chunked else b"x" * (house_limit + 1)
        answer = await client.post("/echo", content=content)
    assert fitting.json() == {"size": house_limit}
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "body_too_large"
    assert answer.headers["connection"] == "close"


async def test_a_body_that_is_larger_than_it_says(house: Any, as_bearer: Any) -> None:
    """Smuggling: the length that is announced is small, what comes is not."""
    headers = as_bearer(house.log_in("root@example")) | {"Content-Type": "application/json"}
    async with house.client(headers=headers) as client:
        answer = await client.post("/orders", content=_chunks(65_536, 17))
        assert answer.status_code == 413
        for length in ("-1", "1e3", "", "1, 2"):
            answer = await client.post("/echo", content=b"x", headers={"Content-Length": length})
            assert answer.status_code == 422, length
        pairs = [("Content-Length", "1"), ("Content-Length", "1")]
        assert (await client.post("/echo", content=b"x", headers=pairs)).status_code == 422


async def test_limits_of_a_path(house_class: Any, tmp_path: Any) -> None:
    house = house_class(tmp_path, HttpPolicy(body_limits={"/e": 10, "/echo": 20}))
    async with house.client() as client:
        assert (await client.post("/echo", content=b"x" * 20)).status_code == 200
        assert (await client.post("/echo", content=b"x" * 21)).status_code == 413
    house.identity.close()


async def test_a_body_that_does_not_come(house_class: Any, tmp_path: Any) -> None:
    house = house_class(tmp_path, HttpPolicy(body_timeout_s=0.05))
    sent = []

    async def receive() -> dict[str, Any]:
        await house.gate.wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/echo",
        "raw_path": b"/echo",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"testserver"), (b"content-length", b"10")],
        "client": ("127.0.0.1", 1),
        "server": ("testserver", 80),
    }
    await house.app(scope, receive, send)
    assert sent[0]["status"] == 408
    house.identity.close()


async def test_too_many_headers_and_too_long_ones(house: Any) -> None:
    async with house.client() as client:
        many = [(f"x-{n}", "1") for n in range(10_000)]
        assert (await client.get("/list", headers=many)).status_code == 431
        assert (await client.get("/list", headers={"x": "y" * 40_000})).status_code == 431
        assert (await client.get("/list", headers={"x": "y" * 20_000})).status_code == 200


@pytest.fixture
def behind(house_class: Any, tmp_path: Any) -> Iterator[Any]:
    """A deployment that counts two requests of an address, behind a proxy in 10.0.0.0/8."""
    house = house_class(
        tmp_path,
        HttpPolicy(proxies=("10.0.0.0/8",)),
        rates={"address": Rate("address", 2)},
    )
    yield house
    house.identity.close()


async def test_only_a_trusted_proxy_says_who_asks(behind: Any) -> None:
    """A stranger's own X-Forwarded-For would be a way around every limit by address."""
    async with behind.client() as client:
        statuses = [
            (await client.get("/list", headers={"X-Forwarded-For": f"203.0.113.{n}"})).status_code
            for n in range(3)
        ]
    assert statuses == [200, 200, 429]


async def test_private_answers_are_not_compressed(house: Any) -> None:
    headers = {"Accept-Encoding": "gzip"}
    async with house.client(headers=headers) as client:
        assert (await client.get("/static/long")).headers["content-encoding"] == "gzip"
        assert "content-encoding" not in (await client.get("/long")).headers
