"""A process by a name that is never given to another: its id, when it started, and in which boot.

A process id is reused. Whoever keeps one in a file and sends a signal later may hit a stranger. So
a process is named here by three things that together come only once, and every signal goes through
a descriptor of the process (`pidfd`), checked after it was opened. Linux only.

Source: proc(5), fields of /proc/PID/stat; pidfd_open(2).
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_STATE_FIELD: Final = 0  # after the name, which may hold spaces and parentheses
_GROUP_FIELD: Final = 2
_STARTED_FIELD: Final = 19
_children: dict[int, subprocess.Popen[bytes]] = {}
"""What this process has started. Kept, because a forgotten `Popen` reaps its child unseen."""


@dataclass(frozen=True, slots=True)
class ProcessName:
    """Which process, for ever.

    Attributes:
        pid: its id, in the namespace of process ids that `namespace` names.
        started: clock ticks from boot to its start.
        boot: of the machine's run in which it was started.
        namespace: of process ids; in another one `pid` means another process or none.
    """

    pid: int
    started: int
    boot: str
    namespace: str = ""

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """The name of the process that has this id now; `None` where there is none."""
        fields = stat_fields(pid)
        if fields is None:
            return None
        return cls(pid, int(fields[_STARTED_FIELD]), boot_id(), namespace_of_ids())

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        """From what `asdict` gives.

        Raises:
            ValueError: it is not that.
        """
        try:
            pid, started = document["pid"], document["started"]
            boot, namespace = document["boot"], document.get("namespace", "")
        except KeyError as error:
            raise ValueError(f"it lacks {error}") from error
        if not (type(pid) is int and type(started) is int and pid > 0):
            raise ValueError("pid and started are not whole numbers above 0")
        return cls(pid, started, str(boot), str(namespace))

    @property
    def is_visible(self) -> bool:
        """Whether this process could see it: the same boot and the same namespace of ids."""
        return self.boot == boot_id() and self.namespace in ("", namespace_of_ids())

    def is_alive(self) -> bool:
        """Whether it runs: not ended, not a zombie, and not another process with its id."""
        fields = stat_fields(self.pid)
        return (
            self.is_visible
            and fields is not None
            and int(fields[_STARTED_FIELD]) == self.started
            and fields[_STATE_FIELD] not in "ZX"
        )

    @contextmanager
    def opened(self) -> Iterator[int | None]:
        """A descriptor of the process itself, readable once it has ended; `None`: it is gone.

        The start time is looked at after the descriptor is open: what it names cannot change.
        """
        try:
            descriptor = os.pidfd_open(self.pid)
        except (ProcessLookupError, OSError):
            yield None
            return
        try:
            fields = stat_fields(self.pid)
            is_it = fields is not None and int(fields[_STARTED_FIELD]) == self.started
            yield descriptor if is_it and self.is_visible else None
        finally:
            os.close(descriptor)

    def send(self, number: signal.Signals, *, to_group: bool = False) -> bool:
        """Send a signal; returns whether the process was there to get it.

        Args:
            number: which.
            to_group: to its whole process group, if it leads one; otherwise to it alone.

        Raises:
            PermissionError: it belongs to somebody else.
        """
        with self.opened() as descriptor:
            if descriptor is None:
                return False
            if to_group and self.leads_group():
                with suppress(ProcessLookupError):
                    os.killpg(self.pid, number)
                return True
            try:
                signal.pidfd_send_signal(descriptor, number)
            except ProcessLookupError:
                return False
            return True

    def leads_group(self) -> bool:
        """Whether it is the leader of its process group, and not of ours."""
        fields = stat_fields(self.pid)
        return (
            fields is not None
            and int(fields[_GROUP_FIELD]) == self.pid
            and self.pid != os.getpgrp()
        )

    def catches(self, number: signal.Signals) -> bool:
        """Whether it does something of its own with a signal, instead of dying of it."""
        try:
            text = Path(f"/proc/{self.pid}/status").read_text(errors="replace")
        except OSError:
            return False
        for line in text.splitlines():
            word, _, mask = line.partition(":")
            if word == "SigCgt":
                return bool(int(mask, 16) >> (number - 1) & 1)
        return False

    def ended_within(self, seconds: float) -> bool:
        """Wait for its end; returns whether it came."""
        with self.opened() as descriptor:
            if descriptor is None:
                return True
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            return bool(poll.poll(max(0.0, seconds) * 1_000))


@dataclass(frozen=True, slots=True)
class Ending:
    """How a child ended: `code` of its exit, or `signal` that killed it."""

    code: int | None
    signal: int | None

    @property
    def text(self) -> str:
        """In words."""
        if self.signal is None:
            return f"exit code {self.code}"
        with suppress(ValueError):
            return f"signal {signal.Signals(self.signal).name}"
        return f"signal {self.signal}"


def ending_of(pid: int) -> Ending | None:
    """How a child of this process ended; `None`: it runs, or is not our child.

    The child is not reaped, so that others may ask too and its id is not given to another.
    """
    try:
        found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return _remembered(pid)
    if found is None:
        return None
    if found.si_code == os.CLD_EXITED:
        return Ending(found.si_status, None)
    return Ending(None, found.si_status)


def start(
    command: Sequence[str],
    *,
    log: Path | None = None,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> ProcessName:
    """Start a program as the leader of a session of its own. It outlives this process.

    Args:
        command: the program and its arguments; no shell reads them.
        log: where its output is appended; `None`: it is thrown away.
        folder: its working folder.
        environment: added to this process's.

    Raises:
        OSError: the system starts no process, or the log cannot be written.
    """
    output = os.open(
        log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
    )
    try:
        child = subprocess.Popen(  # noqa: S603 -- a list from the guard's own configuration
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    finally:
        os.close(output)
    _children[child.pid] = child
    name = ProcessName.of(child.pid)  # it is not reaped before `reap`: its id is its own
    if name is None:
        raise ProcessLookupError(f"{command[0]} ended before it could be named")
    return name


def reap(name: ProcessName) -> None:
    """Let go of a child that has ended, if it is one of ours."""
    child = _children.get(name.pid)
    if child is not None and child.poll() is not None:
        del _children[name.pid]


def read_pid_file(path: Path) -> ProcessName | None:
    """The process that a file names; `None` where the number in it belongs to nobody now.

    The file holds a document of `ProcessName`, as this program writes it, or a number alone, as
    others do. A number that was written before the process that has it now started is a leftover.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds neither.
    """
    with path.open("rb") as file:
        written_s = os.fstat(file.fileno()).st_mtime
        text = file.read(4_096).decode(errors="replace").strip()
    if text.isdecimal():
        name = ProcessName.of(int(text))
        if name is None or started_at_s(name) > written_s + 1:  # ticks and mtimes are coarse
            return None
        return name
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path.name} holds no process id") from error
    if not isinstance(document, dict):
        raise ValueError(f"{path.name} holds no process id")  # noqa: TRY004 -- of the file's content
    return ProcessName.read(document)


def write_pid_file(path: Path, name: ProcessName) -> None:
    """Write which process it is, as a whole or not at all."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    beside.write_text(json.dumps(asdict(name)) + "\n")
    beside.replace(path)


def stat_fields(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the name; `None` where there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def boot_id() -> str:
    """Of the machine's run; empty where the kernel does not say."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


def namespace_of_ids() -> str:
    """Of this process's process ids."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def started_at_s(name: ProcessName) -> float:
    """When it started, in POSIX seconds; as exact as the machine's clock was steady since boot."""
    for line in Path("/proc/stat").read_text().splitlines():
        word, _, value = line.partition(" ")
        if word == "btime":
            return int(value) + name.started / os.sysconf("SC_CLK_TCK")
    return 0.0


def _remembered(pid: int) -> Ending | None:
    child = _children.get(pid)
    if child is None or child.returncode is None:
        return None
    code = child.returncode
    return Ending(None, -code) if code < 0 else Ending(code, None)
