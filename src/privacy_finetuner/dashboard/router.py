"""What stands beside the service: a router with its nodes and budgets, and a guard.

Both serve the operator: what they say is nobody else's to see.
"""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from privacy_finetuner.dashboard.guard import GuardPart
from privacy_finetuner.dashboard.languages import marked
from privacy_finetuner.dashboard.operations import is_installed
from privacy_finetuner.dashboard.pages import Pages
from privacy_finetuner.dashboard.site import Asked
from privacy_finetuner.service.guard_reading import GuardReading
from privacy_finetuner.service.router_reading import RouterReading, RouterView
from privacy_runtime.identity import Scope

_USERS: Final = 50
FAULTS: Final = {
    "unreachable": marked(
        "The router does not answer. What it has promised stands; this page knows nothing of it "
        "now."
    ),
    "refused": marked(
        "The router does not take the configured key for all of this. It needs security:read and "
        "audit:read there."
    ),
    "unexpected": marked("The router answers in a form that this page does not know."),
}
STATES: Final = {
    marked("healthy"): "good",
    marked("degraded"): "warn",
    marked("unhealthy"): "bad",
    marked("unreachable"): "bad",
    marked("ejected"): "bad",
    marked("mismatch"): "bad",
    marked("draining"): "ring",
    marked("away"): "warn",
}
"""Of a router and of its nodes, in its words, with their colours."""


def register(pages: Pages) -> None:
    """Add the pages of this module."""
    config, clock = pages.service.config, pages.service.clock
    router = None if config.router.url is None else RouterReading(config.router, clock)
    guard = None if config.guard.url is None else GuardReading(config.guard, clock)

    def shown(asked: Asked) -> Response:
        return _parts(asked, router, guard)

    pages.get("/parts", shown, Scope.SCALING_READ)


def _parts(asked: Asked, router: RouterReading | None, guard: GuardReading | None) -> Response:
    """Neither is asked for anybody but the operator."""
    is_operator = asked.service.desks.trail.operator == asked.tenant
    view = router.view() if router is not None and is_operator else None
    return asked.show(
        "router.html",
        view=view,
        guard=GuardPart(
            guard.view() if guard is not None and is_operator else None,
            is_installed("pipeline_guard"),
            asked.now,
        ),
        is_operator=is_operator,
        is_installed=is_installed("federated_dp_llm.routing"),
        fault="" if view is None else FAULTS.get(view.fault, ""),
        tone=_tone,
        users=() if view is None else view.users[:_USERS],
        figures=() if view is None else _figures(view),
    )


def _tone(state: str) -> str:
    return STATES.get(state, "warn")


def _figures(view: RouterView) -> list[tuple[str, float, str]]:
    """The router's own figures in words; those of another name are left out."""
    said = {
        "requests_per_second": (marked("Requests a second"), "figure"),
        "average_response_time": (marked("Mean time of an answer"), "seconds"),
        "error_rate": (marked("Failed"), "percent"),
        "cache_hit_rate": (marked("From the cache"), "percent"),
    }
    return [
        (said[name][0], value, said[name][1])
        for name, value in view.figures.items()
        if name in said
    ]
