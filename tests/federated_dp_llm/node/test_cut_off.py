"""A node that is killed while it answers is away, not dishonest: nobody has to admit it again."""

from __future__ import annotations

import asyncio

import pytest

from federated_dp_llm.errors import NodeUnavailable
from federated_dp_llm.federation.client import NodeClient


@pytest.mark.parametrize(
    "sent", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc", b"HTTP/1.1 20"]
)
def test_an_answer_that_is_cut_off_is_a_node_that_is_away(sent: bytes) -> None:
    """Found by killing nodes: they were ejected, as if they had sent impossible sums."""

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sent)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        server = await asyncio.start_server(cut, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = NodeClient("north", f"http://127.0.0.1:{port}")
        async with server:
            with pytest.raises(NodeUnavailable):
                await client.card()
            await client.aclose()

    asyncio.run(main())
