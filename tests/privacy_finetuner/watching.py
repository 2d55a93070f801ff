"""A guard that really runs and its real server, for tests of what the service says of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from pipeline_guard.app.server import application
from pipeline_guard.app.tokens import READ, Tokens
from pipeline_guard.app.views import StateView
from pipeline_guard.config import GuardConfig, read_config
from pipeline_guard.errors import MonitoringError
from pipeline_guard.guard import SelfHealingPipelineGuard
from privacy_runtime.http.server import PatientConfig, ServerOptions
from privacy_runtime.world import SystemClock

CONFIGURATION = """\
version: 1
mode: suggest
defaults: {interval: 50ms, timeout: 5s, for: 1, clear_after: 2, grace_after_start: 0s}
kill_switch: guard.stop
components:
  storage: {description: the disk that runs are written to}
  trainer: {depends_on: [storage]}
checks:
  - id: disk
    component: storage
    type: disk
    path: .
    warn_free: 1
    crit_free: 1
    runbook: docs/runbooks/disk_full.md
  - {id: runs, component: trainer, type: disk, path: ., warn_free: 0, crit_free: 0}
recoveries:
  - on: {component: storage, fault: disk_full}
    steps: [{clean: {root: ., patterns: ["old/*.log"]}}]
    verify: {check: disk, within: 5s}
http: {jwt_key: a-secret-of-these-tests-and-of-nobody-else-in-the-world}
store: {path: guard.db, metrics: metrics.db}
"""
"""A disk that is always too full, one that never is, and a recovery that only suggests."""


def configured(folder: Path) -> GuardConfig:
    """The configuration, written into a folder."""
    path = folder / "guard.yaml"
    path.write_text(CONFIGURATION)
    return read_config(path)


def token(config: GuardConfig, scope: str = READ) -> str:
    """A token of that guard, as `pipeline-guard token` makes them."""
    now = SystemClock().now()
    return Tokens(config.http).issue("dashboard", frozenset({scope}), now, timedelta(hours=1))


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that has no event, for twenty seconds at most."""
    for _ in range(2000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not come to pass within 20 s")


@contextmanager
def watching(config: GuardConfig) -> Iterator[SelfHealingPipelineGuard]:
    """A guard that has found its disk full and said what it would do; it ends with the block."""
    guard, over = SelfHealingPipelineGuard(config=config), threading.Event()

    async def main() -> None:
        await guard.start_monitoring()
        await asyncio.to_thread(over.wait)
        guard.stop_monitoring()
        await guard.wait_stopped()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    try:
        until(lambda: _has_suggested(config) or not thread.is_alive())
        yield guard
    finally:
        over.set()
        thread.join()


def _has_suggested(config: GuardConfig) -> bool:
    """Whether the guard's file says so, which is what its server reads."""
    state = StateView(config.beside(config.store.path), SystemClock())
    try:
        return bool(state.status()["alerts"]) and any(each["actions"] for each in state.alerts())
    except MonitoringError:  # there is no state yet
        return False


@contextmanager
def answering(app: ASGIApp) -> Iterator[str]:
    """An application on a port of the loopback; its address."""
    server = uvicorn.Server(PatientConfig(app, ServerOptions(port=0)))
    thread = threading.Thread(target=asyncio.run, args=(server._serve(),))
    thread.start()
    try:
        until(lambda: server.started or not thread.is_alive())
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def served(config: GuardConfig, clock: Any = None) -> Iterator[str]:
    """The server of `pipeline-guard serve` over that guard's files; its address."""
    app, collector = application(config, clock=clock or SystemClock())
    with collector, answering(app) as address:
        yield address
