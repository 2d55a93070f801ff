"""What remedies share: settings, locks, programs with a deadline, and processes by their files."""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipeline_guard.errors import RecoveryError
from pipeline_guard.heartbeat import read_pulse
from pipeline_guard.model import Case
from pipeline_guard.processes import ProcessName, read_pid_file

_OUTPUT_BYTES: Final = 2_000
LAST_S: Final = 1.0
"""Of a remedy's time: kept for saying what happened."""


def setting(case: Case, value: Any, name: str) -> Any:
    """A parameter, or what the component's `settings` say under its name; `None` where neither."""
    return value if value not in (None, (), "") else case.settings.get(name)


def path_setting(case: Case, value: Path | None, name: str) -> Path | None:
    """The same for a path."""
    found = setting(case, value, name)
    return None if found is None else Path(found)


def command_setting(case: Case, value: Sequence[str], name: str) -> tuple[str, ...]:
    """The same for a command; empty where there is none.

    Raises:
        RecoveryError: the setting is no list of texts; nothing was done.
    """
    found = setting(case, tuple(value), name) or ()
    is_list = isinstance(found, Sequence) and not isinstance(found, str)
    if not is_list or not all(isinstance(word, str) for word in found):
        raise RecoveryError(
            f"the setting {name!r} of {case.component} is no list of texts; nothing was done",
            {"parameter": name, "constraint": "a list: a program and its arguments"},
        )
    return tuple(found)


def needs(name: str) -> str:
    """The objection that something was not said."""
    return f"it needs {name!r}: as a parameter, or in the component's settings"


def refusal(what: str, state: str = "nothing was changed", **details: Any) -> RecoveryError:
    """The error of a remedy that could not."""
    return RecoveryError(f"{what}; {state}", details)


@contextmanager
def locked(target: str) -> Iterator[None]:
    """Be the only one of this user, on this machine, that works on a target.

    Raises:
        RecoveryError: somebody else does; nothing was changed.
    """
    folder = Path(tempfile.gettempdir()) / f"pipeline-guard-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    stats = folder.lstat()
    if folder.is_symlink() or stats.st_uid != os.getuid() or stats.st_mode & 0o022:
        raise refusal(f"{folder} belongs to somebody else: no lock can be taken there")
    name = hashlib.sha256(target.encode()).hexdigest()[:32]
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(folder / f"{name}.lock", flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise refusal(f"another recovery works on {target}") from error
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Ran:
    """What a program did: its exit code, and the start of what it printed."""

    code: int
    text: str


def run(
    command: Sequence[str],
    within_s: float,
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Ran:
    """Run a program in a group of its own; the whole group is killed when time is up.

    Raises:
        RecoveryError: it cannot be started, or time was up; the error says which.
    """
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(  # noqa: S603 -- a list from the guard's own configuration
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        except OSError as error:
            reason = (error.strerror or "it failed").lower()
            raise refusal(f"{command[0]} cannot be run: {reason}") from error
        try:
            code = process.wait(timeout=max(0.1, within_s - LAST_S))
        except subprocess.TimeoutExpired as error:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise refusal(
                f"{command[0]} took over {within_s:.0f} s and was killed",
                "what it had done by then stands",
            ) from error
        output.seek(0)
        return Ran(code, output.read(_OUTPUT_BYTES).decode(errors="replace").strip())


def succeed(command: Sequence[str], within_s: float, state: str) -> Ran:
    """Run a program that must end with code 0.

    Raises:
        RecoveryError: it did not; `state` says what that means.
    """
    done = run(command, within_s)
    if done.code != 0:
        raise refusal(
            f"{' '.join(command[:3])} ended with code {done.code}", state, output=done.text[:400]
        )
    return done


def process_of(pid_file: Path | None, heartbeat: Path | None) -> ProcessName | None:
    """The process that runs, by its pid file or else by its heartbeat; `None`: none does.

    Raises:
        RecoveryError: the files cannot be read, or name a process of another machine or container.
    """
    name: ProcessName | None = None
    try:
        if pid_file is not None and pid_file.exists():
            name = read_pid_file(pid_file)
        elif heartbeat is not None and heartbeat.exists():
            name = read_pulse(heartbeat).process
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise refusal(f"the process cannot be found: {reason}") from error
    if name is not None and not name.is_visible and name.boot == _boot():
        raise refusal("the process runs in another container; its signals are not ours to send")
    return name if name is not None and name.is_alive() else None


def until(within_s: float) -> Callable[[], bool]:
    """Whether there is time left, for who asks."""
    end_s = time.monotonic() + max(0.0, within_s - LAST_S)
    return lambda: time.monotonic() < end_s


def _boot() -> str:
    own = ProcessName.of(os.getpid())
    return "" if own is None else own.boot
