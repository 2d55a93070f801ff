"""The router of private queries: its nodes, its budgets, and how to connect one."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from privacy_finetuner.dashboard.languages import marked
from privacy_finetuner.dashboard.operations import is_installed
from privacy_finetuner.dashboard.pages import Pages
from privacy_finetuner.dashboard.site import Asked
from privacy_finetuner.service.router_reading import RouterReading, RouterView
from privacy_runtime.identity import Scope

_USERS: Final = 50
_GUARD: Final = "pipeline_guard"
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
STATES: Final = {"ready": "good", "healthy": "good", "degraded": "warn", "unhealthy": "bad"}


def register(pages: Pages) -> None:
    """Add the pages of this module."""
    service = pages.service
    settings = service.config.router
    reading = None if settings.url is None else RouterReading(settings, service.clock)

    def shown(asked: Asked) -> Response:
        return _router(asked, reading)

    pages.get("/parts", shown, Scope.SCALING_READ)


def _router(asked: Asked, reading: RouterReading | None) -> Response:
    """A router serves the operator: its departments are nobody else's to see."""
    is_operator = asked.service.desks.trail.operator == asked.tenant
    view = reading.view() if reading is not None and is_operator else None
    return asked.show(
        "router.html",
        view=view,
        is_operator=is_operator,
        is_installed=is_installed("federated_dp_llm.routing"),
        has_guard=is_installed(_GUARD),
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
