"""The gateway's commands, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

POLICY = {"servers": {"notes": {"command": ["server"]}}}


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.yaml"
    path.write_text(json.dumps(POLICY))
    return path


@pytest.fixture
def used(policy: Path) -> Path:
    """A policy whose gateway has seen a tool, and then another of the same name."""
    from mcp_types import Tool

    from privacy_finetuner.context.gateway import pinning
    from privacy_finetuner.context.gateway.policy import NewTools
    from privacy_finetuner.context.gateway.policy_file import load_policy
    from privacy_finetuner.context.gateway.wiring import journal_of

    with journal_of(load_policy(policy)) as journal:
        for description in ("Reads.", "Reads. And tells everybody."):
            tool = Tool(name="read", description=description, input_schema={"type": "object"})
            pinning.admitted(journal, "notes", [tool], new_tools=NewTools.PIN)
    return policy


def test_init_writes_a_policy_that_check_accepts_and_never_overwrites(
    cli: Any, tmp_path: Path
) -> None:
    path = tmp_path / "new.yaml"

    cli.document("gateway", "init", "--policy", path)
    checked = cli.document("gateway", "check", "--policy", path)
    again = cli("gateway", "init", "--policy", path)

    assert [server["name"] for server in checked["servers"]] == ["notes"]
    assert again.exit_code != 0


def test_check_lists_all_problems(cli: Any, policy: Path) -> None:
    policy.write_text("servers:\n  a: {zone: x}\nlimts: 1\n")

    document = cli.document("gateway", "check", "--policy", policy, code=2)

    assert document["error"]["code"] == "policy_error"
    assert "line 2" in document["error"]["message"]
    assert "line 3" in document["error"]["message"]


def test_a_changed_tool_is_listed_and_approved_by_name_once(cli: Any, used: Path) -> None:
    def approve(*more: object, code: int = 0) -> Any:
        return cli.document("gateway", "approve", *more, "--policy", used, code=code)

    (waiting,) = approve()["tools"]
    nameless = approve("notes", "read", code=1)
    other = approve("notes", "read", "--by", "A. Officer", "--digest", "00ff", code=1)
    (approved,) = approve("notes", "read", "--by", "A. Officer")["tools"]
    again = approve("notes", "read", "--by", "A. Officer", code=1)

    assert waiting["standing"] == "waiting"
    assert "--by" in nameless["error"]["message"]
    assert "changed again" in other["error"]["message"]
    assert approved["approved"] == waiting["waiting"]
    assert "nothing was changed" in again["error"]["message"]


def test_audit_checks_the_chain_and_shows_who_approved_what(cli: Any, used: Path) -> None:
    cli.document("gateway", "approve", "notes", "read", "--by", "A. Officer", "--policy", used)

    document = cli.document("gateway", "audit", "--policy", used, "--last", 2)

    assert document["intact"] is True
    assert [entry["type"] for entry in document["entries"]] == [
        "gateway.tool_waits",
        "gateway.tool_approved",
    ]
    assert document["entries"][1]["by"] == "A. Officer"


def test_a_gateway_that_never_ran_has_no_trail(cli: Any, policy: Path) -> None:
    document = cli.document("gateway", "audit", "--policy", policy, code=1)

    assert "has not run" in document["error"]["message"]


@pytest.mark.parametrize(
    ("address", "words"),
    [("0.0.0.0:8000", "auth"), ("8000", "HOST:PORT"), ("127.0.0.1:0", "HOST:PORT")],
)
def test_run_refuses_an_address_that_it_may_not_serve(
    cli: Any, policy: Path, address: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRIVACY_FINETUNER_GATEWAY_DEPTH", "0")

    result = cli("gateway", "run", "--policy", policy, "--http", address)

    assert result.exit_code != 0
    assert words in result.stderr


def test_run_refuses_to_be_the_fifth_gateway_in_a_chain(
    cli: Any, policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRIVACY_FINETUNER_GATEWAY_DEPTH", "4")

    result = cli("gateway", "run", "--policy", policy)

    assert result.exit_code != 0
    assert "starts its own gateway" in " ".join(result.stderr.split())
