"""Telling systemd how the guard is: `Type=notify` and `WatchdogSec=`, over its socket.

Source: sd_notify(3), sd_watchdog_enabled(3).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

_SHARE: Final = 0.5
"""The watchdog is fed at half its interval, as its manual advises."""


class Systemd:
    """Whoever started us; silent where nobody asks.

    Args:
        variables: the environment: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._address = variables.get("NOTIFY_SOCKET", "")
        interval = variables.get("WATCHDOG_USEC", "")
        is_ours = variables.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        has_watchdog = bool(self._address) and is_ours and interval.isdigit()
        self.feed_every_s = int(interval) * 1e-6 * _SHARE if has_watchdog else None
        self._fed_s = float("-inf")

    def ready(self) -> None:
        """The guard watches."""
        self._say("READY=1")

    def stopping(self) -> None:
        """It is about to end."""
        self._say("STOPPING=1")

    def status(self, line: str) -> None:
        """One line for `systemctl status`."""
        self._say(f"STATUS={line}")

    def feed(self, monotonic_s: float) -> None:
        """The loop goes round; said no more often than needed."""
        if self.feed_every_s is not None and monotonic_s - self._fed_s >= self.feed_every_s:
            self._fed_s = monotonic_s
            self._say("WATCHDOG=1")

    def _say(self, line: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        with (
            suppress(OSError),  # a manager that does not listen is no reason to stop guarding
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock,
        ):
            sock.connect(address)
            sock.send(line.encode())
