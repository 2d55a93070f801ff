"""The server: its name, what it says of itself, its tools."""

from __future__ import annotations

from typing import Any, Final

from mcp.server.mcpserver import MCPServer

from privacy_finetuner import __version__
from privacy_finetuner.mcp_server import budget_tools, text_tools, training_tools
from privacy_finetuner.mcp_server.clients import Clients

NAME: Final = "privacy-finetuner"
_INSTRUCTIONS: Final = (
    "Fine-tunes language models on private records with differential privacy. Privacy budget "
    "(epsilon) is a promise to the people in the data: what is spent never comes back. Before "
    "start_training, look at list_models, list_datasets and budget, and let the person choose "
    "epsilon. If the budget does not suffice, request_budget asks a privacy officer; nobody else "
    "can raise it. protect replaces personal data in a text before it goes anywhere else. A call "
    "that was refused names its reason as [code]; nothing was spent by it."
)


def server_of(clients: Clients) -> MCPServer[Any]:
    """A server whose tools act with the credentials that `clients` gives them."""
    server: MCPServer[Any] = MCPServer(
        NAME,
        title="Privacy Finetuner",
        instructions=_INSTRUCTIONS,
        version=__version__,
        log_level="WARNING",
        subscriptions=False,
    )
    for tools in (training_tools, budget_tools, text_tools):
        tools.add(server, clients)
    return server
