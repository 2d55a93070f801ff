"""One request of the client, and everything that crosses the gateway because of it.

A message is examined in a thread with a deadline, or at once where it is so small that the
session's protector promises an answer within milliseconds (`Protector.prompt_bytes`). Its record is
kept before it goes on. Whatever fails on the way refuses the message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import anyio
from anyio.to_thread import run_sync
from mcp.client.session import ClientSession
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR

from privacy_finetuner.context.gateway.errors import MessageRefused, Reason
from privacy_finetuner.context.gateway.leaves import Json
from privacy_finetuner.context.gateway.passage import Passage
from privacy_finetuner.context.gateway.policy import Policy, ToolRule
from privacy_finetuner.context.gateway.sessions import Context, Link, Session
from privacy_finetuner.context.gateway.trail import Direction, Record, Trail

_Answer = TypeVar("_Answer")
VIA: Final = "privacy-finetuner/via"
"""In the `_meta` of every request a gateway sends: the policies it has passed."""
_HOP_CHARACTERS: Final = 16
_HOP: Final = re.compile(r"gw-[0-9a-f]{16}")
_RESERVED: Final = "io.modelcontextprotocol/"


@dataclass(frozen=True)
class Crossing:
    """Everything that one request needs to cross.

    Args:
        tool: for the trail: a tool's own name, or `prompt NAME`, `resource`, `list`.
        grant: what goes to the server may carry.
    """

    policy: Policy
    trail: Trail
    session: Session
    link: Link
    context: Context
    tool: str
    grant: ToolRule

    async def to_model(self, message: Json) -> Json:
        """Rewrite a message of the protocol for the model.

        Raises:
            MessageRefused: it may not pass.
        """
        passage = self._passage(None)
        return await self._pass(passage, Direction.TO_MODEL, passage.to_model, message)

    async def to_tool(self, arguments: Json, schema: Json = None) -> Json:
        """Rewrite free JSON for the server. Raises: see `to_model`."""
        passage = self._passage(self.grant)
        return await self._pass(
            passage, Direction.TO_TOOL, lambda found: passage.to_tool(found, schema), arguments
        )

    async def message_to_tool(self, message: Json) -> Json:
        """Rewrite a message of the protocol for the server. Raises: see `to_model`."""
        passage = self._passage(self.grant)
        return await self._pass(passage, Direction.TO_TOOL, passage.message_to_tool, message)

    async def meta(self, *, extra: dict[str, Any] | None = None) -> Any:
        """The `_meta` of a request to the server: the client's own keys, and our trace.

        Raises:
            MessageRefused: the request has passed this policy before, or too many gateways.
        """
        given = dict(self.context.meta or {})
        trace = given.pop(VIA, [])
        hop = f"gw-{self.policy.digest[:_HOP_CHARACTERS]}"
        trace = trace if isinstance(trace, list) else [trace]
        if hop in trace or len(trace) >= self.policy.limits.hops:
            await self.refused(Direction.TO_TOOL, Reason.CYCLE)
            raise MessageRefused(Reason.CYCLE)
        own = {
            key: value
            for key, value in given.items()
            if not key.startswith(_RESERVED) and key not in ("progressToken", "progress_token")
        }
        changed = await self.to_tool(own) if own else {}
        # The client wrote the trace too: what is no gateway's mark does not go on.
        passed = [one for one in trace if isinstance(one, str) and _HOP.fullmatch(one)]
        return {**changed, **(extra or {}), VIA: [*passed, hop]}

    async def ask(self, send: Callable[[ClientSession], Awaitable[_Answer]]) -> _Answer:
        """Send a request to the server.

        Raises:
            MessageRefused: the server is down, slow, or answered what is no answer.
            MCPError: the server's error, its text rewritten for the model.
        """
        try:
            return await self.link.upstream.ask(send)
        except MessageRefused as refusal:
            await self.refused(Direction.TO_MODEL, refusal.reason)
            raise
        except MCPError as error:
            raise await self._error(error) from None
        except Exception:  # noqa: BLE001  its text may quote anything
            await self.refused(Direction.TO_MODEL, Reason.MALFORMED)
            raise MessageRefused(Reason.MALFORMED) from None

    async def refused(self, direction: Direction, reason: Reason) -> None:
        """Keep a record of a message that did not pass."""
        await self._record(self._passage(None), direction, reason)

    async def _error(self, error: MCPError) -> MCPError:
        document = {"data": [error.message, error.data]}
        message, data = (await self.to_model(document))["data"]
        return MCPError(code=error.code, message=str(message), data=data)

    def _passage(self, grant: ToolRule | None) -> Passage:
        return Passage(
            self.session.protector, self.policy.redaction, self.policy.limits, grant=grant
        )

    async def _pass(
        self, passage: Passage, direction: Direction, work: Callable[[Json], Json], message: Json
    ) -> Json:
        limits = self.policy.limits
        try:
            size = _size(message, limits.message_bytes)
            if size <= self.session.protector.prompt_bytes:
                changed = at_once(lambda: work(message))
            else:
                changed = await within(limits.detector_s, lambda: work(message))
        except MessageRefused as refusal:
            await self._record(passage, direction, refusal.reason)
            raise
        await self._record(passage, direction, None)
        return changed

    async def _record(self, passage: Passage, direction: Direction, refused: Reason | None) -> None:
        if refused is None and not passage.tally.items:
            return
        await self.trail.record(
            Record(
                session=self.session.name,
                server=self.link.policy.name,
                tool=self.tool,
                direction=direction,
                tally=passage.tally,
                refused=refused,
            )
        )


async def within(limit_s: float, work: Callable[[], _Answer]) -> _Answer:
    """Run work in a thread, and give up on it in time; a thread that hangs is left behind.

    Raises:
        MessageRefused: it took too long, or failed; how it failed is not said, it may quote.
    """
    with anyio.move_on_after(limit_s):
        return await run_sync(lambda: at_once(work), abandon_on_cancel=True)
    raise MessageRefused(Reason.DETECTOR_SLOW)


def at_once(work: Callable[[], _Answer]) -> _Answer:
    """Run work here and now: for what takes less time than handing it to a thread and back.

    Raises:
        MessageRefused: it failed; how it failed is not said, it may quote.
    """
    try:
        return work()
    except MessageRefused:
        raise
    except Exception:  # noqa: BLE001  a detector may raise anything; nothing may pass then
        raise MessageRefused(Reason.DETECTOR_FAILED) from None


def _size(message: Json, limit: int) -> int:
    """The length of a message as JSON, which is no more than the limit.

    Raises:
        MessageRefused: it is more, or the message is too deep to be written.
    """
    try:
        size = len(json.dumps(message))
    except (RecursionError, TypeError, ValueError):
        size = limit + 1
    if size > limit:
        raise MessageRefused(Reason.TOO_LARGE)
    return size


def internal_error() -> MCPError:
    """What the client hears when the gateway itself failed."""
    return MCPError(code=INTERNAL_ERROR, message=str(MessageRefused(Reason.INTERNAL)))
