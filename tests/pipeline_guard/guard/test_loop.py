"""The real loop, with real threads and its real file: heals, refuses, survives, never hangs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.pipeline_guard.guarding import Doing, Refusing, config, failing, plan_of, recovery

from pipeline_guard.config import GuardConfig, Mode, Step, StoreSettings
from pipeline_guard.errors import MonitoringError
from pipeline_guard.guard import SelfHealingPipelineGuard
from pipeline_guard.guard.events import Event, Happening
from pipeline_guard.guard.records import broken_at, connect, events_of
from pipeline_guard.model import HealthStatus, PipelineComponent, Reading, Verdict

CUSTOM = PipelineComponent.CUSTOM


class Told(list[Event]):
    """Everything that an observer heard."""

    def __call__(self, events: Any, watch: Any) -> None:
        self.extend(events)

    def kinds(self) -> list[str]:
        return [event.kind.value for event in self]


def guard(folder: Path, **more: Any) -> tuple[SelfHealingPipelineGuard, Told]:
    made = config(store=StoreSettings(path=folder / "guard.db"), **more)
    found, told = SelfHealingPipelineGuard(config=made, variables={}), Told()
    found.add_observer(told)
    return found, told


async def until(condition: Callable[[], bool], within_s: float = 20.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.01)


def guarded(
    found: SelfHealingPipelineGuard, during: Callable[[], Awaitable[None]]
) -> dict[str, Any]:
    async def main() -> dict[str, Any]:
        await found.start_monitoring()
        await during()
        status = found.get_system_status()
        found.stop_monitoring()
        await found.wait_stopped()
        return status

    return asyncio.run(main())


def test_a_fault_is_found_healed_and_proven_healed_by_the_same_check(tmp_path: Path) -> None:
    found, told = guard(tmp_path)
    ill = [True]

    def heal(alert: Any) -> bool:
        ill[0] = False
        return bool(alert.id)

    found._add_custom_health_check(CUSTOM, "custom", lambda: not ill[0], 0.05)
    found.recovery_strategies[CUSTOM] = heal

    async def during() -> None:
        await until(lambda: Happening.HEALED.value in told.kinds())
        alert = found.alerts(with_resolved=True)[0]
        assert alert.resolved
        assert alert.resolution_action == "custom.function"
        assert [action["action"] for action in alert.actions] == [
            "acting", "step", "applied", "healed",
        ]  # fmt: skip

    status = guarded(found, during)

    assert status["overall_health"] == "healthy"
    assert told.kinds()[:3] == ["started", "opened", "acting"]
    assert told.kinds()[-1] == "stopped"


def test_a_probe_that_hangs_is_unknown_and_hangs_nobody_else(tmp_path: Path) -> None:
    found, _ = guard(tmp_path)
    release, looks = threading.Event(), [0]

    def hang() -> bool:
        release.wait(30)
        return True

    def count() -> bool:
        looks[0] += 1
        return True

    for number in range(3):
        found._add_custom_health_check("storage", f"hangs{number}", hang, 0.1)
        check = found._plan.checks[f"hangs{number}"]
        found._plan.checks[check.id] = type(check)(
            **{n: getattr(check, n) for n in ("id", "subject", "rule", "interval_s", "probe")},
            timeout_s=0.2,
        )
    found._add_custom_health_check("trainer", "counts", count, 0.05)

    async def during() -> None:
        await until(lambda: found.get_system_status()["guard"]["hanging_probes"] == 3)
        before, threads = looks[0], threading.active_count()
        await until(lambda: looks[0] >= before + 10)
        assert threading.active_count() <= threads + 1
        checks = found.get_system_status()["components"]["storage"]["checks"]
        assert {each["newest"] for each in checks.values()} == {"unknown"}
        release.set()

    guarded(found, during)


def test_what_a_probe_raises_is_unknown_and_quotes_nothing(tmp_path: Path) -> None:
    found, told = guard(tmp_path)

    def broken() -> bool:
        raise ValueError("patient 4711")

    found._add_custom_health_check(CUSTOM, "broken", broken, 0.05)

    async def during() -> None:
        await until(lambda: "opened" in told.kinds())

    status = guarded(found, during)

    assert status["overall_health"] == "degraded"
    opened = next(event for event in told if event.kind is Happening.OPENED)
    assert opened.text == "the probe failed with ValueError"


def test_a_coroutine_is_looked_at_on_the_loop(tmp_path: Path) -> None:
    found, _ = guard(tmp_path)
    names: set[str] = set()

    async def look() -> HealthStatus:
        names.add(threading.current_thread().name)
        return HealthStatus.DEGRADED

    found._add_custom_health_check(CUSTOM, "coroutine", look, 0.05)

    async def during() -> None:
        await until(lambda: found.get_system_status()["overall_health"] == "degraded")

    guarded(found, during)
    assert names == {"MainThread"}


def planned(folder: Path, remedy: Doing, **more: Any) -> tuple[SelfHealingPipelineGuard, Told]:
    """A guard with one recovery of `trainer`, whose check is critical from the start."""
    store = StoreSettings(path=folder / "guard.db")
    made = config([recovery(fault=None, name="mend", **more)], store=store)

    class Ill:
        def look(self, moment: Any) -> Reading:
            return Reading(verdict=Verdict.CRITICAL, summary="ill")

    found = SelfHealingPipelineGuard(config=GuardConfig(store=store), variables={})
    found._plan = plan_of(made, {"trainer": Ill()}, remedy)
    check = found._plan.checks["trainer.check"]
    found._plan.checks["trainer.check"] = type(check)(
        **{n: getattr(check, n) for n in ("id", "subject", "rule", "probe", "timeout_s")},
        interval_s=0.05,
    )
    told = Told()
    found.add_observer(told)
    return found, told


def test_a_gate_that_refuses_ends_it_before_anything_is_changed(tmp_path: Path) -> None:
    remedy, gate = Doing(), Refusing()
    found, told = planned(tmp_path, remedy)
    found.add_gate(gate)

    async def during() -> None:
        await until(lambda: "escalated" in told.kinds())

    status = guarded(found, during)

    assert remedy.asked == []
    assert gate.asked == ["doing"]
    assert status["overall_health"] == "failed"
    escalated = next(event for event in told if event.kind is Happening.ESCALATED)
    assert escalated.text == gate.reason


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.SUGGEST])
def test_without_leave_to_act_it_only_says_what_it_would_do(tmp_path: Path, mode: Mode) -> None:
    remedy = Doing()
    found, told = planned(tmp_path, remedy, mode=mode)
    word = "noted" if mode is Mode.OBSERVE else "suggested"

    async def during() -> None:
        await until(lambda: word in told.kinds())
        await asyncio.sleep(0.3)

    guarded(found, during)

    assert remedy.asked == []
    assert told.kinds().count(word) == 1
    said = next(event for event in told if event.kind.value == word)
    assert said.text == "would do what the test says"


def test_a_failed_step_undoes_those_before_it(tmp_path: Path) -> None:
    steps = (
        Step(type="first", rollback=(Step(type="undo"),)),
        Step(type="second"),
    )
    calls: list[int] = []

    def second_fails(case: Any) -> None:
        calls.append(len(calls))
        if len(calls) == 2:
            failing(case)

    found, told = planned(tmp_path, Doing(second_fails), steps=steps)

    async def during() -> None:
        await until(lambda: "not_healed" in told.kinds())

    guarded(found, during)

    order = [event.kind.value for event in told if event.kind.value not in ("opened", "held")]
    assert order[1:8] == [
        "acting", "step", "applied", "step", "step", "applied", "rolled_back",
    ]  # fmt: skip
    rolled = next(event for event in told if event.kind is Happening.ROLLED_BACK)
    assert rolled.text == "undo undid first"


def test_what_cannot_be_written_down_is_not_begun(tmp_path: Path) -> None:
    remedy = Doing()
    found, _ = planned(tmp_path, remedy)

    async def during() -> None:
        assert found._running is not None
        found._running.records._connection.execute("DROP TABLE attempts")
        await until(lambda: found.get_system_status()["guard"]["state_fault"] is not None)
        await asyncio.sleep(0.2)

    guarded(found, during)
    assert remedy.asked == []


def test_events_are_chained_and_a_change_is_found(tmp_path: Path) -> None:
    found, _ = guard(tmp_path)
    found._add_custom_health_check(CUSTOM, "well", lambda: False, 0.05)

    async def during() -> None:
        await until(lambda: found.get_system_status()["overall_health"] == "critical")

    guarded(found, during)
    with closing(connect(tmp_path / "guard.db")) as connection:
        assert broken_at(connection) is None
        connection.execute("UPDATE events SET body = replace(body, 'critical', 'healthy')")
        assert broken_at(connection) == 2


def test_two_guards_do_not_share_a_state(tmp_path: Path) -> None:
    one, _ = guard(tmp_path)
    other, _ = guard(tmp_path)

    async def during() -> None:
        with pytest.raises(MonitoringError, match="another guard"):
            await other.start_monitoring()

    guarded(one, during)


def test_systemd_hears_ready_watchdog_and_stopping(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as heard:
        heard.bind(address)
        found = SelfHealingPipelineGuard(
            config=GuardConfig(store=StoreSettings(path=tmp_path / "guard.db")),
            variables={"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "200000"},
        )

        async def during() -> None:
            await asyncio.sleep(1.2)

        guarded(found, during)
        heard.setblocking(False)
        lines: list[str] = []
        with suppress(BlockingIOError):
            while True:
                lines.append(heard.recv(100).decode())

    assert lines[0] == "READY=1"
    assert lines[-1] == "STOPPING=1"
    assert lines.count("WATCHDOG=1") >= 2


# Processes that are killed.

_WORKER = """
import asyncio, os, signal, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from pipeline_guard.config import *
from pipeline_guard.guard import SelfHealingPipelineGuard
from pipeline_guard.config import GuardConfig, StoreSettings, Defaults

folder = Path(sys.argv[1])
guard = SelfHealingPipelineGuard(config=GuardConfig(
    store=StoreSettings(path=folder / "guard.db"),
    defaults=Defaults(for_=2, clear_after=2, grace_after_start_s=0.0)), variables={{}})
guard.check("custom", name="ill", interval_s=0.05)(lambda: False)

@guard.recovery("custom", cooldown_s=60.0)
def mend(alert):
    with (folder / "ran").open("a") as file:
        file.write("ran\\n")
    if sys.argv[2] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return True

print("up", flush=True)
guard.run()
"""


def worker(folder: Path, how: str) -> subprocess.Popen[str]:
    code = _WORKER.format(root=str(Path(__file__).parents[3]))
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder), how], stdout=subprocess.DEVNULL, text=True
    )


def kinds_in(path: Path) -> list[str]:
    with closing(connect(path)) as connection:
        return [event.kind.value for event in events_of(connection)]


def test_a_recovery_under_way_at_kill_minus_nine_is_found_and_not_repeated(tmp_path: Path) -> None:
    first = worker(tmp_path, "die")
    assert first.wait(30) == -signal.SIGKILL
    second = worker(tmp_path, "live")

    async def seen() -> None:
        await until(lambda: "interrupted" in kinds_in(tmp_path / "guard.db"))
        await asyncio.sleep(1.0)

    asyncio.run(seen())
    os.kill(second.pid, signal.SIGTERM)
    assert second.wait(30) == 0

    assert (tmp_path / "ran").read_text().splitlines() == ["ran"]
    kinds = kinds_in(tmp_path / "guard.db")
    assert kinds.count("acting") == 1
    assert kinds[-1] == "stopped"
    with closing(connect(tmp_path / "guard.db")) as connection:
        assert broken_at(connection) is None
        (body,) = connection.execute("SELECT body FROM status").fetchone()
    assert json.loads(body)["overall_health"] == "recovering"
