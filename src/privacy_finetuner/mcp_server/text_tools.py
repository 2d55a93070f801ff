"""Tools about text: take personal data out, or say what would be taken out and why."""

from __future__ import annotations

from typing import Any

from mcp.server.mcpserver import MCPServer

from privacy_finetuner.mcp_server import fields
from privacy_finetuner.mcp_server.answers import ExplainedText, ProtectedText
from privacy_finetuner.mcp_server.clients import READS, Asked, Clients, failures_told


def add(server: MCPServer[Any], clients: Clients) -> None:
    """Add the tools to a server."""
    texts = Texts(clients)
    server.tool(title="Take personal data out of a text", annotations=READS)(texts.protect)
    explain = server.tool(title="What would be taken out, and why", annotations=READS)
    explain(texts.explain_redactions)


class Texts:
    """Redaction as tools; the docstrings are what a model reads.

    Args:
        clients: whose hands each call uses.
    """

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    async def protect(
        self, context: Asked, text: fields.Text, level: fields.Level = "medium"
    ) -> ProtectedText:
        """Replace names, identity numbers, cards, keys, dates and the like by placeholders.

        Do this before a text leaves for another tool or a model. It finds most, not all: a person
        who must be sure reads the result. The values that were found are not in the answer.
        """
        async with failures_told(self._clients, context) as client:
            result = await client.redaction.protect(text, sensitivity_level=level)
            return ProtectedText(
                protected_text=result.protected_text or "",
                counts=dict(result.redaction_map.counts),
                sensitivity_score=result.sensitivity_score,
            )

    async def explain_redactions(
        self, context: Asked, text: fields.Text, level: fields.Level = "medium"
    ) -> ExplainedText:
        """Say which parts of a text would be replaced and why, by position; also what would not."""
        async with failures_told(self._clients, context) as client:
            found = await client.redaction.explain_redactions(text, sensitivity_level=level)
            return ExplainedText.of(found)
