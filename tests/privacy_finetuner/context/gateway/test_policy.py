"""Policies: strict, safe when silent, all problems at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from privacy_finetuner.context.gateway.errors import PolicyError
from privacy_finetuner.context.gateway.example import EXAMPLE
from privacy_finetuner.context.gateway.policy import Policy, Zone
from privacy_finetuner.context.gateway.policy_file import load_policy, parse_policy

ONE = "servers:\n  notes: {command: [server]}\n"


def problems(text: str) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        parse_policy(text)
    return [str(problem) for problem in caught.value.problems]


def test_a_server_that_is_only_named_gets_tokens_and_no_value() -> None:
    (server,) = parse_policy(ONE).servers

    grant = server.grant("anything")

    assert grant.zone is Zone.EGRESS
    assert grant.reveal == frozenset()
    assert server.grant(None).zone is Zone.EGRESS


def test_the_example_can_be_used_as_it_is() -> None:
    policy = parse_policy(EXAMPLE)

    assert [server.name for server in policy.servers] == ["notes"]
    assert not any(server.reveal for server in policy.servers)


def test_the_auth_that_the_example_suggests_can_be_used_too() -> None:
    lines = [
        line
        for line in EXAMPLE.splitlines()
        if line.startswith(("# auth", "#   issuer", "#   resource", "#   jwks", "#   scopes"))
    ]
    policy = parse_policy(ONE + "\n".join(line[2:] for line in lines))

    assert policy.auth is not None
    assert policy.auth.scopes == ("mcp",)


def test_all_problems_are_listed_with_path_and_line() -> None:
    found = problems(
        "version: 2\n"
        "redaction: {level: highest, keep: [EMIAL]}\n"
        "limits:\n"
        "  depth: 0\n"
        "  detector_s: soon\n"
        "servers:\n"
        "  a__b:\n"
        "    zone: trust\n"
        "  c:\n"
        "    url: ftp://x\n"
        "    reveal: [EMAIL]\n"
        "  d: {command: [x], url: 'http://x'}\n"
        "limts: {}\n"
        "limits: {}\n"
    )

    assert any(line.startswith("line 1: version") for line in found)
    assert any("highest" in line for line in found)
    assert any("EMIAL" in line and "EMAIL" in line for line in found)
    assert any(line.startswith("line 4: limits.depth") for line in found)
    assert any(line.startswith("line 5: limits.detector_s") for line in found)
    assert any("a__b" in line and "name" in line for line in found)
    assert any("a__b.zone" in line and "trusted, internal, egress" in line for line in found)
    assert any("ftp://" not in line and "servers.c.url" in line for line in found)
    assert any("servers.c:" in line and "only trusted" in line for line in found)
    assert any("servers.d" in line and "either" in line for line in found)
    assert any("limts" in line and "did you mean 'limits'" in line for line in found)
    assert any("given twice" in line for line in found)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("servers: [a]", "not a mapping"),
        ("servers: {a: {command: x}}", "not a list"),
        ("servers: {a: {command: []}}", "is empty"),
        ("servers: {a: {command: [true]}}", "not a text"),
        ("servers: {a: {command: [x], prefix: maybe}}", "true or false"),
        ("{[1]: 2}", "not a text"),
        ("a: b: c", "not YAML"),
        ("auth: {issuer: x}", "is missing"),
        ("auth: {issuer: x, resource: y}", "jwks_url or an introspection_url"),
        ("limits: {depth: 1.5}", "whole number"),
        ("limits: {detector_s: .inf}", "number above 0"),
        ("new_tools: trust", "pin, withhold"),
    ],
)
def test_what_no_policy_can_say_is_a_problem(text: str, words: str) -> None:
    assert any(words in line for line in problems(text))


def test_a_file_that_is_not_there_or_not_text_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")

    for name in ("none.yaml", "bytes.yaml"):
        with pytest.raises(PolicyError, match="cannot be read"):
            load_policy(tmp_path / name)


def test_the_digest_is_of_what_a_policy_says_and_not_of_how_or_where(tmp_path: Path) -> None:
    one, other = tmp_path / "a.yaml", tmp_path / "b" / "c.yaml"
    other.parent.mkdir()
    one.write_text(ONE)
    other.write_text(json.dumps({"servers": {"notes": {"zone": "egress", "command": ["server"]}}}))

    assert load_policy(one).digest == load_policy(other).digest
    assert load_policy(one).digest != parse_policy(ONE.replace("server]", "other]")).digest
    assert load_policy(one).journal == str(tmp_path.resolve() / "gateway-journal.db")


def test_entity_types_go_by_their_aliases() -> None:
    policy = parse_policy(
        "servers: {m: {command: [x], tools: {rules: {send: {zone: trusted, reveal: [SSN, mail]}}}}}"
    )

    assert policy.servers[0].grant("send").reveal == {"US_SSN", "EMAIL"}


def test_a_policy_without_anything_has_no_server_and_reveals_nothing() -> None:
    assert parse_policy("").servers == Policy().servers == ()
