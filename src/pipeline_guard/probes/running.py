"""Processes: whether one runs, how it ended, and whether the kernel killed it for memory."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

from pipeline_guard.config.values import Within
from pipeline_guard.model import Fault, Moment, Pace, Reading
from pipeline_guard.probes.inputs import critical, ok, refused, unknown, why
from pipeline_guard.processes import Ending, ProcessName, boot_id, ending_of, read_pid_file

_GROUPS: Final = Path("/sys/fs/cgroup")
_KILLED: Final = 9


@dataclass(slots=True)
class _Watched:
    """The process that was seen last, its control group, and how often memory had run out there."""

    name: ProcessName | None = None
    group: Path | None = None
    kills: int = 0


@dataclass(frozen=True, kw_only=True)
class ProcessProbe:
    """A process: it runs, or how it ended.

    ==============================  =============================================================
    the process                     is
    ==============================  =============================================================
    runs                            well
    ended with code 0               well where `may_end`, else critical
    ended with another code         critical; `exit_faults` says which fault that is
    was killed by a signal          critical; out of memory where the kernel counted a kill for
                                    memory in its control group since the look before
    is gone, nobody knows how       critical: it was no child of the guard
    has a damaged or no pid file    unknown
    ==============================  =============================================================

    The end of a child is known at once with `watch_s`: the look waits so long for it.

    Args:
        pid_file: names the process: as the guard writes it, or a number alone.
        may_end: an exit with code 0 is what it should do.
        exit_faults: the class of fault by exit code: `{"77": accelerator_out_of_memory}`.
        watch_s: a look waits so long for the end; give the check a longer timeout.
        groups: where control groups are; only tests name another folder.
    """

    pace: ClassVar[Pace] = Pace(1.0)

    pid_file: Path
    may_end: bool = True
    exit_faults: Mapping[str, Fault] = field(default_factory=dict)
    watch_s: Annotated[float, Within(0, 3600)] = 0.0
    groups: Path = field(default=_GROUPS, metadata={"is_internal": True})
    _seen: _Watched = field(default_factory=_Watched, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse what is no exit code."""
        for code in self.exit_faults:
            if not code.isdecimal() or not 0 < int(code) < 256:
                raise refused("exit_faults", code, "exit codes from 1 to 255 as keys")

    async def look(self, moment: Moment) -> Reading:
        """Look whether it runs; with `watch_s`, wait for its end first."""
        evidence: dict[str, Any] = {"pid_file": str(self.pid_file)}
        found = _named(self.pid_file, evidence)
        if isinstance(found, Reading):
            return found
        name = found
        if name is None:
            return critical("its id belongs to no process now", Fault.CRASH, evidence=evidence)
        if not name.is_visible:
            return _of_another_place(name, evidence)
        evidence["pid"] = name.pid
        self._note(name)
        if self.watch_s > 0 and name.is_alive():
            await _ended_within(name, self.watch_s)
        if name.is_alive():
            return ok(f"process {name.pid} runs", evidence=evidence)
        return self._ended(name, evidence)

    def _note(self, name: ProcessName) -> None:
        """Remember where its kills for memory are counted, while it is there to say so."""
        if self._seen.name == name and self._seen.group is not None:
            if name.is_alive():
                self._seen.kills = kills_in(self._seen.group) or 0
            return
        self._seen.name = name
        self._seen.group = group_of(name.pid, self.groups)
        self._seen.kills = 0 if self._seen.group is None else kills_in(self._seen.group) or 0

    def _ended(self, name: ProcessName, evidence: dict[str, Any]) -> Reading:
        ending = ending_of(name.pid)
        if ending is not None:
            evidence |= {"exit_code": ending.code, "signal": ending.signal}
        kills = None if self._seen.group is None else kills_in(self._seen.group)
        by_memory = kills is not None and kills > self._seen.kills
        if by_memory:
            evidence["oom_kills"] = (kills or 0) - self._seen.kills
        if by_memory and (ending is None or ending.signal == _KILLED):
            words = f"process {name.pid} was killed by the kernel: out of memory"
            return critical(words, Fault.OUT_OF_MEMORY, evidence=evidence)
        if ending is None:
            return critical(f"process {name.pid} is gone", Fault.CRASH, evidence=evidence)
        if ending.code == 0 and self.may_end:
            return ok(f"process {name.pid} ended with exit code 0", evidence=evidence)
        return critical(
            f"process {name.pid} ended: {ending.text}", self._fault(ending), evidence=evidence
        )

    def _fault(self, ending: Ending) -> Fault:
        return self.exit_faults.get(str(ending.code), Fault.CRASH)


def _named(pid_file: Path, evidence: dict[str, Any]) -> ProcessName | Reading | None:
    """The process that the file names, or why there is none."""
    try:
        return read_pid_file(pid_file)
    except FileNotFoundError:
        return unknown(f"{pid_file.name} is not there: it was not started", evidence=evidence)
    except OSError as error:
        return unknown(f"{pid_file.name} cannot be read: {why(error)}", evidence=evidence)
    except ValueError as error:
        return unknown(str(error), evidence=evidence)


def _of_another_place(name: ProcessName, evidence: dict[str, Any]) -> Reading:
    if name.boot != boot_id():
        return critical("it was started before this boot", Fault.CRASH, evidence=evidence)
    words = "it was started in another container: use its heartbeat"
    return unknown(words, evidence=evidence)


def group_of(pid: int, groups: Path = _GROUPS) -> Path | None:
    """The folder of a process's control group that counts memory: version 2, or 1; or none."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return None
    return group_from(lines, groups)


def group_from(lines: list[str], groups: Path) -> Path | None:
    """The same, from the lines of /proc/PID/cgroup."""
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "memory" in controllers.split(","):
            found = groups / "memory" / path.lstrip("/")
        elif number == "0" and not controllers:
            found = groups / path.lstrip("/")
        else:
            continue
        if kills_in(found) is not None:
            return found
    return None


def kills_in(group: Path) -> int | None:
    """How many processes of a control group were killed for memory; `None`: it does not say.

    Source: Linux kernel, cgroup-v2 `memory.events` and cgroup-v1 `memory.oom_control`.
    """
    for name in ("memory.events", "memory.oom_control"):
        try:
            text = (group / name).read_text()
        except OSError:
            continue
        for line in text.splitlines():
            word, _, value = line.partition(" ")
            if word == "oom_kill" and value.strip().isdecimal():
                return int(value)
    return None


async def _ended_within(name: ProcessName, seconds: float) -> None:
    """Wait for the end of a process without a thread."""
    loop = asyncio.get_running_loop()
    with name.opened() as descriptor:
        if descriptor is None:
            return
        ended = asyncio.Event()
        loop.add_reader(descriptor, ended.set)
        try:
            async with asyncio.timeout(seconds):
                await ended.wait()
        except TimeoutError:
            return
        finally:
            loop.remove_reader(descriptor)
