"""One server behind the gateway: reached when first needed, kept alive, given up on in time.

==================================  ============================================================
when                                then
==================================  ============================================================
the server was never needed         it is not started
it does not start, or ends twice    every request is refused at once until the next try; the
without an answer between           pauses between tries double from 0.5 s to 60 s
a request exceeds the deadline      that request is refused; after the second in a row the
                                    connection is dropped (a process is killed) and made anew
the connection ends                 requests under way are refused; the next one connects anew
==================================  ============================================================

What a server writes to its standard error is thrown away: hosts log it, and it may quote anything.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import anyio
import httpx2
from anyio.abc import TaskGroup
from mcp.client.client import Client
from mcp.client.session import ClientSession
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import SubscriptionLost
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import CONNECTION_CLOSED, REQUEST_TIMEOUT, Implementation
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from privacy_finetuner.context.gateway.errors import MessageRefused, Reason
from privacy_finetuner.context.gateway.policy import HttpTarget, ServerPolicy, StdioTarget
from privacy_runtime.world import Clock

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 60.0
LONGEST_START_S: Final = 30.0
SLOW_IN_A_ROW: Final = 2
DEPTH_VARIABLE: Final = "PRIVACY_FINETUNER_GATEWAY_DEPTH"
"""How many gateways stand above a process: `gateway run` refuses to be the fifth."""
CLIENT_INFO: Final = Implementation(name="privacy-finetuner-gateway", version="1")

_Answer = TypeVar("_Answer")
Targets = Callable[[ServerPolicy], Any]
"""From a server's policy to what the SDK's `Client` connects to."""


@dataclass
class Callbacks:
    """What the SDK's client calls; `None` means that the model's client cannot do it."""

    sampling: Any = None
    elicitation: Any = None
    roots: Any = None
    sampling_capability: Any = None
    logging: Any = None
    message: Any = None


class Upstream:
    """A server and the one connection to it. Used from one event loop.

    Args:
        policy: of the server.
        callbacks: for what the server sends by itself.
        clock: measures pauses.
        targets: how it is reached; tests put servers in this process there.
    """

    def __init__(
        self,
        policy: ServerPolicy,
        callbacks: Callbacks,
        *,
        clock: Clock,
        targets: Targets | None = None,
    ) -> None:
        self.policy = policy
        self._callbacks = callbacks
        self._clock = clock
        self._targets = targets or target_of
        self._tasks: TaskGroup | None = None
        self._connecting = anyio.Lock()
        self._client: Client | None = None
        self._stop: anyio.Event | None = None
        self._failures = 0
        self._not_before_s = 0.0
        self._slow = 0
        self.generation = 0

    def attach(self, tasks: TaskGroup) -> None:
        """Let connections live in this task group."""
        self._tasks = tasks

    async def ask(self, request: Callable[[ClientSession], Awaitable[_Answer]]) -> _Answer:
        """Run one request on the connection, within the deadline.

        Raises:
            MessageRefused: the server is down or slow.
            MCPError: the server's own answer is an error; its text is the server's.
        """
        client = await self._connected()
        generation = self.generation
        try:
            with anyio.fail_after(self.policy.deadline_s):
                answer = await request(client.session)
        except TimeoutError:
            self._was_slow(generation)
            raise MessageRefused(Reason.UPSTREAM_SLOW) from None
        except MCPError as error:
            if error.code == REQUEST_TIMEOUT:
                self._was_slow(generation)
                raise MessageRefused(Reason.UPSTREAM_SLOW) from None
            if error.code == CONNECTION_CLOSED:
                self._drop(generation)
                raise MessageRefused(Reason.UPSTREAM_DOWN) from None
            self._slow = 0
            raise
        except (anyio.ClosedResourceError, anyio.BrokenResourceError, OSError):
            self._drop(generation)
            raise MessageRefused(Reason.UPSTREAM_DOWN) from None
        self._slow = self._failures = 0
        return answer

    @property
    def session(self) -> ClientSession | None:
        """The connection's session, if there is a connection."""
        return self._client.session if self._client is not None else None

    def close(self) -> None:
        """Drop the connection. A process that was started is ended."""
        self._drop(self.generation)

    async def _connected(self) -> Client:
        async with self._connecting:
            if self._client is not None:
                return self._client
            if self._tasks is None or self._clock.monotonic_s() < self._not_before_s:
                raise MessageRefused(Reason.UPSTREAM_DOWN)
            stop = anyio.Event()
            client: Client | None = None
            with anyio.move_on_after(min(self.policy.deadline_s, LONGEST_START_S)):
                client = await self._tasks.start(self._live, stop)
            if client is None:
                stop.set()
                self._pause()
                raise MessageRefused(Reason.UPSTREAM_DOWN)
            self._client, self._stop = client, stop
            self._slow = 0
            self.generation += 1
            return client

    async def _live(self, stop: anyio.Event, *, task_status: Any) -> None:
        """Hold one connection, in a task of its own, until it is told to stop."""
        client: Client | None = None
        is_up = False
        try:
            async with self._opened() as client, anyio.create_task_group() as tasks:
                is_up = True
                task_status.started(client)
                tasks.start_soon(_hear_changes, client)
                await stop.wait()
                tasks.cancel_scope.cancel()
        except Exception:  # noqa: BLE001  whatever a server or transport does ends its connection only
            client = None
        if not is_up:
            task_status.started(None)
        elif self._stop is stop:
            self._client = self._stop = None

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Client]:
        calls = self._callbacks
        client = Client(
            self._targets(self.policy),
            read_timeout_seconds=self.policy.deadline_s,
            sampling_callback=calls.sampling,
            sampling_capabilities=calls.sampling_capability,
            elicitation_callback=calls.elicitation,
            list_roots_callback=calls.roots,
            logging_callback=calls.logging,
            message_handler=calls.message,
            client_info=CLIENT_INFO,
            cache=None,
        )
        async with client:
            yield client

    def _was_slow(self, generation: int) -> None:
        self._slow += 1
        if self._slow >= SLOW_IN_A_ROW:
            self._drop(generation)

    def _drop(self, generation: int) -> None:
        if self._stop is None or generation != self.generation:
            return
        self._stop.set()
        self._client = self._stop = None
        self._pause()

    def _pause(self) -> None:
        pause = FIRST_PAUSE_S * 2 ** (self._failures - 1) if self._failures else 0.0
        pause = min(pause, LONGEST_PAUSE_S)
        self._failures = min(self._failures + 1, 16)
        self._not_before_s = self._clock.monotonic_s() + pause


async def _hear_changes(client: Client) -> None:
    """Ask a server of 2026 to say when its lists change; the session's callbacks hear of it."""
    can = client.server_capabilities
    tools = bool(can.tools and can.tools.list_changed)
    prompts = bool(can.prompts and can.prompts.list_changed)
    resources = bool(can.resources and can.resources.list_changed)
    is_modern = client.protocol_version in MODERN_PROTOCOL_VERSIONS
    if not is_modern or not (tools or prompts or resources):
        return
    with suppress(MCPError, SubscriptionLost, TimeoutError):
        async with client.listen(
            tools_list_changed=tools,
            prompts_list_changed=prompts,
            resources_list_changed=resources,
        ) as changes:
            async for _ in changes:
                pass  # delivered to the message callback already


def target_of(policy: ServerPolicy) -> Any:
    """What the SDK's client connects to: a process or an address, or a server in this process."""
    target = policy.target
    if isinstance(target, HttpTarget):
        return _over_http(target)
    return _over_stdio(target)


@asynccontextmanager
async def _over_stdio(target: StdioTarget) -> AsyncIterator[Any]:
    names = (*target.pass_env, DEPTH_VARIABLE)
    inherited = {name: os.environ[name] for name in names if name in os.environ}
    parameters = StdioServerParameters(
        command=target.command[0],
        args=list(target.command[1:]),
        env={**inherited, **target.env},
        cwd=target.cwd,
    )
    with open(os.devnull, "w") as silence:  # noqa: ASYNC230  it opens at once
        async with stdio_client(parameters, errlog=silence) as streams:
            yield streams


@asynccontextmanager
async def _over_http(target: HttpTarget) -> AsyncIterator[Any]:
    """The gateway's own credentials only: nothing of the model's client is ever passed on."""
    headers = {}
    if target.bearer_env is not None:
        headers["Authorization"] = f"Bearer {os.environ.get(target.bearer_env, '')}"
    with suppress(httpx2.HTTPError):
        async with (
            create_mcp_http_client(headers=headers) as http,
            streamable_http_client(target.url, http_client=http) as streams,
        ):
            yield streams
