"""The gateway as it is started: over standard streams, over HTTP, and with OAuth in front."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from doubles import EMAIL, NAME, PLANTED, SSN, make_world, server_policy
from leaky import Leaky
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from privacy_finetuner.context.gateway.auth import NOT_KEPT, verifier_of
from privacy_finetuner.context.gateway.errors import GatewayRefused
from privacy_finetuner.context.gateway.policy import AuthPolicy, Policy
from privacy_finetuner.context.gateway.serving import app_of
from privacy_runtime.listening import is_loopback
from privacy_runtime.world import SystemClock

START = "from privacy_finetuner.cli import main; main()"
FILES = Path(__file__).with_name("filesystem_server.py")
ISSUER = "https://issuer.test"
RESOURCE = "http://127.0.0.1/mcp"
AUTH = AuthPolicy(issuer=ISSUER, resource=RESOURCE, jwks_url=f"{ISSUER}/jwks", scopes=("mcp",))


# ------------------------------------------------------------------ standard streams, all real


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of notes, and a policy with a server of files over it."""
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "visit.txt").write_text(f"Patient mail {EMAIL}, SSN {SSN}.\nFollow up in May.\n")
    policy = {
        "redaction": {"level": "medium", "names": False},
        "servers": {
            "files": {
                "command": [sys.executable, str(FILES), str(notes)],
                "zone": "internal",
                "tools": {"rules": {"write_file": {"zone": "trusted", "reveal": ["EMAIL"]}}},
            }
        },
    }
    (tmp_path / "gateway.yaml").write_text(json.dumps(policy))
    return tmp_path


def gateway_process(folder: Path) -> StdioServerParameters:
    return StdioServerParameters(
        command=sys.executable,
        args=["-c", START, "gateway", "run", "--policy", "gateway.yaml"],
        cwd=folder,
        env={"PYTHONPATH": os.environ.get("PYTHONPATH", "")},
    )


@pytest.mark.parametrize("mode", ["auto", pytest.param("legacy", marks=pytest.mark.slow)])
def test_an_agent_works_with_files_that_it_never_sees_in_clear(folder: Path, mode: str) -> None:
    async def main() -> list[Any]:
        with anyio.fail_after(60):
            async with Client(gateway_process(folder), mode=mode) as client:
                tools = await client.list_tools()
                read = await client.call_tool("files__read_file", {"path": "visit.txt"})
                text = read.structured_content["result"]
                await client.call_tool("files__write_file", {"path": "copy.txt", "content": text})
                found = await client.call_tool("files__search_files", {"text": "Patient"})
                outside = await client.call_tool("files__read_file", {"path": "../gateway.yaml"})
                resource = await client.read_resource("mcp://files/file:///visit.txt")
                return [tools, read, found, outside, resource, text]

    *seen, text = anyio.run(main)

    everything = "".join(thing.model_dump_json() for thing in seen)
    assert all(value not in everything for value in PLANTED)
    assert "Follow up in May." in text
    written = (folder / "notes" / "copy.txt").read_text()
    assert EMAIL in written
    assert SSN not in written
    assert "US_SSN_" in written


# ------------------------------------------------------------------ HTTP


@asynccontextmanager
async def served(policy: Policy, leaky: Leaky, **options: Any) -> AsyncIterator[tuple[Any, Any]]:
    """The gateway's application without a socket; yields it, and its world."""
    world = make_world(policy, {"notes": leaky.server})
    app = app_of(world.gateway, **options)
    async with world.gateway.running(), app.router.lifespan_context(app):
        yield app, world


def client_of(app: Any, seen: list[bytes], token: str | None = None) -> httpx2.AsyncClient:
    async def keep(response: httpx2.Response) -> None:
        seen.append(repr(response.headers).encode())

    return httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=app),
        base_url="http://127.0.0.1:8000",
        headers={"Authorization": f"Bearer {token}"} if token else {},
        event_hooks={"response": [keep]},
    )


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_the_same_over_http(mode: str) -> None:
    leaky = Leaky()

    async def main() -> str:
        async with served(Policy(servers=(server_policy(),)), leaky) as (app, _):
            http = client_of(app, [])
            target = streamable_http_client("http://127.0.0.1:8000/mcp", http_client=http)
            async with http, Client(target, mode=mode) as client:
                listed = await client.list_tools()
                read = await client.call_tool("notes__read", {"who": EMAIL})
                assert not read.is_error
                assert read.structured_content["mail"] in read.content[0].text
                return listed.model_dump_json() + read.model_dump_json()

    text = anyio.run(main)

    assert all(value not in text for value in PLANTED)
    assert EMAIL not in json.dumps(leaky.heard)


def test_an_address_that_others_can_reach_needs_auth() -> None:
    world = make_world(Policy(servers=(server_policy(),)), {})

    for host in ("0.0.0.0", "192.168.1.4", "example.org", "::"):  # noqa: S104  refused
        with pytest.raises(GatewayRefused, match="auth"):
            app_of(world.gateway, host)
    assert is_loopback("127.0.0.5")
    assert is_loopback("[::1]")


# ------------------------------------------------------------------ OAuth


class Issuer:
    """An authorization server in this process: keys, tokens, introspection."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.fetches = 0
        self.opaque: dict[str, dict[str, Any]] = {}
        self.app = Starlette(
            routes=[Route("/jwks", self.jwks), Route("/ask", self.ask, methods=["POST"])]
        )

    async def jwks(self, request: Request) -> JSONResponse:
        self.fetches += 1
        key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        return JSONResponse({"keys": [{**key, "kid": "k1", "use": "sig", "alg": "RS256"}]})

    async def ask(self, request: Request) -> JSONResponse:
        assert request.headers["authorization"].startswith("Basic ")
        form = (await request.body()).decode()
        token = form.removeprefix("token=")
        return JSONResponse(self.opaque.get(token, {"active": False}))

    def token(self, **changes: Any) -> str:
        now = int(SystemClock().now().timestamp())
        claims = {
            "iss": ISSUER, "aud": RESOURCE, "sub": "ada", "client_id": "agent",
            "scope": "mcp other", "exp": now + 300, **changes,
        }  # fmt: skip
        return jwt.encode(claims, self.key, algorithm="RS256", headers={"kid": "k1"})

    def http(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=self.app), base_url=ISSUER)


async def status_of(app: Any, token: str | None) -> int:
    async with client_of(app, [], token) as http:
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        answer = await http.post("/mcp", json=body)
        return answer.status_code


def test_only_tokens_for_this_gateway_open_it_and_none_is_passed_on() -> None:
    issuer, leaky = Issuer(), Leaky()
    policy = Policy(servers=(server_policy(),), auth=AUTH)
    good = issuer.token()
    other = Issuer()
    bad = {
        "no token": None,
        "another audience": issuer.token(aud="https://other.test/mcp"),
        "another issuer": issuer.token(iss="https://evil.test"),
        "expired": issuer.token(exp=1_000_000),
        "another key": other.token(),
        "no signature": jwt.encode({"iss": ISSUER, "aud": RESOURCE, "exp": 9e9}, "", "none"),
        "not a token": "abc",
    }

    async def main() -> dict[str, int]:
        verifier = verifier_of(AUTH, SystemClock(), http=issuer.http)
        async with served(policy, leaky, verifier=verifier) as (app, _):
            found = {name: await status_of(app, token) for name, token in bad.items()}
            found["no scope"] = await status_of(app, issuer.token(scope="other"))
            http = client_of(app, [], good)
            target = streamable_http_client("http://127.0.0.1:8000/mcp", http_client=http)
            async with http, Client(target) as client:
                result = await client.call_tool("notes__write", {"who": NAME})
                assert not result.is_error
            metadata = await client_of(app, []).get("/.well-known/oauth-protected-resource/mcp")
            assert metadata.json()["authorization_servers"] == [ISSUER]
            return found

    found = anyio.run(main)

    assert found == {**dict.fromkeys(bad, 401), "no scope": 403}
    assert good not in json.dumps(leaky.heard)
    assert issuer.fetches == 1


def test_opaque_tokens_are_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    issuer = Issuer()
    auth = AuthPolicy(
        issuer=ISSUER,
        resource=RESOURCE,
        introspection_url=f"{ISSUER}/ask",
        client_id_env="GATEWAY_ID",
        client_secret_env="GATEWAY_SECRET",  # noqa: S106  a name
    )
    with pytest.raises(GatewayRefused, match="credentials"):
        verifier_of(auth, SystemClock())
    monkeypatch.setenv("GATEWAY_ID", "gateway")
    monkeypatch.setenv("GATEWAY_SECRET", "s")
    claims = {"active": True, "aud": [RESOURCE, "x"], "exp": 4e9, "sub": "ada", "scope": "mcp"}
    issuer.opaque = {
        "good": claims,
        "other": {**claims, "aud": "https://other.test"},
        "foreign": {**claims, "iss": "https://evil.test"},
    }

    async def main() -> list[Any]:
        verifier = verifier_of(auth, SystemClock(), http=issuer.http)
        return [await verifier.verify_token(t) for t in ("good", "other", "foreign", "unknown")]

    good, *others = anyio.run(main)

    assert good is not None
    assert good.subject == "ada"
    assert good.token == NOT_KEPT
    assert others == [None, None, None]


def test_two_people_share_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    issuer, leaky = Issuer(), Leaky()
    policy = Policy(servers=(server_policy(),), auth=AUTH)

    async def main() -> list[str]:
        verifier = verifier_of(AUTH, SystemClock(), http=issuer.http)
        async with served(policy, leaky, verifier=verifier) as (app, world):
            for person in ("ada", "ben"):
                http = client_of(app, [], issuer.token(sub=person))
                target = streamable_http_client("http://127.0.0.1:8000/mcp", http_client=http)
                async with http, Client(target) as client:
                    await client.call_tool("notes__read", {})
            await world.gateway.trail.flush()
            return [entry.body["session"] for entry in world.trail() if "session" in entry.body]

    assert len(set(anyio.run(main))) == 2


def test_errors_of_the_protocol_stay_errors_of_the_protocol() -> None:
    async def main() -> None:
        leaky = Leaky()
        async with served(Policy(servers=(server_policy(),)), leaky) as (app, _):
            http = client_of(app, [])
            target = streamable_http_client("http://127.0.0.1:8000/mcp", http_client=http)
            async with http, Client(target) as client:
                with pytest.raises(MCPError, match="not_allowed"):
                    await client.read_resource("mcp://nobody/file:///x")

    anyio.run(main)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_gateway_over_http_ends_soon_after_sigterm_whatever_streams_are_open(
    folder: Path,
) -> None:
    parameters = gateway_process(folder)
    port = free_port()
    process = subprocess.Popen(
        [parameters.command, *parameters.args, "--http", f"127.0.0.1:{port}"],
        cwd=parameters.cwd,
        env={**os.environ, **(parameters.env or {})},
    )

    async def main() -> float:
        address = f"http://127.0.0.1:{port}/mcp"
        with anyio.fail_after(60):
            while True:
                try:
                    async with await anyio.connect_tcp("127.0.0.1", port):
                        break
                except OSError:
                    await anyio.sleep(0.1)
        with anyio.move_on_after(30) as patience:
            async with Client(address) as client, client.listen(tools_list_changed=True):
                await client.list_tools()
                process.terminate()
                began = time.monotonic()
                while process.poll() is None:  # noqa: ASYNC110  a process tells nobody
                    await anyio.sleep(0.02)
                took = time.monotonic() - began
                patience.cancel()
        return took

    try:
        assert anyio.run(main) < 3
    finally:
        process.kill()
        process.wait()


def test_a_gateway_over_stdio_ends_when_the_client_closes_its_input(folder: Path) -> None:
    parameters = gateway_process(folder)
    ended = subprocess.run(
        [parameters.command, *parameters.args],
        cwd=parameters.cwd,
        env={**os.environ, **(parameters.env or {})},
        input=b"",
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert (ended.returncode, ended.stdout) == (0, b"")
