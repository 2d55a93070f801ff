"""A deployment's configuration from its sources, checked as a whole.

Defaults < YAML file < variables `FEDERATED_DP_LLM_SECTION__KEY` < keywords, key by key. Everything
that is wrong is found before anything is refused. Every key: `federated-dp-llm config keys`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, Literal, Self

import yaml

from federated_dp_llm.config.sections import NAME, Cohort, Department, Fixed, NodeSpec
from privacy_core.errors import InvalidParameter
from privacy_runtime.secret import Secret
from privacy_runtime.settings.documents import compose, read_text, scalar
from privacy_runtime.settings.faults import Fault, SettingsRefused
from privacy_runtime.settings.schema import Conflict, Setting, entries, settle
from privacy_runtime.settings.secrets import Lookup
from privacy_runtime.settings.sections import Section
from privacy_runtime.settings.sources import (
    Branch,
    from_document,
    from_keywords,
    from_variables,
    references,
)

PREFIX: Final = "FEDERATED_DP_LLM_"
_OPEN: Final = ("nodes", "departments", "cohorts", "gateway")
"""Sections whose keys are names, or another room's."""
KEYS: Final = {entry.path: entry for entry in entries(Fixed)}


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterConfig(Fixed):
    """A deployment, checked as a whole. Printed, it shows no secret.

    Attributes:
        nodes: registered at the start; more come over the API.
        departments: empty: any name, with the common cap.
        cohorts: empty: any that a node answers for, and everybody may ask about it.
        gateway: what `federated_dp_llm.gateway` reads, as plain data; empty: no gateway.
        settings: every key of the known sections, with its value and source.
    """

    nodes: tuple[NodeSpec, ...] = ()
    departments: Mapping[str, Department] = field(default_factory=dict)
    cohorts: Mapping[str, Cohort] = field(default_factory=dict)
    gateway: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Setting] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def read(
        cls,
        path: Path | str | None = None,
        *,
        variables: Mapping[str, str] | None = None,
        **keywords: Any,
    ) -> Self:
        """Read a file, the environment and keywords (`server={"port": 9000}`).

        Raises:
            SettingsRefused: with every fault, each with its path, value, constraint and source.
        """
        lookup = Lookup(os.environ if variables is None else variables)
        faults: list[Fault] = []
        document, root = from_keywords({}), None
        if path is not None:
            document, root = _document(Path(path), faults)
        shown = {p: entry.key.domain.is_secret for p, entry in KEYS.items()}
        others = set(references(document))
        named = from_variables(shown, lookup, faults, prefix=PREFIX, others=others)
        settled = settle(Fixed, [document, named, from_keywords(keywords)], lookup, _conflicts)
        open_sections = _OpenSections(root, faults)
        found = tuple(dict.fromkeys((*faults, *settled.faults)))
        if found:
            ordered = sorted(found, key=lambda f: (not f.line, f.line, f.path))
            raise SettingsRefused(str(path or "the configuration"), ordered)
        plain = {each.name: getattr(settled.values, each.name) for each in fields(Fixed)}
        return cls(**plain, **open_sections.values, settings=settled.settings)

    def changed(self, changes: Mapping[str, Mapping[str, Any]]) -> Self:
        """This configuration with other values in known sections, checked as a whole.

        Raises:
            SettingsRefused: with every fault; nothing was changed.
        """
        layers = [from_keywords(_plain(self, Fixed)), from_keywords(changes)]
        settled = settle(Fixed, layers, Lookup({}), _conflicts)
        if settled.faults:
            raise SettingsRefused("the change", settled.faults)
        plain = {each.name: getattr(settled.values, each.name) for each in fields(Fixed)}
        return replace(self, **plain)

    def department(self, name: str) -> Department | None:
        """What a department may; None: there is no such department here."""
        if not self.departments:
            return Department() if NAME.fullmatch(name) else None
        return self.departments.get(name)

    def may_ask_about(self, cohort: str, department: str) -> bool:
        """Whether a department may ask about a cohort."""
        if not self.cohorts:
            return True
        named = self.cohorts.get(cohort)
        return named is not None and (not named.departments or department in named.departments)

    def department_cap(self, name: str) -> float:
        """A department's lifetime epsilon."""
        own = (self.department(name) or Department()).max_budget
        return self.privacy.max_budget_per_department if own is None else own


class _OpenSections:
    """Reads the sections whose keys are names."""

    def __init__(self, root: yaml.MappingNode | None, faults: list[Fault]) -> None:
        top = Section(root, "", faults)
        pairs = [] if root is None else root.value
        gateway = next((value for key, value in pairs if key.value == "gateway"), None)
        self.values: dict[str, Any] = {
            "nodes": tuple(self._nodes(top.section("nodes"))),
            "departments": dict(self._departments(top.section("departments"))),
            "cohorts": dict(self._cohorts(top.section("cohorts"))),
            "gateway": {} if gateway is None else _data(gateway) or {},
        }

    def _nodes(self, section: Section) -> Iterator[NodeSpec]:
        for name in section.names():
            one = section.section(name)
            try:
                yield NodeSpec(
                    node_id=name,
                    endpoint=one.required("endpoint"),
                    slots=one.integer("slots", 0, least=0),
                    compute_capacity=one.text("compute_capacity"),
                    specializations=one.texts("specializations"),
                    security_level=one.text("security_level"),
                )
            except InvalidParameter as error:
                one.report(str(error))
            one.finish()

    def _departments(self, section: Section) -> Iterator[tuple[str, Department]]:
        for name in section.names():
            one = section.section(name)
            cap = one.number("max_budget", 0.0) if one.has("max_budget") else None
            context = one.text("context", "records")
            if context not in ("records", "none") or not NAME.fullmatch(name):
                one.report("expected a name of a-z 0-9 _ . -, and context records or none")
                continue
            one.finish()
            yield name, Department(max_budget=cap, context=_context(context))

    def _cohorts(self, section: Section) -> Iterator[tuple[str, Cohort]]:
        for name in section.names():
            one = section.section(name)
            yield (
                name,
                Cohort(
                    slots=one.integer("slots", 0, least=0), departments=one.texts("departments")
                ),
            )
            one.finish()


def _context(word: str) -> Literal["records", "none"]:
    return "none" if word == "none" else "records"


def _document(path: Path, faults: list[Fault]) -> tuple[Branch, yaml.MappingNode | None]:
    """The known sections of a file as a tree, and the others as they stand."""
    text, unreadable = read_text(path)
    root, problems = compose(text, str(path)) if not unreadable else (None, ())
    faults += [*unreadable, *problems]
    if not isinstance(root, yaml.MappingNode):
        return from_document(root, str(path), faults), None
    rest = [pair for pair in root.value if getattr(pair[0], "value", None) in _OPEN]
    known = [pair for pair in root.value if pair not in rest]

    def like(pairs: Sequence[Any]) -> yaml.MappingNode:
        return yaml.MappingNode(root.tag, list(pairs), root.start_mark, root.end_mark)

    return from_document(like(known), str(path), faults), like(rest)


def _data(node: yaml.Node) -> Any:
    """A section as plain data, for the room that reads it."""
    if isinstance(node, yaml.MappingNode):
        return {str(key.value): _data(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_data(item) for item in node.value]
    return scalar(node) if isinstance(node, yaml.ScalarNode) else None


def _plain(config: Any, schema: type[Any]) -> dict[str, Any]:
    """The values of a schema's instance as keywords."""
    plain: dict[str, Any] = {}
    for each in fields(schema):
        value = getattr(config, each.name)
        plain[each.name] = (
            value
            if not hasattr(value, "__dataclass_fields__") or isinstance(value, Secret)
            else _plain(value, type(value))
        )
    return plain


def _conflicts(config: Fixed) -> Iterator[Conflict]:
    privacy, server, security = config.privacy, config.server, config.security
    if privacy.epsilon_per_query > privacy.max_epsilon_per_query:
        paths = ("privacy.epsilon_per_query", "privacy.max_epsilon_per_query")
        yield Conflict(paths, "epsilon_per_query at most max_epsilon_per_query")
    if set(privacy.private_models) & set(privacy.public_models):
        paths = ("privacy.private_models", "privacy.public_models")
        yield Conflict(paths, "no name in both: it decides whether records are read")
    federation = config.federation
    for one, other, paths in (
        (server.certificate, server.key, ("server.certificate", "server.key")),
        (
            security.node_certificate,
            security.node_key,
            ("security.node_certificate", "security.node_key"),
        ),
        (
            federation.rewrite_epsilon,
            federation.rewrite_model,
            ("federation.rewrite_epsilon", "federation.rewrite_model"),
        ),
    ):
        if (one is None) != (other is None):
            yield Conflict(paths, "both, or neither")
    if server.require_pq and server.certificate is None:
        where = "a certificate here: what a proxy agreed on with clients is not seen"
        yield Conflict(("server.require_pq", "server.certificate"), where)
    if config.notices.mail_to and config.notices.mail_host is None:
        yield Conflict(("notices.mail_to", "notices.mail_host"), "a server that takes the mail")
    if security.authentication == "none":
        if config.environment == "production":
            yield Conflict(("security.authentication", "environment"), "required in production")
        if server.host not in ("127.0.0.1", "localhost", "::1"):
            yield Conflict(("security.authentication", "server.host"), "a loopback address")
