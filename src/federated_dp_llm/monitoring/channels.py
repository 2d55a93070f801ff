"""The router's ways to its nodes: one channel, what was agreed on it, and until when it counts.

Which key exchange a node's connection has is written into the audit trail whenever it changes, is
shown for every node, and is counted. A renewed certificate is taken without a restart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from federated_dp_llm.config import NodeSpec, RouterConfig
from federated_dp_llm.federation.certificates import TlsFiles, seconds_left
from federated_dp_llm.federation.channel import CLASSICAL, HYBRID, Channel
from federated_dp_llm.federation.client import NodeClient
from federated_dp_llm.monitoring import instruments
from federated_dp_llm.monitoring.figures import Figures
from privacy_core.errors import InvalidParameter
from privacy_runtime.world import Clock

OWN: Final = "router"
PLAIN: Final = "none"


class Alarm(Protocol):
    """Tells people."""

    def certificate(self, problem: str) -> None:
        """A certificate needs somebody."""
        ...


class Channels:
    """Connects to nodes, and knows how.

    Guarantee: with `security.require_pq` there is no way to a node without TLS, and none without
    X25519MLKEM768: connecting fails before anything is sent.

    Args:
        config: certificates, and what is required.
        figures: gets groups and ends of certificates.
        alarm: told of files that cannot be taken, and of a certificate that is about to end.
        say: appends to the audit trail.
        clock: None: the machine's.

    Raises:
        InvalidParameter: certificates cannot be used, or a configured node is reached without TLS
            where a hybrid group is required.
    """

    def __init__(
        self,
        config: RouterConfig,
        *,
        figures: Figures,
        alarm: Alarm,
        say: Callable[[str, Mapping[str, Any]], None],
        clock: Clock,
    ) -> None:
        security = config.security
        self._require_pq = security.require_pq
        self._connections = config.performance.connection_pool_size
        self._clients: dict[str, NodeClient] = {}
        self._noted: dict[str, str] = {}
        self._say, self._clock = say, clock
        for spec in config.nodes:
            self._require_tls(spec)
        files = TlsFiles(
            certificate=_path(security.node_certificate),
            key=_path(security.node_key),
            authority=_path(security.node_ca),
        )
        self.channel = Channel(
            files,
            server_side=False,
            require_pq=security.require_pq,
            problem=alarm.certificate,
            clock=clock,
        )
        figures.metrics.reads(instruments.NODE_TLS, self._groups)
        figures.metrics.reads(instruments.CERTIFICATE_LEFT, self._ends)

    def connect(self, spec: NodeSpec) -> NodeClient:
        """The way to a node; nothing is sent yet.

        Raises:
            InvalidParameter: no TLS, where a hybrid group is required.
        """
        self._require_tls(spec)
        client = NodeClient(
            spec.node_id,
            spec.endpoint,
            ssl=self.channel if spec.endpoint.startswith("https:") else None,
            connections=self._connections,
        )
        self._clients[spec.node_id] = client
        return client

    def group_of(self, node_id: str) -> str | None:
        """The key exchange of a node's latest connection; None: plain, or there was none."""
        client = self._clients.get(node_id)
        return None if client is None else client.tls_group

    def look(self) -> None:
        """Take renewed files, and write down what changed. Waits for the journal."""
        if self.channel.renew():
            ends = self.channel.not_after
            body = {"whose": OWN, "not_after": None if ends is None else ends.isoformat()}
            self._say("router.certificate_renewed", body)
        for node_id, client in list(self._clients.items()):
            group = client.tls_group
            if group is not None and self._noted.get(node_id) != group:
                self._say("router.node_channel", {"node_id": node_id, "tls_group": group})
                self._noted[node_id] = group

    def _require_tls(self, spec: NodeSpec) -> None:
        if self._require_pq and not spec.endpoint.startswith("https:"):
            raise InvalidParameter(
                "security.require_pq",
                found=f"node {spec.node_id} without TLS",
                expected="https:// endpoints; it was not connected",
            )

    def _groups(self) -> dict[str, float]:
        known = (HYBRID, CLASSICAL, PLAIN)
        counted = Counter(client.tls_group or PLAIN for client in self._clients.values())
        others = sum(count for group, count in counted.items() if group not in known)
        return {**{group: float(counted[group]) for group in known}, "other": float(others)}

    def _ends(self) -> dict[str, float]:
        now = self._clock.now()
        ends = {name: client.peer_ends for name, client in self._clients.items()}
        ends = {OWN: self.channel.not_after, **ends}
        return {name: seconds_left(end, now) for name, end in ends.items() if end is not None}


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
