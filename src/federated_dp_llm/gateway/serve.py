"""Run a gateway: the short way in before uvicorn with the runtime's limits, on one port."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Final

import uvicorn
from uvicorn.server import ServerState

from federated_dp_llm.gateway.app import Gateway
from federated_dp_llm.gateway.asgi import AsgiApp
from federated_dp_llm.gateway.by_model import ByModel
from federated_dp_llm.gateway.front import Front
from federated_dp_llm.gateway.lobby import Lobby
from privacy_runtime.http.server import PatientConfig, PatientProtocol, ServerOptions

BODY_S: Final = 60.0


class GatewayConfig(PatientConfig):
    """Uvicorn's configuration, with the gateway's short way in.

    Args:
        gateway: whose completions take it.
        options: where to listen, and how patient to be.
        otherwise: answers every other request, and completions of models that the gateway does
            not serve; None: the gateway refuses them.
    """

    def __init__(
        self, gateway: Gateway, options: ServerOptions, otherwise: AsgiApp | None = None
    ) -> None:
        self.gateway = gateway
        self._lobby: Lobby | None = None
        super().__init__(gateway if otherwise is None else ByModel(gateway, otherwise), options)

    def load(self) -> None:
        """Load the application; connections begin at the front."""
        super().load()
        self.http_protocol_class = self._front  # type: ignore[assignment]  # it makes one

    def _front(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> Front:
        lobby = self._lobby
        if lobby is None or lobby.state is not server_state:
            lobby = self._lobby = Lobby(
                self.gateway,
                general=partial(_General, config, server_state, app_state),
                options=self.options,
                state=server_state,
            )
        return Front(lobby)


class _General(PatientProtocol):
    """Gives a connection back when everything that was asked on it is answered."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        front: Front,
    ) -> None:
        super().__init__(config, server_state, app_state)
        self._front = front
        self._under_way = 0  # requests that have begun and are not here in full

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._under_way += 1

    def on_message_complete(self) -> None:
        """The whole request is there."""
        self._under_way -= 1
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The whole answer is sent."""
        super().on_response_complete()
        is_last = not self.pipeline and self.cycle.response_complete and not self._under_way
        if is_last and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            self._front.come_back()


def run(
    gateway: Gateway, options: ServerOptions | None = None, *, otherwise: AsgiApp | None = None
) -> None:
    """Serve until a signal says to stop; requests under way are finished, and settled.

    Connections to backends are closed and the audit is written at the end. The store of allowances
    is its owner's to close, after this returns.

    Args:
        gateway: what `make_app` returned.
        options: where to listen, and how patient to be.
        otherwise: answers what is not the gateway's, the server's start and stop included.
    """
    config = GatewayConfig(gateway, options or ServerOptions(body_s=BODY_S), otherwise)
    uvicorn.Server(config).run()
