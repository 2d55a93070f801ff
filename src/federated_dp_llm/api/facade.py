"""`FederatedRouter`: a router as one object, for programs and notebooks.

::

    router = FederatedRouter()                          # nobody logs in; gone when closed
    router.register_node(HospitalNode("north", "http://127.0.0.1:8443"))
    with TestClient(router.app) as client:
        client.post("/inference", json={"user_id": "dr", "prompt": "...", "privacy_budget": 1.0})
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from fastapi import FastAPI

from federated_dp_llm.api.app import create_app
from federated_dp_llm.api.fleet import Fleet
from federated_dp_llm.api.service import Service
from federated_dp_llm.caching import ReleasedAnswers
from federated_dp_llm.config import NodeSpec, RouterConfig
from federated_dp_llm.core.query import Answers
from federated_dp_llm.federation.port import Node
from privacy_core.errors import InvalidParameter
from privacy_runtime.http import Rate, RateLimits

_UNHURRIED = {name: Rate(name, 1_000_000) for name in ("address", "login", "reads", "writes")}


@dataclass(frozen=True, slots=True)
class HospitalNode:
    """A node to register.

    Args:
        node_id: its name.
        endpoint: `https://host:port`; `http://` inside one machine.
        port: the node itself, where it lives in this process; None: it is asked over the network.
    """

    node_id: str
    endpoint: str
    slots: int = 0
    compute_capacity: str = ""
    specializations: tuple[str, ...] = ()
    security_level: str = ""
    port: Node | None = field(default=None, repr=False)

    @property
    def spec(self) -> NodeSpec:
        """What is registered."""
        return NodeSpec(
            node_id=self.node_id,
            endpoint=self.endpoint.rstrip("/"),
            slots=self.slots,
            compute_capacity=self.compute_capacity,
            specializations=self.specializations,
            security_level=self.security_level,
        )


class FederatedRouter:
    """A router: its application, its nodes, its cache and its connections.

    Args:
        config: of a deployment, or the path of its file. None: for trying out: nobody logs in, the
            body's `user_id` is believed, and everything is in a folder that is gone when the router
            is closed, budgets too. Such a router has no place in front of real records.
        answers: makes what answers; None: the registered nodes.
        vocabulary: of the nodes' model; None: of `federation.tokenizer`.
    """

    def __init__(
        self,
        config: RouterConfig | Path | str | None = None,
        *,
        answers: Callable[[Service], Answers] | None = None,
        vocabulary: Any = None,
    ) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        limits = None
        if config is None:
            self._folder = tempfile.TemporaryDirectory(prefix="federated-dp-llm-")
            config = RouterConfig.read(
                variables={},
                environment="development",
                store={"home": self._folder.name},
                security={"authentication": "none"},
            )
        elif not isinstance(config, RouterConfig):
            config = RouterConfig.read(config)
        try:
            self.service = Service.open(config, answers=answers, vocabulary=vocabulary)
        except BaseException:
            if self._folder is not None:
                self._folder.cleanup()
            raise
        if self._folder is not None:
            limits = RateLimits(self.service.clock, rates=_UNHURRIED)
        self.app: FastAPI = create_app(self.service, limits=limits)

    def register_node(self, node: HospitalNode) -> None:
        """Name a node; it is asked for its card before the next question."""
        self._fleet.want(node.spec, node.port)

    @property
    def cache(self) -> ReleasedAnswers:
        """The cache of released answers: `resize`, `set_strategy`, `get_statistics`."""
        if self._fleet.cache is None:
            raise InvalidParameter("performance.cache_size", found=0, expected="above 0")
        return self._fleet.cache

    def get_cache_statistics(self) -> dict[str, float | int | str]:
        """Hits, sizes and localities; see `ReleasedAnswers.get_statistics`."""
        return self.cache.get_statistics()

    @property
    def connection_pool(self) -> Any:
        """Connections to the gateway's backends: `get_statistics`, `resize`, preallocation.

        Raises:
            InvalidParameter: no gateway is configured: nodes are asked over connections that keep
                no statistics.
        """
        gateway = getattr(self.app.state, "gateway", None)
        if gateway is None:
            raise InvalidParameter("gateway", found="no such section", expected="backends")
        return gateway.backends

    async def __aenter__(self) -> Self:
        """Begin to ask the nodes how they are, for use without a server."""
        if self.service.fleet is not None:
            await self.service.fleet.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Settle what runs, and close."""
        if self.service.fleet is not None:
            await self.service.fleet.aclose()
        self.close()

    def close(self) -> None:
        """Let go of the databases; one for trying out is deleted."""
        self.service.close()
        if self._folder is not None:
            self._folder.cleanup()

    @property
    def _fleet(self) -> Fleet:
        if not isinstance(self.service.fleet, Fleet):
            raise InvalidParameter("answers", found="answers of your own", expected="nodes")
        return self.service.fleet
