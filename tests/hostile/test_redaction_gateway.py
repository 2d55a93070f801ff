"""The gateway against servers and clients that hide values where it does not look."""

from __future__ import annotations

import base64
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import mcp_types as types
import pytest
from mcp.shared.exceptions import MCPError

sys.path.insert(0, str(Path(__file__).parents[1] / "privacy_finetuner" / "context" / "gateway"))

from doubles import EMAIL, PLANTED, SSN, connected, make_world, server_policy
from leaky import Leaky, handshake_only

from privacy_finetuner.context.gateway import pinning, questions
from privacy_finetuner.context.gateway.auth import verifier_of
from privacy_finetuner.context.gateway.errors import PolicyError
from privacy_finetuner.context.gateway.passage import Passage
from privacy_finetuner.context.gateway.policy import (
    AuthPolicy,
    Policy,
    RedactionPolicy,
    ToolRule,
    Zone,
)
from privacy_finetuner.context.gateway.policy_file import parse_policy
from privacy_finetuner.context.gateway.protection import Spot, disjoint
from privacy_finetuner.context.gateway.protectors import protectors
from privacy_finetuner.context.gateway.serving import app_of
from privacy_finetuner.context.gateway.sessions import ProtectorFor
from privacy_runtime.world import SystemClock, SystemEntropy

POLICY = Policy(redaction=RedactionPolicy(names=False))


@pytest.fixture(scope="module")
def protector_for() -> Iterator[ProtectorFor]:
    with protectors(POLICY, clock=SystemClock(), entropy=SystemEntropy()) as made:
        yield made


def passage(protector_for: ProtectorFor, session: str, grant: ToolRule | None = None) -> Passage:
    return Passage(protector_for(session), POLICY.redaction, POLICY.limits, grant=grant)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("seen: [Passport X1234567]", "X1234567"),
        ("[License plate 7ABC123]", "7ABC123"),
        ("[medical record A1234567]", "A1234567"),
        ("[DRIVER-LICENSE D1234567]", "D1234567"),
        ("[Card#4111111111111111]", "4111111111111111"),
        ("[CARD#4111111111111111]", "4111111111111111"),
        ("ssn [US_SSN_536221234]", "536221234"),
    ],
)
def test_what_only_has_the_form_of_a_token_is_examined(
    protector_for: ProtectorFor, text: str, value: str
) -> None:
    egress = ToolRule(pattern="*", zone=Zone.EGRESS)

    assert value not in passage(protector_for, text).text_to_model(text)
    assert value not in json.dumps(passage(protector_for, text, egress).to_tool({"q": text}))


def test_a_genuine_token_still_passes_both_ways(protector_for: ProtectorFor) -> None:
    trusted = ToolRule(pattern="*", zone=Zone.TRUSTED, reveal=frozenset({"PASSPORT"}))
    text = "passport X1234567"

    shown = passage(protector_for, "genuine").text_to_model(text)

    assert "X1234567" not in shown
    assert passage(protector_for, "genuine").text_to_model(shown) == shown
    assert passage(protector_for, "genuine", trusted).to_tool([shown]) == [text]


@pytest.mark.parametrize("mode", ["auto", "legacy"], ids=["from-2026", "from-2025"])
@pytest.mark.parametrize(
    "where", ["prompt name", "completed prompt", "completed argument", "trace of gateways"]
)
def test_no_value_reaches_an_egress_server_in_the_place_of_a_name(mode: str, where: str) -> None:
    async def main() -> None:
        leaky = Leaky()
        policy = Policy(servers=(server_policy("notes"),))
        async with connected(policy, {"notes": leaky.server}, mode=mode) as (client, _):
            requests: dict[str, Any] = {
                "prompt name": lambda: client.get_prompt("notes__" + EMAIL, {}),
                "completed prompt": lambda: client.complete(
                    types.PromptReference(name="notes__" + SSN), {"name": "a", "value": "b"}
                ),
                "completed argument": lambda: client.complete(
                    types.ResourceTemplateReference(uri="mcp://notes/file:///{x}"),
                    {"name": SSN, "value": "b"},
                ),
                "trace of gateways": lambda: client.session.call_tool(
                    "notes__write", {}, meta={"privacy-finetuner/via": [EMAIL]}
                ),
            }
            with contextlib.suppress(MCPError):  # refused is as good
                await requests[where]()
        heard = json.dumps(leaky.heard, default=str)
        assert [value for value in PLANTED if value in heard] == []

    anyio.run(main)


@pytest.mark.parametrize(
    "change",
    [
        {"_meta": {"ui": {"resourceUri": "ui://somebody/else"}}},
        {"icons": [types.Icon(src="https://example.net/i.png")]},
    ],
    ids=["what it shows", "its icon"],
)
def test_a_tool_that_shows_something_else_is_another_tool(change: dict[str, Any]) -> None:
    before = types.Tool(name="a", input_schema={"type": "object"})
    after = types.Tool(name="a", input_schema={"type": "object"}, **change)

    assert pinning.digest_of(before) != pinning.digest_of(after)


def test_a_name_is_known_in_every_spelling_it_was_found_in(protector_for: ProtectorFor) -> None:
    protector = protector_for("spellings")
    protector.learn("MARIA HILLSON", "PERSON")
    protector.learn("Maria Hillson", "PERSON")

    for text in ("see MARIA HILLSON now", "see Maria Hillson now"):
        assert [spot.label for spot in protector.standing(text, ())] == ["PERSON"]
    assert protector.standing("maria hillson", ()) == ()


def test_ten_thousand_values_in_one_text_take_no_square_of_the_time() -> None:
    """4,000 took 0.31 s when every value was sorted in anew, four times 2,000; now 0.01 s."""
    spots = [Spot(10 * n, 10 * n + 8, "EMAIL", "test") for n in range(10_000)]
    began = time.process_time()

    assert len(disjoint(spots, [(5, 12), (8, 15)])) == 10_000
    assert time.process_time() - began < 1


def test_overlapping_taken_spans_hide_no_rest() -> None:
    spots = disjoint([Spot(0, 100, "A", "x"), Spot(40, 60, "B", "x")], [(10, 50), (20, 30)])

    assert [(spot.start, spot.end) for spot in spots] == [(0, 10), (50, 100)]


@pytest.mark.parametrize("place", ["structuredContent", "_meta"])
def test_a_blob_in_structured_content_is_decoded(protector_for: ProtectorFor, place: str) -> None:
    blob = base64.b64encode(b"mail zaphod@example.org").decode()

    shown = passage(protector_for, "blob").to_model({place: {"blob": blob}})

    assert blob not in json.dumps(shown)


def test_a_value_that_is_encoded_twice_is_found(protector_for: ProtectorFor) -> None:
    uri = "file:///people/zaphod%2540example.org"

    shown = passage(protector_for, "twice").to_model({"uri": uri})

    assert "zaphod" not in shown["uri"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "[::1]", "0:0:0:0:0:0:0:1"])
def test_a_page_in_a_browser_reaches_no_gateway_on_any_loopback_address(host: str) -> None:
    async def main() -> int:
        world = make_world(Policy(servers=(server_policy("notes"),)), {"notes": Leaky().server})
        app = app_of(world.gateway, host)
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
        headers = {
            "Host": "rebound.example",
            "Origin": "http://rebound.example",
            "Accept": "application/json, text/event-stream",
        }
        async with (
            world.gateway.running(),
            app.router.lifespan_context(app),
            httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app)) as http,
        ):
            answer = await http.post("http://rebound.example/mcp", headers=headers, json=body)
        return answer.status_code

    assert anyio.run(main) in (403, 421)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 5_000,
        "a: " + "{b: " * 3_000,
        "limits: {depth: " + "9" * 5_000 + "}",
        "limits: {depth: 1__0}",
        "limits: {depth: 0777}",
        "servers: &a {x: *a}",
        "a: &a [x, x]\n" + "".join(f"b{n}: &b{n} [*a, *a]\n" for n in range(50)),
    ],
    ids=["deep list", "deep map", "digits", "underscores", "octal", "recursive", "laughs"],
)
def test_a_hostile_policy_is_refused_in_words(text: str) -> None:
    with pytest.raises(PolicyError):
        parse_policy(text)


def test_clients_that_never_come_back_lock_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "SUSPENDED_S", 0.2)
    monkeypatch.setattr(questions, "SUSPENDED_MAX", 2)

    async def main() -> None:
        leaky = Leaky()
        policy = Policy(servers=(server_policy("notes"),))
        servers = {"notes": lambda: handshake_only(leaky.server)}

        async def never(*_: Any) -> Any:
            raise AssertionError

        async with connected(
            policy, servers, elicitation_callback=never, sampling_callback=never
        ) as (client, _):
            for _round in range(2):
                for _call in range(2):
                    asked = await client.session.call_tool(
                        "notes__push", {}, allow_input_required=True
                    )
                    assert isinstance(asked, types.InputRequiredResult)
                await anyio.sleep(0.5)

    anyio.run(main)


@pytest.mark.parametrize(
    "change", [{"sub": None}, {"exp": "soon"}, {"exp": None}, {"aud": "https://other.example"}]
)
def test_a_token_that_does_not_say_whose_it_is_or_until_when_opens_nothing(
    change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ID", "gateway")
    monkeypatch.setenv("WORD", "secret")
    policy = AuthPolicy(
        issuer="https://issuer.example",
        resource="https://gateway.example/mcp",
        introspection_url="https://issuer.example/ask",
        client_id_env="ID",
        client_secret_env="WORD",  # noqa: S106  a variable's name
    )
    claims = {
        "active": True,
        "client_id": "chat",
        "sub": "ann",
        "exp": 4_000_000_000,
        "aud": "https://gateway.example/mcp",
    }

    def asked(answer: dict[str, Any]) -> Any:
        transport = httpx2.MockTransport(lambda _: httpx2.Response(200, json=answer))
        verifier = verifier_of(
            policy, SystemClock(), http=lambda: httpx2.AsyncClient(transport=transport)
        )
        return anyio.run(verifier.verify_token, "opaque")

    assert asked(claims) is not None
    assert asked({**claims, **change}) is None


@pytest.mark.parametrize("head", ["DATA:text/plain;base64,", "data:text/plain;BASE64,"])
def test_a_data_address_is_one_in_capitals_too(protector_for: ProtectorFor, head: str) -> None:
    body = base64.b64encode(b"mail zaphod@example.org").decode()

    shown = passage(protector_for, "capitals").to_model({"uri": head + body, "text": head + body})

    assert body not in json.dumps(shown)
