"""What a server sends by itself: progress, log messages, and word that something changed."""

from __future__ import annotations

from typing import Any, Final

from mcp.server.connection import allowed_log_levels
from mcp.server.subscriptions import InMemorySubscriptionBus
from mcp.shared.dispatcher import ProgressFnT
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import (
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
)
from mcp_types import (
    ElicitCompleteNotification,
    LoggingMessageNotification,
    LoggingMessageNotificationParams,
    PromptListChangedNotification,
    ResourceListChangedNotification,
    ResourceUpdatedNotification,
    ResourceUpdatedNotificationParams,
    ToolListChangedNotification,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from privacy_finetuner.context.gateway.crossing import Crossing
from privacy_finetuner.context.gateway.errors import MessageRefused
from privacy_finetuner.context.gateway.sessions import Context, Link
from privacy_finetuner.context.gateway.states import with_server

_EVENTS: Final[dict[Any, ServerEvent]] = {
    ToolListChangedNotification: ToolsListChanged(),
    PromptListChangedNotification: PromptsListChanged(),
    ResourceListChangedNotification: ResourcesListChanged(),
}


def wants_progress(context: Context) -> bool:
    """Whether the client gave a token for progress; without one it would hear of none."""
    meta = context.meta or {}
    return meta.get("progressToken", meta.get("progress_token")) is not None


def progress_to(crossing: Crossing) -> ProgressFnT:
    """Pass progress on; its message only when it may pass."""

    async def report(progress: float, total: float | None, message: str | None) -> None:
        shown = message
        if message is not None:
            try:
                shown = (await crossing.to_model({"data": message}))["data"]
            except MessageRefused:
                shown = None
        await crossing.context.session.report_progress(progress, total, shown)

    return report


async def log_to_client(crossing: Crossing, params: LoggingMessageNotificationParams) -> None:
    """Pass a log message on, if the client wants its level and it may pass."""
    context = crossing.context
    if params.level not in allowed_log_levels(context.protocol_version, context.meta):
        return
    try:
        shown = await crossing.to_model({"data": [params.data, params.logger]})
    except MessageRefused:
        return
    data, logger = shown["data"]
    await _send(
        crossing,
        LoggingMessageNotification(
            params=LoggingMessageNotificationParams(level=params.level, data=data, logger=logger)
        ),
    )


async def change_to_client(
    link: Link, crossing: Crossing | None, bus: InMemorySubscriptionBus, message: Any
) -> None:
    """Pass on that a list or a resource changed. What changed in a list, the client asks for."""
    if isinstance(message, ToolListChangedNotification):
        link.forget_tools()
    event: Any = _EVENTS.get(type(message))
    notification = message
    if isinstance(message, ResourceUpdatedNotification):
        if crossing is None:
            return
        try:
            shown = await crossing.to_model({"uri": message.params.uri})
        except MessageRefused:
            return
        address = with_server(link.policy.name, shown["uri"])
        event = ResourceUpdated(uri=address)
        notification = ResourceUpdatedNotification(
            params=ResourceUpdatedNotificationParams(uri=address)
        )
    if event is not None:
        await bus.publish(event)
    elif not isinstance(message, ElicitCompleteNotification):
        return
    if crossing is not None and not _is_modern(crossing):
        await _send(crossing, notification, standalone=True)


async def _send(crossing: Crossing, notification: Any, *, standalone: bool = False) -> None:
    context = crossing.context
    related = None if standalone else context.request_id
    try:
        await context.session.send_notification(notification, related_request_id=related)
    except (MCPError, RuntimeError, OSError):
        return  # the client is gone; nothing is owed to it


def _is_modern(crossing: Crossing) -> bool:
    return crossing.context.protocol_version in MODERN_PROTOCOL_VERSIONS
