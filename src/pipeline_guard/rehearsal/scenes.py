"""One fault each: what runs, what the guard is told about it, and what is done to it.

==================  ================================================  =============================
fault               what is done                                      what the guard may do
==================  ================================================  =============================
crash               SIGABRT to the training                           resume it
kill                SIGKILL to the training                           resume it
hang                SIGSTOP to the training                           stacks, stop, resume
not_finite          a trained weight becomes NaN                      restore, resume
out_of_memory       its address space ends                            halve the micro-batch, resume
corrupt_checkpoint  a bit of the newest checkpoint; SIGKILL           restore, resume, set aside
disk_full           its disk (a small one) is filled up               clean; resume
dead_endpoint       SIGKILL to a server                               start it
stale_data          SIGSTOP to what writes the data                   restart it
export_failed       a bit of an export                                export again
==================  ================================================  =============================
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pipeline_guard import processes
from pipeline_guard.heartbeat.pulses import Ended, Pulse, read_pulse
from pipeline_guard.model import Fault
from pipeline_guard.rehearsal.injections import (
    Impossible,
    SmallDisk,
    filled,
    flipped,
    newest_weights,
    signalled,
)
from pipeline_guard.rehearsal.subjects import Subject

_STEP: Final = 30
"""The fault comes once the training is so far and has written a checkpoint."""
_WRITER: Final = (
    "import pathlib, sys, time\n"
    "while True:\n"
    "    pathlib.Path(sys.argv[1]).write_text(str(time.time()))\n"
    "    time.sleep(0.2)\n"
)
_DEFAULTS: Final = {
    "interval": "250ms",
    "timeout": "30s",
    "for": 2,
    "clear_after": 2,
    "grace_after_start": "0s",
}
_LIMITS: Final = {"cooldown": "0s", "max_attempts": 5, "window": "1h", "no_progress": 5}


@dataclass(slots=True, kw_only=True)
class Scene:
    """One fault, ready to be played.

    Attributes:
        name: of the fault, as the table above has it.
        faults: what the guard may call it.
        config: the guard's configuration, less `store`.
        start: start what is watched.
        is_ready: whether the fault may come.
        inject: do it.
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
    inject: Callable[[], None]
    is_over: Callable[[], bool]
    end: Callable[[], None]
    subject: Subject | None = None
    pulse: Callable[[], Pulse | None] = field(default=lambda: None)


class Training:
    """Scenes of a training that is hurt.

    Args:
        subject: the training.
        folder: for its pid file and its log.
    """

    def __init__(self, subject: Subject, folder: Path) -> None:
        self._subject, self._folder = subject, folder
        self._pid_file = folder / "trainer.pid"
        self._log = folder / "trainer.log"

    def scene(
        self,
        name: str,
        *faults: Fault,
        inject: Callable[[], None],
        steps: dict[Fault, list[Any]],
        injury: Fault | None = None,
    ) -> Scene:
        """A scene: what is done, and by which fault what steps heal it."""
        run = self._subject.run
        settings = {
            "pid_file": str(self._pid_file),
            "log": str(self._log),
            "run": str(run),
            "heartbeat": str(run / "heartbeat.json"),
            "resume_command": list(self._subject.command(is_resumed=True)),
            "command": list(self._subject.command(is_resumed=True)),
        }
        progress = {
            "id": "trainer.progress",
            "component": "trainer",
            "type": "heartbeat",
            "path": str(run / "heartbeat.json"),
            "sections": {"step": "4s", "checkpoint": "15s", "setup": "120s", "eval": "60s"},
            "other": "120s",
            "missing": "unknown",
        }
        checkpoints = {
            "id": "trainer.checkpoints",
            "component": "trainer",
            "type": "checkpoint",
            "run": str(run),
            "again": "1s",
        }
        config = _config({"trainer": {"settings": settings}}, [progress, checkpoints])
        config["recoveries"] = [
            _recovery("trainer", fault, does, "trainer.progress") for fault, does in steps.items()
        ]
        return Scene(
            name=name,
            faults=frozenset(faults),
            config=config,
            start=lambda: self._start(injury),
            is_ready=self._is_ready if injury is None else lambda: True,
            inject=inject if injury is None else self._await_injury,
            is_over=self._is_finished,
            end=self._end,
            subject=self._subject,
            pulse=self.pulse,
        )

    def hurt(self, number: signal.Signals) -> Callable[[], None]:
        """Send it a signal."""
        return lambda: signalled(self._pid_file, number)

    def corrupted(self) -> None:
        """Damage its newest checkpoint, and kill it."""
        flipped(newest_weights(self._subject.run))
        signalled(self._pid_file, signal.SIGKILL)

    def pulse(self) -> Pulse | None:
        """Its newest heartbeat; `None` where there is none yet."""
        try:
            return read_pulse(self._subject.run / "heartbeat.json")
        except (OSError, ValueError):
            return None

    def _start(self, injury: Fault | None) -> None:
        command = self._subject.command(is_resumed=False, injury=injury)
        name = processes.start(command, log=self._log, folder=self._folder)
        processes.write_pid_file(self._pid_file, name)

    def _is_ready(self) -> bool:
        pulse = self.pulse()
        self._require_alive(pulse)
        return pulse is not None and (pulse.step or 0) >= _STEP and (pulse.checkpoint or 0) > 0

    def _await_injury(self) -> None:
        """It hurts itself: wait until it says so."""
        while True:
            pulse = self.pulse()
            if pulse is not None and (not pulse.is_finite or pulse.ended is not None):
                return
            self._require_alive(pulse)

    def _require_alive(self, pulse: Pulse | None) -> None:
        name = processes.read_pid_file(self._pid_file)
        has_ended = name is None or not name.is_alive()
        if has_ended and (pulse is None or pulse.ended is not Ended.FAILED):
            lines = self._log.read_text(errors="replace").strip().splitlines()
            raise Impossible(f"the training ended before the fault: {lines[-1:] or 'no word'}")

    def _is_finished(self) -> bool:
        pulse = self.pulse()
        return pulse is not None and pulse.ended is Ended.FINISHED

    def _end(self) -> None:
        name = processes.read_pid_file(self._pid_file)
        if name is not None and name.is_alive():
            name.send(signal.SIGKILL, to_group=name.leads_group())
            name.ended_within(10)


def disk_full(training: Training, disk: SmallDisk) -> Scene:
    """The disk that the training writes to is filled up by somebody else's dump."""
    scene = training.scene(
        "disk_full",
        Fault.DISK_FULL,
        inject=lambda: filled(disk.folder / "dumps"),
        steps={Fault.DISK_FULL: ["resume_training"], Fault.CRASH: ["resume_training"]},
    )
    scene.config["components"]["storage"] = {}
    scene.config["components"]["trainer"]["depends_on"] = ["storage"]
    scene.config["checks"].append(
        {"id": "storage.disk", "component": "storage", "type": "disk", "path": str(disk.folder),
         "warn_free": 0.2, "crit_free": 0.1}
    )  # fmt: skip
    clean = {"root": str(disk.folder), "patterns": ["dumps/*"], "older_than": "0s"}
    scene.config["recoveries"].insert(
        0, _recovery("storage", Fault.DISK_FULL, [{"clean": clean}], "storage.disk")
    )
    ended = scene.end

    def end() -> None:
        ended()
        disk.unmount()

    scene.end = end
    return scene


def dead_endpoint(folder: Path) -> Scene:
    """A server is killed."""
    port = _free_port()
    program = _Program(folder, (sys.executable, "-m", "http.server", str(port), "--bind",
                                "127.0.0.1", "--directory", str(folder)))  # fmt: skip
    check = {"id": "server.answers", "component": "server", "type": "http",
             "url": f"http://127.0.0.1:{port}/", "answer": "2s"}  # fmt: skip
    config = _config({"server": {"settings": program.settings()}}, [check])
    config["recoveries"] = [_recovery("server", Fault.DEAD_ENDPOINT, ["start"], "server.answers")]
    return Scene(
        name="dead_endpoint",
        faults=frozenset({Fault.DEAD_ENDPOINT}),
        config=config,
        start=program.start,
        is_ready=lambda: _answers(port),
        inject=lambda: signalled(program.pid_file, signal.SIGKILL),
        is_over=lambda: _answers(port),
        end=program.end,
    )


def stale_data(folder: Path) -> Scene:
    """What keeps a file fresh stops."""
    path = folder / "rows.json"
    program = _Program(folder, (sys.executable, "-c", _WRITER, str(path)))
    check = {"id": "data.fresh", "component": "data", "type": "freshness", "path": str(path),
             "warn": "1s", "crit": "2s"}  # fmt: skip
    config = _config({"data": {"settings": program.settings()}}, [check])
    config["recoveries"] = [
        _recovery("data", Fault.STALE_DATA, [{"restart": {"grace": "1s"}}], "data.fresh")
    ]
    return Scene(
        name="stale_data",
        faults=frozenset({Fault.STALE_DATA}),
        config=config,
        start=program.start,
        is_ready=path.exists,
        inject=lambda: signalled(program.pid_file, signal.SIGSTOP),
        is_over=program.is_alive,
        end=program.end,
    )


def export_failed(subject: Subject, folder: Path) -> Scene:
    """A bit of an export changes; it is made again from its source."""
    check = {"id": "export.answers", "component": "mobile_export", "type": "command",
             "command": list(subject.export_check), "answer": "120s", "fault": "export_failed",
             "timeout": "130s", "for": 1, "clear_after": 1}  # fmt: skip
    again = {"command": {"command": list(subject.export_command)}}
    config = _config({"mobile_export": {}}, [check])
    config["recoveries"] = [
        _recovery("mobile_export", Fault.EXPORT_FAILED, [again], "export.answers")
    ]

    def made() -> None:
        _run(subject.export_command, folder)

    def is_sound() -> bool:
        done = subprocess.run(subject.export_check, capture_output=True, check=False)  # noqa: S603
        return done.returncode == 0

    return Scene(
        name="export_failed",
        faults=frozenset({Fault.EXPORT_FAILED}),
        config=config,
        start=made,
        is_ready=lambda: True,
        inject=lambda: flipped(subject.artefact),
        is_over=is_sound,
        end=lambda: None,
    )


class _Program:
    """A small program that the guard may start again."""

    def __init__(self, folder: Path, command: tuple[str, ...]) -> None:
        self.pid_file, self._folder, self._command = folder / "program.pid", folder, command

    def settings(self) -> dict[str, Any]:
        log = self._folder / "program.log"
        command = list(self._command)
        return {"pid_file": str(self.pid_file), "command": command, "log": str(log)}

    def start(self) -> None:
        name = processes.start(self._command, log=self._folder / "program.log")
        processes.write_pid_file(self.pid_file, name)

    def is_alive(self) -> bool:
        name = processes.read_pid_file(self.pid_file)
        return name is not None and name.is_alive()

    def end(self) -> None:
        name = processes.read_pid_file(self.pid_file)
        if name is not None and name.is_alive():
            name.send(signal.SIGKILL)
            name.ended_within(5)


def _config(components: dict[str, Any], checks: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "version": 1,
        "mode": "act",
        "defaults": dict(_DEFAULTS),
        "rate": {"actions": 20, "per": "1m"},
        "components": components,
        "checks": checks,
    }


def _recovery(component: str, fault: Fault, steps: list[Any], check: str) -> dict[str, Any]:
    return {
        "on": {"component": component, "fault": fault.value, "severity": "degraded"},
        "steps": steps,
        "mode": "act",
        "limits": dict(_LIMITS),
        "verify": {"check": check, "within": "120s"},
    }


def _run(command: tuple[str, ...], folder: Path) -> None:
    done = subprocess.run(  # noqa: S603 -- the subject's own program
        command, capture_output=True, text=True, cwd=folder, check=False
    )
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:]
        raise Impossible(f"{Path(command[0]).name} ended with {done.returncode}: {last}")


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
