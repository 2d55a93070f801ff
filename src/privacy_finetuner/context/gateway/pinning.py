"""Tools as they were approved: a tool that changed is withheld until a person looks at it.

A pin is the SHA-256 of what a client or its model reads of a tool: name, title, description, both
schemas, annotations, icons and `_meta` (which names what a client shows). The first pin of a tool
is taken when it is first seen (`new_tools: pin`) or when somebody approves it (`new_tools:
withhold`); every later one only by approval. Pins live in the journal: entries say who approved
what, a document per tool says what holds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from mcp_types import Tool

from privacy_finetuner.context.gateway.errors import GatewayRefused
from privacy_finetuner.context.gateway.policy import NewTools
from privacy_finetuner.context.gateway.trail import STREAM
from privacy_runtime.journal import Change, Draft, Journal, View

PINNED: Final = "gateway.tool_pinned"
SEEN: Final = "gateway.tool_waits"
APPROVED: Final = "gateway.tool_approved"
_PREFIX: Final = "gateway-tool/"
_FIELDS: Final = (
    *("name", "title", "description", "inputSchema", "outputSchema", "annotations"),
    *("icons", "_meta"),
)


class Standing(StrEnum):
    """Whether a tool may be listed and called."""

    PINNED = "pinned"
    WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class ToolPin:
    """One tool in the journal: what was approved, and what waits for approval."""

    server: str
    tool: str
    approved: str
    waiting: str

    @property
    def standing(self) -> Standing:
        """Whether the tool, as it was last seen, is approved."""
        return Standing.WAITING if self.waiting else Standing.PINNED


def digest_of(tool: Tool) -> str:
    """The digest of everything of a tool that a model or a client acts upon."""
    wire = tool.model_dump(by_alias=True, mode="json", exclude_none=True)
    told = {field: wire.get(field) for field in _FIELDS}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def admitted(
    journal: Journal, server: str, tools: Iterable[Tool], *, new_tools: NewTools
) -> set[str]:
    """Return the names of the tools that are as they were approved; note those that are not.

    Raises:
        PrivacyError: the journal cannot be read or written; then no tool is admitted.
    """
    digests = {tool.name: digest_of(tool) for tool in tools}
    names = {tool: f"{_PREFIX}{server}/{tool}" for tool in digests}
    known = {tool: journal.document(STREAM, name) for tool, name in names.items()}
    standing = {
        tool
        for tool, digest in digests.items()
        if (document := known[tool]) is not None and document["approved"] == digest
    }
    if len(standing) < len(digests) or any((known[tool] or {}).get("waiting") for tool in standing):
        standing = _noted(journal, server, digests, new_tools)
    return standing


def _noted(journal: Journal, server: str, digests: dict[str, str], new_tools: NewTools) -> set[str]:
    """Decide about every tool under the journal's lock, and write what changed."""
    admitted_names: set[str] = set()

    def decide(view: View) -> Change:
        admitted_names.clear()
        entries: list[Draft] = []
        documents: dict[str, Any] = {}
        for tool, digest in digests.items():
            name = f"{_PREFIX}{server}/{tool}"
            before = dict(view.documents.get(name) or {"approved": "", "waiting": ""})
            is_new = not before["approved"] and not before["waiting"]
            after = _next(before, digest, pins_new=new_tools is NewTools.PIN)
            if after["approved"] == digest:
                admitted_names.add(tool)
            if after != before:
                documents[name] = after
                kind = PINNED if is_new and not after["waiting"] else SEEN
                entries.append(_draft(view, kind, len(entries), server, tool, after))
        return Change(entries, documents)

    journal.transact(STREAM, decide, names=[f"{_PREFIX}{server}/{tool}" for tool in digests])
    return admitted_names


def pins(journal: Journal) -> list[ToolPin]:
    """Every tool that was ever seen, with what is approved and what waits."""
    found = []
    for name, document in journal.documents(STREAM, _PREFIX):
        server, _, tool = name.removeprefix(_PREFIX).partition("/")
        found.append(ToolPin(server, tool, document["approved"], document["waiting"]))
    return found


def approve(journal: Journal, server: str, tool: str, *, by: str, digest: str = "") -> ToolPin:
    """Approve a tool as it was last seen.

    Args:
        journal: with the pins.
        server: the server's name.
        tool: its tool's name, without prefix.
        by: who looked at it.
        digest: what they looked at, or its beginning; refused if something else waits by now.

    Raises:
        GatewayRefused: nothing of that name waits, or not this.
    """
    name = f"{_PREFIX}{server}/{tool}"

    def decide(view: View) -> Change:
        document = view.documents.get(name)
        if document is None or not document["waiting"]:
            raise GatewayRefused(
                f"no tool {tool!r} of server {server!r} waits; nothing was changed"
            )
        if not document["waiting"].startswith(digest):
            raise GatewayRefused(
                f"tool {tool!r} of server {server!r} has changed again: {document['waiting']} "
                f"waits, not {digest}; nothing was changed"
            )
        after = {"approved": document["waiting"], "waiting": ""}
        return Change([_draft(view, APPROVED, 0, server, tool, {**after, "by": by})], {name: after})

    journal.transact(STREAM, decide, names=[name])
    return next(pin for pin in pins(journal) if (pin.server, pin.tool) == (server, tool))


def _next(before: dict[str, Any], digest: str, *, pins_new: bool) -> dict[str, Any]:
    """The document of a tool after it was seen with a digest."""
    if before["approved"] == digest:
        return {"approved": digest, "waiting": ""}
    if not before["approved"] and not before["waiting"] and pins_new:
        return {"approved": digest, "waiting": ""}
    return {"approved": before["approved"], "waiting": digest}


def _draft(
    view: View, kind: str, index: int, server: str, tool: str, after: dict[str, Any]
) -> Draft:
    # The head is in the key: a repetition after a lost connection finds another head and documents
    # that hold already, so it appends nothing.
    key = f"{kind}/{view.head.seq}/{index}"
    return Draft(kind, key, {"server": server, "tool": tool, **after})
