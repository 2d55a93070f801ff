"""Run a gateway by itself: uvicorn with the runtime's limits, uvloop where it is installed."""

from __future__ import annotations

from typing import Final

from federated_dp_llm.gateway.app import Gateway
from privacy_runtime.http.server import ServerOptions, serve

BODY_S: Final = 60.0


def run(gateway: Gateway, options: ServerOptions | None = None) -> None:
    """Serve until a signal says to stop; requests under way are finished, and settled.

    Connections to backends are closed and the audit is written at the end. The store of allowances
    is its owner's to close, after this returns.

    Args:
        gateway: what `make_app` returned.
        options: where to listen, and how patient to be.
    """
    serve(gateway, options or ServerOptions(body_s=BODY_S))
