"""What a scene is made of: a fault, the programs that it is done to, and the guard's part."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

from pipeline_guard import processes
from pipeline_guard.heartbeat.pulses import Pulse
from pipeline_guard.model import Fault
from pipeline_guard.rehearsal.injections import signalled

_DEFAULTS: Final = {
    "interval": "250ms",
    "timeout": "30s",
    "for": 2,
    "clear_after": 2,
    "grace_after_start": "0s",
}
_LIMITS: Final = {"cooldown": "0s", "max_attempts": 5, "window": "1h", "no_progress": 5}


class Priced(Protocol):
    """What private steps or answers are charged to, and whether that is what they cost."""

    def epsilon_difference(self) -> float | None:
        """What the ledger says was spent, less what was done; after its end.

        `None`: it cannot be said. Above 0: more was charged than was done. Below 0: something
        private was done that nobody paid for.
        """
        ...


@dataclass(slots=True, kw_only=True)
class Scene:
    """One fault, ready to be played.

    Attributes:
        name: of the fault, as the scenes of its subject have it.
        faults: what the guard may call it.
        config: the guard's configuration, less `store`.
        start: start what is watched.
        is_ready: whether the fault may come.
        inject: do it; returns the monotonic second at which it came, or `None` for "at once".
        is_over: whether what was hurt is whole again.
        end: put everything away.
        subject: whose price is looked at afterwards.
        pulse: the newest heartbeat of a training.
    """

    name: str
    faults: frozenset[Fault]
    config: dict[str, Any]
    start: Callable[[], None]
    is_ready: Callable[[], bool]
    inject: Callable[[], float | None]
    is_over: Callable[[], bool]
    end: Callable[[], None]
    subject: Priced | None = None
    pulse: Callable[[], Pulse | None] = field(default=lambda: None)


Repertoire: TypeAlias = Mapping[str, Callable[[Path], Scene]]
"""Scenes by name; each is made in an empty folder."""


class Program:
    """A program that runs beside the guard, and that the guard may start again.

    Args:
        folder: for its pid file and its log.
        command: the program and its arguments.
        name: of these two files.
    """

    def __init__(self, folder: Path, command: Sequence[str], name: str = "program") -> None:
        self.pid_file, self.log = folder / f"{name}.pid", folder / f"{name}.log"
        self._command = tuple(command)

    def settings(self) -> dict[str, Any]:
        """What the guard's component has to say of it."""
        return {
            "pid_file": str(self.pid_file),
            "command": list(self._command),
            "log": str(self.log),
        }

    def start(self) -> None:
        """Start it, as the guard's `start` does."""
        processes.write_pid_file(self.pid_file, processes.start(self._command, log=self.log))

    def is_alive(self) -> bool:
        """Whether the process that the pid file names is there."""
        name = processes.read_pid_file(self.pid_file)
        return name is not None and name.is_alive()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, and wait where it kills.

        Raises:
            Impossible: it is not there.
        """
        signalled(self.pid_file, number)

    def end(self) -> None:
        """End it, whoever started it last."""
        name = processes.read_pid_file(self.pid_file) if self.pid_file.exists() else None
        if name is not None and name.is_alive():
            name.send(signal.SIGKILL)
            name.ended_within(5)


def guard_config(
    components: dict[str, Any], checks: list[dict[str, Any]], recoveries: list[dict[str, Any]]
) -> dict[str, Any]:
    """The configuration of a guard that looks often and may act."""
    return {
        "version": 1,
        "mode": "act",
        "defaults": dict(_DEFAULTS),
        "rate": {"actions": 20, "per": "1m"},
        "components": components,
        "checks": checks,
        "recoveries": recoveries,
    }


def recovery(component: str, fault: Fault, steps: list[Any], check: str) -> dict[str, Any]:
    """What is done about a fault, and the check that says whether it helped."""
    return {
        "on": {"component": component, "fault": fault.value, "severity": "degraded"},
        "steps": steps,
        "mode": "act",
        "limits": dict(_LIMITS),
        "verify": {"check": check, "within": "120s"},
    }


def free_port() -> int:
    """A port of this machine that nobody listens at just now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


def answers(port: int) -> bool:
    """Whether somebody accepts connections there."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
