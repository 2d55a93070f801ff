"""A node behind uvicorn on a free port of this machine, as the command serves it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from tests.federated_dp_llm.node.toy import Hospital

from federated_dp_llm.node.server import make_app
from privacy_runtime.http.server import PatientConfig, ServerOptions


@asynccontextmanager
async def served(hospital: Hospital, channel: Any) -> AsyncIterator[str]:
    """Its address, while it runs. The agent is closed at the end."""
    app = make_app(hospital.agent, clock=hospital.clock, channel=channel)
    running = uvicorn.Server(PatientConfig(app, ServerOptions(port=0, tls=channel)))
    serving = asyncio.create_task(running.serve())
    while not running.started:
        assert not serving.done()
        await asyncio.sleep(0.01)
    port = running.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"{'http' if channel is None else 'https'}://127.0.0.1:{port}"
    finally:
        running.should_exit = True
        await serving
