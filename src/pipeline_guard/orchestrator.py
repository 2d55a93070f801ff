"""`PipelineOrchestrator`: everything of a configuration that runs, started and stopped together.

The guard itself, the notices, and where `http.enabled` is set the HTTP server as a process of its
own. Its workflows are the recoveries: steps in order, each with a time limit and the steps that
undo it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from pipeline_guard.config import RecoverySettings
from pipeline_guard.guard import SelfHealingPipelineGuard
from pipeline_guard.guard.telling import Telling
from pipeline_guard.model import Gate

_END_S: Final = 10.0
_PAUSES_S: Final = (1.0, 5.0, 30.0)
"""Between starts of a server that ends by itself; the last one is repeated."""


class PipelineOrchestrator:
    """Starts and stops a guard with what belongs to it.

    Args:
        config_path: the file; none: a guard that watches nothing.
        guard: in its place, a guard that was made in Python.

    Raises:
        ConfigurationError: with every fault of the file; nothing was started.
    """

    def __init__(
        self, config_path: str | None = None, *, guard: SelfHealingPipelineGuard | None = None
    ) -> None:
        self.guard = guard or SelfHealingPipelineGuard(config_path)
        self._telling: Telling | None = None
        self._server: asyncio.subprocess.Process | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._server_starts = 0

    def add_gate(self, gate: Gate) -> None:
        """Ask this gate before every recovery."""
        self.guard.add_gate(gate)

    async def start(self) -> None:
        """Start everything; see `SelfHealingPipelineGuard.start_monitoring`.

        Raises:
            MonitoringError: the guard cannot start; nothing runs.
        """
        config = self.guard.config
        if config.notify.destinations and self._telling is None:
            self._telling = Telling(self.guard)
            self.guard.add_observer(self._telling)
        try:
            await self.guard.start_monitoring()
        except BaseException:
            self._end_telling()
            raise
        if config.http.enabled and config.source:
            self._keeping = asyncio.create_task(self._keep_server(config.source))

    async def stop(self) -> None:
        """Stop everything; recoveries under way are finished, notices that wait are kept."""
        self.guard.stop_monitoring()
        await self.guard.wait_stopped()
        await self._end_server()
        self._end_telling()

    def get_orchestrator_status(self) -> dict[str, Any]:
        """How everything stands, as JSON values: the system, the workflows, server and notices."""
        system = self.guard.get_system_status()
        modes: Mapping[str, Any] = system.get("recoveries", {})
        server = self._server
        return {
            "is_running": system["is_monitoring"],
            "overall_health": system["overall_health"],
            "system": system,
            "workflows": {
                each.name: _workflow(each) | dict(modes.get(each.name, {}))
                for each in self.guard.plan.recoveries
            },
            "http": {
                "is_enabled": self.guard.config.http.enabled,
                "process": server.pid if server and server.returncode is None else None,
                "starts": self._server_starts,
            },
            "notices": self._telling.standing() if self._telling else None,
        }

    def run(self) -> None:
        """Run until SIGTERM or SIGINT; SIGHUP reads the configuration again."""
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        await self.start()
        host, ended = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            host.add_signal_handler(number, ended.set)
        host.add_signal_handler(signal.SIGHUP, self.guard.reload_or_say)
        stopped = asyncio.ensure_future(self.guard.wait_stopped())
        waiting = asyncio.ensure_future(ended.wait())
        await asyncio.wait({stopped, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        await self.stop()
        await stopped

    async def _keep_server(self, source: str) -> None:
        """Keep the server running: one that ends is started again, more and more slowly."""
        words = [sys.executable, "-m", "pipeline_guard.cli", "serve"]
        words += ["--config", source]
        while True:
            self._server_starts += 1
            self._server = await asyncio.create_subprocess_exec(
                *words, stdin=subprocess.DEVNULL, env=dict(os.environ)
            )
            await self._server.wait()
            await asyncio.sleep(_PAUSES_S[min(self._server_starts, len(_PAUSES_S)) - 1])

    async def _end_server(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeping
            self._keeping = None
        server = self._server
        if server is None or server.returncode is not None:
            return
        server.terminate()
        try:
            await asyncio.wait_for(server.wait(), _END_S)
        except TimeoutError:
            server.kill()
            await server.wait()

    def _end_telling(self) -> None:
        if self._telling is not None:
            self._telling.close()


def _workflow(recovery: RecoverySettings) -> dict[str, Any]:
    return {
        "component": recovery.on.component,
        "fault": recovery.on.fault.value if recovery.on.fault else None,
        "steps": [
            {
                "type": step.type,
                "timeout_seconds": step.timeout_s,
                "rollback": [undo.type for undo in step.rollback],
            }
            for step in recovery.steps
        ],
        "verified_within_seconds": recovery.verify.within_s,
    }
