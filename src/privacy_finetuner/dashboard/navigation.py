"""What the pages are, in groups, and for whom: a page without the scope is not shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from privacy_finetuner.dashboard.languages import marked
from privacy_runtime.identity import Principal, Scope


@dataclass(frozen=True, slots=True)
class Place:
    """One page of the navigation. `icon` names a symbol of the templates."""

    path: str
    label: str
    icon: str
    scope: Scope


@dataclass(frozen=True, slots=True)
class Group:
    """Pages that belong together."""

    label: str
    places: Sequence[Place]


_GROUPS: Final = (
    Group("", (Place("/", marked("Overview"), "overview", Scope.JOBS_READ),)),
    Group(
        marked("Training"),
        (
            Place("/jobs", marked("Jobs"), "jobs", Scope.JOBS_READ),
            Place("/datasets", marked("Data sets"), "datasets", Scope.DATASETS_READ),
            Place("/frontier", marked("Frontier"), "frontier", Scope.RESULTS_READ),
        ),
    ),
    Group(
        marked("Privacy"),
        (
            Place("/budgets", marked("Budgets"), "budgets", Scope.BUDGETS_READ),
            Place("/audits", marked("Audits"), "audits", Scope.RESULTS_READ),
            Place("/certificates", marked("Certificates"), "certificates", Scope.RESULTS_READ),
        ),
    ),
    Group(
        marked("Operations"),
        (
            Place("/alerts", marked("Alerts"), "alerts", Scope.SECURITY_READ),
            Place("/workers", marked("Workers"), "workers", Scope.SCALING_READ),
            Place("/parts", marked("Router and guard"), "router", Scope.SCALING_READ),
        ),
    ),
    Group(
        marked("Governance"),
        (
            Place("/compliance", marked("Compliance"), "compliance", Scope.COMPLIANCE_READ),
            Place("/trail", marked("Audit trail"), "trail", Scope.AUDIT_READ),
            Place("/users", marked("Users"), "users", Scope.USERS_READ),
            Place("/keys", marked("API keys"), "keys", Scope.KEYS_OWN),
        ),
    ),
)


def groups_for(principal: Principal) -> list[Group]:
    """The groups with a page that the principal may open."""
    groups = []
    for group in _GROUPS:
        places = [place for place in group.places if place.scope in principal.scopes]
        if places:
            groups.append(Group(group.label, places))
    return groups


def is_current(place: Place, path: str) -> bool:
    """Whether a path is this page or one below it."""
    return path == place.path or (place.path != "/" and path.startswith(place.path + "/"))
