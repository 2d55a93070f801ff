"""What a router of private queries says of itself, over its own HTTP API; see `neighbour`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from privacy_finetuner.environment.neighbours import Router
from privacy_finetuner.service.neighbour import Neighbour, Question, figure, words
from privacy_runtime.world import Clock

_NODES_MOST: Final = 1000
_LINES_MOST: Final = 10_000
_QUESTIONS: Final = (
    Question(name="health", path="/health", answers=(200, 503)),
    Question(name="nodes", path="/v1/admin/nodes"),
    Question(name="budgets", path="/v1/privacy/budget/status"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterNode:
    """A node as its router knows it. `tls_group`: how the channel's keys were agreed on."""

    name: str
    endpoint: str
    state: str
    slots: int
    tls_group: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterBudget:
    """What a department or a user may use over their lifetime, in epsilon."""

    name: str
    total: float
    consumed: float
    remaining: float

    @property
    def held(self) -> float:
        """Spent, and set aside for answers under way."""
        return max(self.consumed, self.total - self.remaining)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterView:
    """A router at one moment.

    Attributes:
        fault: why nothing, or not everything, is known: `unreachable`, `refused`, `unexpected`.
        status: `healthy`, `degraded`, `unhealthy`; empty: not known.
        figures: per second, seconds, shares, as the router names them; those it does not know yet
            are left out.
        delta: of the budgets; 0.0: not known.
    """

    fault: str = ""
    status: str = ""
    components: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    nodes: tuple[RouterNode, ...] = ()
    delta: float = 0.0
    departments: tuple[RouterBudget, ...] = ()
    users: tuple[RouterBudget, ...] = ()


class RouterReading:
    """Asks one router. For any number of threads; one of them asks at a time.

    Args:
        settings: the section `router`, with an address and a key.
        clock: tells when to ask again.
    """

    def __init__(self, settings: Router, clock: Clock) -> None:
        self._router = Neighbour(settings, clock, questions=_QUESTIONS, read=_read)

    def view(self) -> RouterView:
        """How the router stands; see `Neighbour.view`. Raises nothing."""
        return self._router.view()


def _read(found: Mapping[str, Any], fault: str) -> RouterView:
    health, budgets = found.get("health", {}), found.get("budgets", {})
    figures = {k: v for k, v in health.get("metrics", {}).items() if v is not None}
    return RouterView(
        fault=fault,
        status=words(health.get("status", ""), 32),
        components={words(k): words(v) for k, v in health.get("components", {}).items()},
        figures={words(k): figure(v) for k, v in figures.items()},
        nodes=tuple(_node(each) for each in found.get("nodes", [])[:_NODES_MOST]),
        delta=figure(budgets.get("delta", 0.0)),
        departments=_budgets(budgets.get("departments", {})),
        users=_budgets(budgets.get("users", {})),
    )


def _node(said: Mapping[str, Any]) -> RouterNode:
    group = said.get("tls_group")
    return RouterNode(
        name=words(said["node_id"], 128),
        endpoint=words(said["endpoint"], 512),
        state=words(said["state"], 32),
        slots=int(figure(said["slots"])),
        tls_group=None if group is None else words(group),
    )


def _budgets(said: Mapping[str, Any]) -> tuple[RouterBudget, ...]:
    """By name; those with the least left first."""
    lines = [
        RouterBudget(
            name=words(name, 128),
            total=figure(line["total_budget"]),
            consumed=figure(line["consumed"]),
            remaining=figure(line["remaining"]),
        )
        for name, line in list(said.items())[:_LINES_MOST]
    ]
    return tuple(sorted(lines, key=lambda line: (line.remaining, line.name)))
