"""The tools over standard input and output: for an assistant on one's own machine."""

from __future__ import annotations

import anyio

from privacy_finetuner.client import AsyncClient
from privacy_finetuner.mcp_server.clients import OneClient
from privacy_finetuner.mcp_server.server import server_of


def serve_stdio(client: AsyncClient) -> None:
    """Serve one assistant until it closes its end. Nothing else may be written to stdout."""
    anyio.run(_served, client)


async def _served(client: AsyncClient) -> None:
    async with client:
        await server_of(OneClient(client)).run_stdio_async()
