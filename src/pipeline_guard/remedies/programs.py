"""Programs: start, stop, restart, resume."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from pipeline_guard import processes
from pipeline_guard.config.values import POSITIVE
from pipeline_guard.heartbeat.pulses import read_pulse
from pipeline_guard.model import Applied, Case
from pipeline_guard.processes import ProcessName
from pipeline_guard.remedies.actions import (
    command_setting,
    locked,
    needs,
    path_setting,
    process_of,
    refusal,
)
from pipeline_guard.remedies.options import read_overrides, with_overrides

Span = Annotated[float, POSITIVE]
_KEPT_S: Final = 1.0


@dataclass(frozen=True, kw_only=True)
class Start:
    """Start the component's program, detached, in a session of its own.

    Refused while it runs. Changed options (`halve_micro_batch`) take the place of those in the
    command. It is watched by its pid file, which says process id, start time and boot.

    Args:
        command: the program and its arguments; no shell. Setting `command`.
        pid_file: is written. Setting `pid_file`.
        log: what it prints is appended. Setting `log`; without, it is thrown away.
        folder: its working folder. Setting `folder`.
    """

    command: tuple[str, ...] = ()
    pid_file: Path | None = None
    log: Path | None = None
    folder: Path | None = None

    def objection(self, case: Case) -> str | None:
        """Refuse without a command, and while it runs."""
        if not command_setting(case, self.command, "command"):
            return needs("command")
        pid_file = path_setting(case, self.pid_file, "pid_file")
        if pid_file is None:
            return needs("pid_file")
        running = process_of(pid_file, None)
        return None if running is None else f"it runs already, as process {running.pid}"

    def intent(self, case: Case) -> str:
        """Which program."""
        command = command_setting(case, self.command, "command")
        return f"start {Path(command[0]).name if command else 'nothing'}"

    def apply(self, case: Case, within_s: float) -> Applied:
        """Start it."""
        command = command_setting(case, self.command, "command")
        return start_program(case, command, self.pid_file, self.log, self.folder)


@dataclass(frozen=True, kw_only=True)
class ResumeTraining:
    """Start a training again where it stopped, from its last verified checkpoint.

    The command is one that resumes (`privacy-finetuner train ... --resume`): what was charged stays
    charged, and the trainer itself verifies the checkpoint that it loads. Run
    `restore_last_verified` before it.

    A process whose heartbeat says that it ended may still be on its way out: it is waited for.

    Args:
        command: the program and its arguments. Setting `resume_command`.
        run: the run's folder, which must be there. Setting `run`.
        pid_file: is written. Setting `pid_file`.
        log: what it prints is appended. Setting `log`.
        folder: its working folder. Setting `folder`.
        leave_s: a process that said that it ended must be gone within this time.
    """

    command: tuple[str, ...] = ()
    run: Path | None = None
    pid_file: Path | None = None
    log: Path | None = None
    folder: Path | None = None
    leave_s: Span = 30.0

    def objection(self, case: Case) -> str | None:
        """Refuse without a run to resume, and while one is under way."""
        if not command_setting(case, self.command, "resume_command"):
            return needs("resume_command")
        run, pid_file = (
            path_setting(case, self.run, "run"),
            path_setting(case, self.pid_file, "pid_file"),
        )
        if run is None or pid_file is None:
            return needs("run" if run is None else "pid_file")
        if not run.is_dir():
            return f"{run.name} is not there: there is nothing to resume"
        running = process_of(pid_file, run / "heartbeat.json")
        if running is None or _is_leaving(running, run):
            return None
        return f"it runs already, as process {running.pid}"

    def intent(self, case: Case) -> str:
        """Which run."""
        run = path_setting(case, self.run, "run")
        return f"resume the training in {run.name if run else 'an unknown folder'}"

    def apply(self, case: Case, within_s: float) -> Applied:
        """Start it."""
        run, pid_file = (
            path_setting(case, self.run, "run"),
            path_setting(case, self.pid_file, "pid_file"),
        )
        leaving = None if run is None else process_of(pid_file, run / "heartbeat.json")
        if run is not None and leaving is not None and _is_leaving(leaving, run):
            waits_s = max(0.0, min(self.leave_s, within_s - _KEPT_S))
            if not leaving.ended_within(waits_s):
                words = f"process {leaving.pid} said that it ended, and runs {waits_s:.0f} s later"
                raise refusal(words, "terminate it first; nothing was started")
        command = command_setting(case, self.command, "resume_command")
        return start_program(case, command, self.pid_file, self.log, self.folder)


@dataclass(frozen=True, kw_only=True)
class Terminate:
    """Stop the component's program: SIGTERM to its group, SIGKILL after a grace.

    The process is named by id, start time and boot, and the signal is sent through a descriptor of
    it: a process that got its id later is never hit. A trainer saves a checkpoint at SIGTERM.

    Args:
        grace_s: from SIGTERM to SIGKILL.
        pid_file: names it. Setting `pid_file`.
        heartbeat: names it where there is no pid file. Setting `heartbeat`.
    """

    grace_s: Span = 10.0
    pid_file: Path | None = None
    heartbeat: Path | None = None

    def objection(self, case: Case) -> str | None:
        """Refuse where nothing names it. One that is gone needs no signal: no objection."""
        running_of(case, self.pid_file, self.heartbeat)
        has_name = path_setting(case, self.pid_file, "pid_file") or path_setting(
            case, self.heartbeat, "heartbeat"
        )
        return None if has_name else needs("pid_file")

    def intent(self, case: Case) -> str:
        """Which process."""
        name = running_of(case, self.pid_file, self.heartbeat)
        which = "it (it is gone already)" if name is None else f"process {name.pid}"
        return f"terminate {which}, with SIGKILL after {self.grace_s:g} s"

    def apply(self, case: Case, within_s: float) -> Applied:
        """Stop it, and wait for its end."""
        name = running_of(case, self.pid_file, self.heartbeat)
        if name is None:
            return Applied(summary="it was gone already")
        with locked(f"process:{name.pid}:{name.started}"):
            return terminated(name, self.grace_s, within_s)


@dataclass(frozen=True, kw_only=True)
class Restart:
    """Stop the component's program if it runs, and start it.

    Args:
        command: the program and its arguments. Setting `command`.
        grace_s: from SIGTERM to SIGKILL.
        pid_file: names it, and is written. Setting `pid_file`.
        log: what it prints is appended. Setting `log`.
        folder: its working folder. Setting `folder`.
    """

    command: tuple[str, ...] = ()
    grace_s: Span = 10.0
    pid_file: Path | None = None
    log: Path | None = None
    folder: Path | None = None

    def objection(self, case: Case) -> str | None:
        """Refuse without a command."""
        if not command_setting(case, self.command, "command"):
            return needs("command")
        if path_setting(case, self.pid_file, "pid_file") is None:
            return needs("pid_file")
        running_of(case, self.pid_file, None)
        return None

    def intent(self, case: Case) -> str:
        """Which program."""
        command = command_setting(case, self.command, "command")
        return f"restart {Path(command[0]).name if command else 'nothing'}"

    def apply(self, case: Case, within_s: float) -> Applied:
        """Stop it, start it."""
        stopped = Terminate(grace_s=self.grace_s, pid_file=self.pid_file).apply(case, within_s)
        command = command_setting(case, self.command, "command")
        started = start_program(case, command, self.pid_file, self.log, self.folder)
        return Applied(
            summary=f"{stopped.summary}; {started.summary}",
            evidence={"stopped": dict(stopped.evidence), **started.evidence},
        )


def _is_leaving(process: ProcessName, run: Path) -> bool:
    """Whether a process has said, in the heartbeat of its run, that its work has ended."""
    try:
        pulse = read_pulse(run / "heartbeat.json")
    except (OSError, ValueError):
        return False
    return pulse.ended is not None and pulse.process == process


def start_program(
    case: Case,
    command: tuple[str, ...],
    pid_file: Path | None,
    log: Path | None,
    folder: Path | None,
) -> Applied:
    """Start a program and write its pid file.

    Raises:
        RecoveryError: it runs already, or cannot be started.
    """
    pid_file = path_setting(case, pid_file, "pid_file")
    if pid_file is None or not command:
        raise refusal(needs("command" if pid_file else "pid_file"))
    with locked(f"start:{pid_file}"):
        running = process_of(pid_file, None)
        if running is not None:
            raise refusal(f"it runs already, as process {running.pid}")
        try:
            command = with_overrides(command, read_overrides(pid_file))
            name = processes.start(
                command,
                log=path_setting(case, log, "log"),
                folder=path_setting(case, folder, "folder"),
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise refusal(f"{command[0]} cannot be started: {reason}") from error
        try:
            processes.write_pid_file(pid_file, name)
        except OSError as error:
            name.send(signal.SIGKILL, to_group=True)
            words = f"the pid file cannot be written: {error.strerror}"
            raise refusal(words, "the program was stopped again") from error
    return Applied(
        summary=f"started as process {name.pid}",
        evidence={"pid": name.pid, "started": name.started, "pid_file": str(pid_file)},
    )


def terminated(name: ProcessName, grace_s: float, within_s: float) -> Applied:
    """Stop a process and its group.

    Raises:
        RecoveryError: it may not be signalled, or did not end.
    """
    evidence = {"pid": name.pid, "started": name.started}
    try:
        name.send(signal.SIGTERM, to_group=True)
        words = f"process {name.pid} ended at SIGTERM"
        if not name.ended_within(min(grace_s, max(0.0, within_s - 2 * _KEPT_S))):
            name.send(signal.SIGKILL, to_group=True)
            words = f"process {name.pid} was killed after {grace_s:g} s"
            if not name.ended_within(_KEPT_S):
                raise refusal(
                    f"process {name.pid} does not end", "it waits in the kernel, signals are sent"
                )
    except PermissionError as error:
        raise refusal(f"process {name.pid} belongs to somebody else") from error
    processes.reap(name)
    return Applied(summary=words, evidence=evidence)


def running_of(case: Case, pid_file: Path | None, heartbeat: Path | None) -> ProcessName | None:
    """The component's process, by its pid file or its heartbeat; `None`: none runs."""
    return process_of(
        path_setting(case, pid_file, "pid_file"), path_setting(case, heartbeat, "heartbeat")
    )
