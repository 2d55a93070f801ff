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

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from signal import SIGABRT, SIGKILL, SIGSTOP, Signals
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
from pipeline_guard.rehearsal.stage import (
    Program,
    Repertoire,
    Scene,
    answers,
    free_port,
    guard_config,
    recovery,
)
from pipeline_guard.rehearsal.subjects import Factory, Subject

_STEP: Final = 10
_CHECKPOINTS: Final = 2
"""The fault comes once the training is so far; one checkpoint may be damaged, the other is left."""
_WRITER: Final = (
    "import pathlib, sys, time\n"
    "while True:\n"
    "    pathlib.Path(sys.argv[1]).write_text(str(time.time()))\n"
    "    time.sleep(0.2)\n"
)
_POLL_S: Final = 0.02


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
        inject: Callable[[], float | None],
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
        config = guard_config(
            {"trainer": {"settings": settings}},
            [progress, checkpoints],
            [recovery("trainer", fault, does, "trainer.progress") for fault, does in steps.items()],
        )
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

    def hurt(self, number: Signals) -> Callable[[], None]:
        """Send it a signal."""
        return lambda: signalled(self._pid_file, number)

    def corrupted(self) -> None:
        """Damage its newest checkpoint, and kill it."""
        flipped(newest_weights(self._subject.run))
        signalled(self._pid_file, SIGKILL)

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
        written = len(list(self._subject.run.glob("checkpoint-*")))
        return pulse is not None and (pulse.step or 0) >= _STEP and written >= _CHECKPOINTS

    def _await_injury(self) -> float:
        """It hurts itself: wait until it says so; returns when that was."""
        while True:
            pulse = self.pulse()
            if pulse is not None and (not pulse.is_finite or pulse.ended is not None):
                return pulse.progress_s
            self._require_alive(pulse)
            time.sleep(_POLL_S)

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
        name = processes.read_pid_file(self._pid_file) if self._pid_file.exists() else None
        if name is not None and name.is_alive():
            name.send(SIGKILL, to_group=name.leads_group())
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
    clean = {"root": str(disk.folder), "patterns": ["dumps/*"], "older_than": "1ms"}
    scene.config["recoveries"].insert(
        0, recovery("storage", Fault.DISK_FULL, [{"clean": clean}], "storage.disk")
    )
    ended = scene.end

    def end() -> None:
        ended()
        disk.unmount()

    scene.end = end
    return scene


def dead_endpoint(folder: Path) -> Scene:
    """A server is killed."""
    port = free_port()
    program = Program(folder, (sys.executable, "-m", "http.server", str(port), "--bind",
                               "127.0.0.1", "--directory", str(folder)))  # fmt: skip
    check = {"id": "server.answers", "component": "server", "type": "http",
             "url": f"http://127.0.0.1:{port}/", "answer": "2s"}  # fmt: skip
    does = recovery("server", Fault.DEAD_ENDPOINT, ["start"], "server.answers")
    config = guard_config({"server": {"settings": program.settings()}}, [check], [does])
    return Scene(
        name="dead_endpoint",
        faults=frozenset({Fault.DEAD_ENDPOINT}),
        config=config,
        start=program.start,
        is_ready=lambda: answers(port),
        inject=lambda: program.send(SIGKILL),
        is_over=lambda: answers(port),
        end=program.end,
    )


def stale_data(folder: Path) -> Scene:
    """What keeps a file fresh stops."""
    path = folder / "rows.json"
    program = Program(folder, (sys.executable, "-c", _WRITER, str(path)))
    check = {"id": "data.fresh", "component": "data", "type": "freshness", "path": str(path),
             "warn": "1s", "crit": "2s"}  # fmt: skip
    does = recovery("data", Fault.STALE_DATA, [{"restart": {"grace": "1s"}}], "data.fresh")
    config = guard_config({"data": {"settings": program.settings()}}, [check], [does])
    return Scene(
        name="stale_data",
        faults=frozenset({Fault.STALE_DATA}),
        config=config,
        start=program.start,
        is_ready=path.exists,
        inject=lambda: program.send(SIGSTOP),
        is_over=program.is_alive,
        end=program.end,
    )


def export_failed(subject: Subject, folder: Path) -> Scene:
    """A bit of an export changes; it is made again from its source."""
    check = {"id": "export.answers", "component": "mobile_export", "type": "command",
             "command": list(subject.export_check), "answer": "120s", "fault": "export_failed",
             "timeout": "130s", "for": 1, "clear_after": 1}  # fmt: skip
    again = {"command": {"command": list(subject.export_command)}}
    does = recovery("mobile_export", Fault.EXPORT_FAILED, [again], "export.answers")
    config = guard_config({"mobile_export": {}}, [check], [does])

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


def training_scenes(factory: Factory) -> Repertoire:
    """Every scene of a training.

    Args:
        factory: makes the subject.
    """

    def training(folder: Path) -> Training:
        return Training(factory(folder), folder)

    def hurt(name: str, fault: Fault, steps: Sequence[Any], number: Any, folder: Path) -> Scene:
        it = training(folder)
        does = {fault: list(steps), Fault.CRASH: ["resume_training"]}
        return it.scene(name, fault, inject=it.hurt(number), steps=does)

    def injured(name: str, fault: Fault, steps: Sequence[Any], folder: Path) -> Scene:
        it = training(folder)
        does = {fault: list(steps), Fault.CRASH: ["resume_training"]}
        return it.scene(name, fault, inject=lambda: None, steps=does, injury=fault)

    def corrupt(folder: Path) -> Scene:
        it = training(folder)
        does: dict[Fault, list[Any]] = {
            Fault.CORRUPT_CHECKPOINT: ["quarantine_checkpoint"],
            Fault.CRASH: ["restore_last_verified", "resume_training"],
        }
        return it.scene(
            "corrupt_checkpoint",
            Fault.CORRUPT_CHECKPOINT,
            Fault.CRASH,
            inject=it.corrupted,
            steps=does,
        )

    def full(folder: Path) -> Scene:
        disk = SmallDisk.mounted(folder / "disk")
        try:
            return disk_full(Training(factory(disk.folder), folder), disk)
        except BaseException:
            disk.unmount()
            raise

    resume = ["resume_training"]
    stop = ["capture_stacks", {"terminate": {"grace": "1s"}}, "resume_training"]
    return {
        "crash": partial(hurt, "crash", Fault.CRASH, resume, SIGABRT),
        "kill": partial(hurt, "kill", Fault.CRASH, resume, SIGKILL),
        "hang": partial(hurt, "hang", Fault.HANG, stop, SIGSTOP),
        "not_finite": partial(
            injured, "not_finite", Fault.NOT_FINITE, ["restore_last_verified", "resume_training"]
        ),
        "out_of_memory": partial(
            injured, "out_of_memory", Fault.OUT_OF_MEMORY, ["halve_micro_batch", "resume_training"]
        ),
        "corrupt_checkpoint": corrupt,
        "disk_full": full,
        "dead_endpoint": dead_endpoint,
        "stale_data": stale_data,
        "export_failed": lambda folder: export_failed(factory(folder), folder),
    }


def _run(command: tuple[str, ...], folder: Path) -> None:
    done = subprocess.run(  # noqa: S603 -- the subject's own program
        command, capture_output=True, text=True, cwd=folder, check=False
    )
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:]
        raise Impossible(f"{Path(command[0]).name} ended with {done.returncode}: {last}")
