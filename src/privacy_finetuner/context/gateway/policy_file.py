"""A policy from its YAML file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from privacy_core.redaction import entities
from privacy_finetuner.context.gateway.errors import PolicyError
from privacy_finetuner.context.gateway.policy import (
    SEPARATOR,
    AuthPolicy,
    Binary,
    HttpTarget,
    Limits,
    NewTools,
    Policy,
    RawValues,
    RedactionPolicy,
    ServerPolicy,
    StdioTarget,
    ToolRule,
    Zone,
)
from privacy_runtime.settings.documents import compose, read_text
from privacy_runtime.settings.faults import Fault
from privacy_runtime.settings.sections import Section

JOURNAL_NAME: Final = "gateway-journal.db"
LEVELS: Final = ("low", "medium", "high")
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,31}")


def load_policy(path: Path | str) -> Policy:
    """Read a policy file; its relative paths are relative to its folder.

    Raises:
        PolicyError: it is not there, not YAML, or says something that no policy can say; every
            problem is listed with its path and line.
    """
    file = Path(path)
    text, unreadable = read_text(file)
    if unreadable:
        raise PolicyError(str(file), unreadable)
    return parse_policy(text, source=str(file)).beside(file.resolve().parent)


def parse_policy(text: str, *, source: str = "the text") -> Policy:
    """Read a policy from YAML. See `load_policy`."""
    node, failures = compose(text)
    problems: list[Fault] = list(failures)
    policy = _policy(Section(node, "", problems)) if not problems else Policy()
    if problems:
        raise PolicyError(source, sorted(problems, key=lambda problem: problem.line))
    return policy


def _policy(root: Section) -> Policy:
    if root.integer("version", 1) != 1:
        root.report("is not a version that this program reads; expected 1", key="version")
    servers = root.section("servers")
    policy = Policy(
        servers=tuple(_server(name, servers.section(name)) for name in servers.names()),
        redaction=_redaction(root.section("redaction")),
        limits=_limits(root.section("limits")),
        auth=_auth(root.section("auth")) if root.has("auth") else None,
        journal=root.text("journal", JOURNAL_NAME),
        new_tools=root.choice("new_tools", NewTools, NewTools.PIN),
    )
    root.finish()
    return policy


def _server(name: str, section: Section) -> ServerPolicy:
    if not _NAME.fullmatch(name):
        section.report(
            "is not a name for a server: a letter, then up to 31 letters, digits or hyphens "
            f"({SEPARATOR!r} separates it from its tools)"
        )
    tools = section.section("tools")
    rules = tools.section("rules")
    server = ServerPolicy(
        name=name,
        target=_target(section),
        zone=section.choice("zone", Zone, Zone.EGRESS),
        reveal=_labels(section, "reveal"),
        allow=tools.texts("allow", ("*",)),
        rules=tuple(_rule(pattern, rules.section(pattern)) for pattern in rules.names()),
        prefix=section.flag("prefix", True),
        deadline_s=section.number("deadline_s", 60.0),
    )
    _require_trusted(section, server.zone, server.reveal)
    tools.finish()
    section.finish()
    return server


def _target(section: Section) -> StdioTarget | HttpTarget:
    by_command, by_url = section.has("command"), section.has("url")
    if by_command == by_url:
        section.report("needs either a command or a url")
    if by_url:
        url = section.text("url")
        if not by_command and urlsplit(url).scheme not in ("http", "https"):
            section.report("is not an http or https address", key="url")
        return HttpTarget(url=url, bearer_env=section.optional("bearer_env"))
    command = section.texts("command")
    if by_command and not command:
        section.report("is empty", key="command")
    return StdioTarget(
        command=command,
        env=section.mapping("env"),
        pass_env=section.texts("pass_env"),
        cwd=section.optional("cwd"),
    )


def _rule(pattern: str, section: Section) -> ToolRule:
    rule = ToolRule(
        pattern=pattern,
        zone=section.choice("zone", Zone, Zone.EGRESS),
        reveal=_labels(section, "reveal"),
    )
    _require_trusted(section, rule.zone, rule.reveal)
    section.finish()
    return rule


def _require_trusted(section: Section, zone: Zone, reveal: frozenset[str]) -> None:
    if reveal and zone is not Zone.TRUSTED:
        section.report(f"reveals to a zone that is {zone}; only trusted ones get values")


def _redaction(section: Section) -> RedactionPolicy:
    level = section.text("level", "medium")
    if level not in LEVELS:
        section.report(f"is {level!r}, expected one of {', '.join(LEVELS)}", key="level")
    redaction = RedactionPolicy(
        level=level,
        names=section.flag("names", True),
        keep=_labels(section, "keep"),
        raw_values=section.choice("raw_values", RawValues, RawValues.TOKENISE),
        binary=section.choice("binary", Binary, Binary.WITHHOLD),
    )
    section.finish()
    return redaction


def _limits(section: Section) -> Limits:
    usual = Limits()
    limits = Limits(
        message_bytes=section.integer("message_bytes", usual.message_bytes),
        depth=section.integer("depth", usual.depth),
        leaves=section.integer("leaves", usual.leaves),
        detector_s=section.number("detector_s", usual.detector_s),
        calls_per_minute=section.integer("calls_per_minute", usual.calls_per_minute),
        concurrent_calls=section.integer("concurrent_calls", usual.concurrent_calls),
        sessions=section.integer("sessions", usual.sessions),
        session_idle_s=section.number("session_idle_s", usual.session_idle_s),
        hops=section.integer("hops", usual.hops),
    )
    section.finish()
    return limits


def _auth(section: Section) -> AuthPolicy:
    auth = AuthPolicy(
        issuer=section.required("issuer"),
        resource=section.required("resource"),
        jwks_url=section.optional("jwks_url"),
        introspection_url=section.optional("introspection_url"),
        client_id_env=section.optional("client_id_env"),
        client_secret_env=section.optional("client_secret_env"),
        scopes=section.texts("scopes"),
    )
    if (auth.jwks_url is None) == (auth.introspection_url is None):
        section.report("needs either a jwks_url or an introspection_url")
    section.finish()
    return auth


def _labels(section: Section, key: str) -> frozenset[str]:
    """Entity types by name or alias; an unknown one is a problem that names the nearest."""
    return frozenset(section.each(key, lambda name: entities.resolve(name).name))
