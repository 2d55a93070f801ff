"""What a router of private queries says of itself, over its own HTTP API, with a key of its own.

Nothing of the router is imported: it runs elsewhere, or is not installed. Three questions, at most
every five seconds, each within `router.limit_s`; no redirect is followed and no proxy of the
environment used, so that the key goes to the configured address and nowhere else.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx2

from privacy_finetuner.environment.neighbours import Router
from privacy_runtime.world import Clock

AGAIN_S: Final = 5.0
ANSWER_MOST: Final = 4 * 1024 * 1024
_NODES_MOST: Final = 1000
_LINES_MOST: Final = 10_000
_REFUSED: Final = frozenset({401, 403})


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
        figures: per second, seconds, shares, as the router names them.
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


class _Fault(Exception):
    """A question was not answered; its text is the reason."""


class RouterReading:
    """Asks one router. For any number of threads; one of them asks at a time.

    Args:
        settings: the section `router`, with an address and a key.
        clock: tells when to ask again.
    """

    def __init__(self, settings: Router, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._lock = threading.Lock()
        self._view: RouterView | None = None
        self._at_s = 0.0

    def view(self) -> RouterView:
        """How the router stands; as it was up to five seconds ago. Raises nothing."""
        with self._lock:
            now_s = self._clock.monotonic_s()
            if self._view is None or now_s - self._at_s >= AGAIN_S:
                self._view, self._at_s = self._asked(), now_s
            return self._view

    def _asked(self) -> RouterView:
        url = "" if self._settings.url is None else self._settings.url.reveal().rstrip("/")
        key = "" if self._settings.key is None else self._settings.key.reveal()
        try:
            context = ssl.create_default_context(cafile=self._settings.authority)
        except OSError:  # the file of the authority is gone, or is none
            return RouterView(fault="unreachable")
        with httpx2.Client(
            base_url=url,
            timeout=self._settings.limit_s,
            verify=context,
            trust_env=False,
            follow_redirects=False,
            headers={"Authorization": f"Bearer {key}", "Accept": "application/json"},
        ) as client:
            found: dict[str, Any] = {}
            fault = ""
            for name, path in (
                ("health", "/health"),
                ("nodes", "/v1/admin/nodes"),
                ("budgets", "/v1/privacy/budget/status"),
            ):
                try:
                    found[name] = _answer(client, path, also=503 if name == "health" else 200)
                except _Fault as refused:
                    fault = fault or str(refused)
                    if fault == "unreachable":
                        break
        try:
            return _read(found, fault)
        except (KeyError, TypeError, ValueError, AttributeError):
            return RouterView(fault="unexpected")


def _answer(client: httpx2.Client, path: str, *, also: int) -> Any:
    """The JSON at a path; `also` is a further status that has one."""
    try:
        with client.stream("GET", path) as response:
            if response.status_code in _REFUSED:
                raise _Fault("refused")
            if response.status_code not in (200, also):
                raise _Fault("unexpected")
            content = b""
            for piece in response.iter_bytes():
                content += piece
                if len(content) > ANSWER_MOST:
                    raise _Fault("unexpected")
    except httpx2.HTTPError as error:
        raise _Fault("unreachable") from error
    try:
        return json.loads(content)
    except ValueError:
        raise _Fault("unexpected") from None


def _read(found: Mapping[str, Any], fault: str) -> RouterView:
    health, budgets = found.get("health", {}), found.get("budgets", {})
    return RouterView(
        fault=fault,
        status=str(health.get("status", ""))[:32],
        components={str(k)[:64]: str(v)[:64] for k, v in health.get("components", {}).items()},
        figures={str(k)[:64]: float(v) for k, v in health.get("metrics", {}).items()},
        nodes=tuple(_node(each) for each in found.get("nodes", [])[:_NODES_MOST]),
        delta=float(budgets.get("delta", 0.0)),
        departments=_budgets(budgets.get("departments", {})),
        users=_budgets(budgets.get("users", {})),
    )


def _node(said: Mapping[str, Any]) -> RouterNode:
    group = said.get("tls_group")
    return RouterNode(
        name=str(said["node_id"])[:128],
        endpoint=str(said["endpoint"])[:512],
        state=str(said["state"])[:32],
        slots=int(said["slots"]),
        tls_group=None if group is None else str(group)[:64],
    )


def _budgets(said: Mapping[str, Any]) -> tuple[RouterBudget, ...]:
    """By name; those with the least left first."""
    lines = [
        RouterBudget(
            name=str(name)[:128],
            total=float(line["total_budget"]),
            consumed=float(line["consumed"]),
            remaining=float(line["remaining"]),
        )
        for name, line in list(said.items())[:_LINES_MOST]
    ]
    return tuple(sorted(lines, key=lambda line: (line.remaining, line.name)))
