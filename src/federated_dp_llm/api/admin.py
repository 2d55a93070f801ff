"""Nodes and settings, for administrators. Every change is in the audit trail with who made it.

A lifetime cap is raised with a reason, for accounts that are open too; lowered, it holds for
accounts that are opened from then on, and the answer says so: what was promised to a user is not
taken back silently. `delta` cannot be changed: every epsilon of the accounts is at it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastapi import APIRouter

from federated_dp_llm.api import shapes
from federated_dp_llm.api.door import Door
from federated_dp_llm.api.routes import By, Routes
from federated_dp_llm.api.service import Service
from federated_dp_llm.config import NodeSpec, RouterConfig
from privacy_runtime.http import Conflict, Fault, InvalidRequest, NotFound
from privacy_runtime.identity import Scope

_CAPS: Final = ("privacy.max_budget_per_user", "privacy.max_budget_per_department")
_AT_START: Final = frozenset(
    {
        "performance.cache_size",
        "performance.connection_pool_size",
        "security.token_expiry_hours",
        "security.require_mfa",
    }
)
"""Read when the service is opened."""
_SECTIONS: Final[Mapping[str, type[shapes.Body]]] = {
    "privacy": shapes.PrivacyChange,
    "performance": shapes.PerformanceChange,
    "security": shapes.SecurityChange,
}


class Admin:
    """Changes of the deployment.

    Args:
        service: what is changed.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    async def list_nodes(self, by: By) -> list[shapes.NodeAnswer]:
        """List the nodes and how they stand."""
        del by
        return [_node(spec, state) for spec, state in self._fleet.standing()]

    async def add_node(self, body: shapes.NodeRequest, by: By) -> shapes.NodeAnswer:
        """Register a node. Its card is read at once; one that cannot be read is asked again."""
        spec = NodeSpec(
            node_id=body.node_id,
            endpoint=body.endpoint.rstrip("/"),
            slots=body.slots,
            compute_capacity=body.compute_capacity,
            specializations=tuple(body.specializations),
            security_level=body.security_level,
        )
        if spec.node_id in {known.node_id for known, _ in self._fleet.standing()}:
            raise Conflict("a node of this name is registered; remove it first")
        await self._fleet.add(spec, by=by.subject)
        return next(
            _node(known, state)
            for known, state in self._fleet.standing()
            if known.node_id == spec.node_id
        )

    async def remove_node(self, node_id: str, by: By) -> shapes.Done:
        """Remove a node: answers that it takes part in are finished without it."""
        if node_id not in {known.node_id for known, _ in self._fleet.standing()}:
            raise NotFound("there is no such node")
        await self._fleet.remove(node_id, by=by.subject)
        return shapes.Done()

    def read_config(self, by: By) -> shapes.ConfigAnswer:
        """Read what may be changed."""
        del by
        return _shown(self._service.config)

    def change_config(self, body: shapes.ConfigRequest, by: By) -> shapes.ConfigAnswer:
        """Change settings: all of them or, with one fault, none.

        A change of a lifetime cap needs a `reason`. `needs_restart` lists what is read at the start
        only; it is kept, and holds from then on.
        """
        service, before = self._service, self._service.config
        changes = _changes(body, before)
        if not changes:
            return _shown(before)
        after = before.changed(changes)
        paths = sorted(f"{section}.{key}" for section, inner in changes.items() for key in inner)
        caps = [path for path in paths if path in _CAPS]
        _require_allowed(paths, caps, body.reason)
        reason = body.reason or ""
        service.records.put_settings(changes, by=by.subject, reason=reason)
        notes = self._raise_caps(before, after, by.subject, reason) if caps else []
        service.reconfigure(after)
        answer = _shown(after)
        restart = [path for path in paths if path in _AT_START]
        return answer.model_copy(
            update={"changed": paths, "needs_restart": restart, "notes": notes}
        )

    @property
    def _fleet(self) -> Any:
        fleet = self._service.fleet
        if fleet is None:
            raise Conflict("this router was started with answers of its own; it has no nodes")
        return fleet

    def _raise_caps(
        self, before: RouterConfig, after: RouterConfig, by: str, reason: str
    ) -> list[str]:
        service, notes = self._service, []
        key = "settings/" + service.entropy.token_bytes(16).hex()
        was, now = before.privacy.max_budget_per_user, after.privacy.max_budget_per_user
        if now > was:
            users = {*service.records.members(), *service.records.users()}
            count = service.standings.raise_all(users, now, key=key, by=by, reason=reason)
            notes.append(f"{count} open accounts of users were raised to {now:g}")
        elif now < was:
            notes.append(
                "the lower cap holds for accounts opened from now on; open ones keep theirs"
            )
        if before.privacy.max_budget_per_department != after.privacy.max_budget_per_department:
            notes.append("the departments' cap holds for accounts opened from now on")
        return notes


def _changes(body: shapes.ConfigRequest, config: RouterConfig) -> dict[str, dict[str, Any]]:
    """What is said and is another value than now."""
    found: dict[str, dict[str, Any]] = {}
    for section in _SECTIONS:
        said = getattr(body, section).model_dump(exclude_none=True)
        now = getattr(config, section)
        different = {key: value for key, value in said.items() if getattr(now, key) != value}
        if different:
            found[section] = different
    return found


def _require_allowed(paths: list[str], caps: list[str], reason: str | None) -> None:
    faults = []
    if "privacy.delta" in paths:
        message = "cannot be changed: the accounts were opened at it; open a home of its own"
        faults.append(Fault("body.privacy.delta", message, "fixed"))
    if caps and reason is None:
        faults.append(Fault("body.reason", "is needed where a lifetime cap changes", "missing"))
    if faults:
        raise InvalidRequest(faults)


def _shown(config: RouterConfig) -> shapes.ConfigAnswer:
    shown: dict[str, Any] = {
        section: {key: getattr(getattr(config, section), key) for key in shape.model_fields}
        for section, shape in _SECTIONS.items()
    }
    return shapes.ConfigAnswer(**shown)


def _node(spec: NodeSpec, state: Any) -> shapes.NodeAnswer:
    return shapes.NodeAnswer(
        node_id=spec.node_id,
        endpoint=spec.endpoint,
        slots=state.slots,
        compute_capacity=spec.compute_capacity,
        specializations=list(spec.specializations),
        security_level=spec.security_level,
        state=state.name,
        tls_group=state.tls_group,
    )


def router(service: Service, door: Door) -> APIRouter:
    """The routes."""
    admin = Admin(service)
    routes = Routes(door, tag="admin", errors=(503,))
    read, write = Scope.SECURITY_READ, Scope.SETTINGS_WRITE
    routes.add("GET", "/admin/nodes", read, admin.list_nodes, refuses=(409,))
    routes.add("POST", "/admin/nodes", write, admin.add_node, status=201, refuses=(409, 422))
    routes.add("DELETE", "/admin/nodes/{node_id}", write, admin.remove_node, refuses=(404, 409))
    routes.add("GET", "/admin/config", read, admin.read_config)
    routes.add("PUT", "/admin/config", write, admin.change_config, refuses=(422,))
    return routes.router
