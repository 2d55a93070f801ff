"""How clients reach the router, where it speaks TLS itself: which key exchange they agree on.

The same channel as towards nodes, without a certificate of the caller: TLS 1.3, X25519MLKEM768
preferred, X25519 where a client has nothing else, and with `server.require_pq` nothing else at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from federated_dp_llm.config import RouterConfig
from federated_dp_llm.federation.certificates import TlsFiles
from federated_dp_llm.federation.channel import CLASSICAL, HYBRID, Channel
from federated_dp_llm.monitoring import instruments
from federated_dp_llm.monitoring.channels import Alarm
from federated_dp_llm.monitoring.figures import Figures
from privacy_core.errors import InvalidParameter
from privacy_runtime.world import Clock


class FrontDoor:
    """The router's own TLS.

    Guarantee: with `server.require_pq` no client without X25519MLKEM768 is read a byte from.

    Attributes:
        channel: for the server; None: it speaks no TLS, a proxy before it does or nobody.

    Args:
        config: the certificate, and what is required.
        figures: gets the groups of clients' connections.
        alarm: told of files that cannot be taken, and of a certificate that is about to end.
        say: appends to the audit trail.
        clock: the world.

    Raises:
        InvalidParameter: the certificate cannot be used; or a hybrid group is required where this
            router does not speak TLS, and so would never know.
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
        server = config.server
        self._say = say
        self.channel: Channel | None = None
        if server.certificate is None or server.key is None:
            if server.require_pq:
                raise InvalidParameter(
                    "server.require_pq",
                    found="no server.certificate",
                    expected="server.certificate and server.key: what a proxy agreed on with its "
                    "clients is not seen here; nothing was started",
                )
            return
        self.channel = Channel(
            TlsFiles(certificate=Path(server.certificate), key=Path(server.key)),
            server_side=True,
            asks_certificate=False,
            require_pq=server.require_pq,
            problem=alarm.certificate,
            clock=clock,
        )
        figures.metrics.reads(instruments.CLIENT_TLS, self._groups)

    def look(self) -> None:
        """Take a renewed certificate, and write that down. Waits for the journal."""
        if self.channel is not None and self.channel.renew():
            ends = self.channel.not_after
            body = {"whose": "server", "not_after": None if ends is None else ends.isoformat()}
            self._say("router.certificate_renewed", body)

    def _groups(self) -> dict[str, float]:
        if self.channel is None:
            return {}
        groups = self.channel.groups
        counts = {group: float(groups[group]) for group in (HYBRID, CLASSICAL, "other")}
        return {**counts, "refused": float(self.channel.refused)}
