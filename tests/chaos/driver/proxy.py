"""A TCP proxy that can be taken away: connections reset and refused, or held without an answer."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from enum import StrEnum

_PIECE_BYTES = 1 << 16
_AT_ONCE = struct.pack("ii", 1, 0)


class Mode(StrEnum):
    """What happens to connections and to what they carry."""

    OPEN = "open"
    GONE = "gone"  # those that are there are reset, new ones too
    HELD = "held"  # accepted, and nothing goes through


class Proxy:
    """Carries bytes between clients and one server, while it is open.

    Args:
        host, port: of the server.
    """

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._mode = Mode.OPEN
        self._may_pass = threading.Event()
        self._may_pass.set()
        self._lock = threading.Lock()
        self._ends: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def set(self, mode: Mode) -> None:
        """Change what happens, from now on."""
        self._mode = mode
        if mode is Mode.HELD:
            self._may_pass.clear()
        else:
            self._may_pass.set()
        if mode is Mode.GONE:
            self._reset_all()

    def close(self) -> None:
        """End everything."""
        self.set(Mode.GONE)
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            if self._mode is Mode.GONE:
                _reset(client)
                continue
            try:
                server = socket.create_connection(self._server)
            except OSError:
                _reset(client)
                continue
            with self._lock:
                self._ends |= {client, server}
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(_PIECE_BYTES):
                self._may_pass.wait()
                sink.sendall(piece)
        with self._lock:
            self._ends -= {source, sink}
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _reset_all(self) -> None:
        with self._lock:
            ends, self._ends = self._ends, set()
        for end in ends:
            _reset(end)


def _reset(end: socket.socket) -> None:
    """Close at once, as a server that dies: the other side sees a reset."""
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        end.shutdown(socket.SHUT_RDWR)
    end.close()
