"""The actions of the product as tools of the Model Context Protocol.

Every tool is a call of the SDK with the caller's own credentials: same identity, same limits, same
audit trail as over REST. `serve_stdio` is for one person on this machine, `mount` for a service.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from privacy_finetuner.mcp_server.mounting import mount
    from privacy_finetuner.mcp_server.server import server_of
    from privacy_finetuner.mcp_server.stdio import serve_stdio

__all__ = ["mount", "serve_stdio", "server_of"]

_PLACES = {"mount": "mounting", "serve_stdio": "stdio", "server_of": "server"}


def __getattr__(name: str) -> Any:
    """Load what is asked for: standard streams need no web framework, a service no streams."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
