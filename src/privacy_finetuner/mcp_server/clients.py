"""Whose hands a tool uses: a client of the service with the caller's own credentials."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Protocol, TypeAlias

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError, ToolError
from mcp_types import ToolAnnotations

from privacy_finetuner.client import AsyncClient, ClientError
from privacy_finetuner.client.errors import NotFound, ServiceError

Asked: TypeAlias = Context[Any, Any]
READS: Final = ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)
"""Of a tool that changes nothing."""


def acts(*, is_destructive: bool, is_idempotent: bool = True) -> ToolAnnotations:
    """Of a tool that changes something."""
    return ToolAnnotations(
        read_only_hint=False,
        destructive_hint=is_destructive,
        idempotent_hint=is_idempotent,
        open_world_hint=False,
    )


class Clients(Protocol):
    """Gives each call a client."""

    def __call__(self, context: Asked) -> AbstractAsyncContextManager[AsyncClient]:
        """A client for whoever made this call."""
        ...


class OneClient:
    """One person at one service: the process was started by them."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    @asynccontextmanager
    async def __call__(self, context: Asked) -> AsyncIterator[AsyncClient]:
        """The same client every time."""
        del context
        yield self._client


@asynccontextmanager
async def misses_told(clients: Clients, context: Asked) -> AsyncIterator[AsyncClient]:
    """As `failures_told`, for resources."""
    try:
        async with clients(context) as client:
            yield client
    except NotFound as error:
        raise ResourceNotFoundError(told(error)) from error
    except ClientError as error:
        raise ResourceError(told(error)) from error


@asynccontextmanager
async def failures_told(clients: Clients, context: Asked) -> AsyncIterator[AsyncClient]:
    """A client whose refusals become tool errors: the stable code first, then the public sentence.

    Nothing else of an error reaches the caller.
    """
    try:
        async with clients(context) as client:
            yield client
    except ClientError as error:
        raise ToolError(told(error)) from error


def told(error: ClientError) -> str:
    """An error for a model that reads it: `[code] what was refused`."""
    status = f", status {error.status}" if isinstance(error, ServiceError) else ""
    return f"[{error.code}{status}] {error}"
