"""A child process group, as its worker sees it: start, listen, ask to stop, kill."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, Self

from privacy_finetuner.jobs.folder import LOG_FILE
from privacy_finetuner.jobs.lines import LINE_BYTES_MOST, Garbled, Task

COMMAND: Final = (sys.executable, "-m", "privacy_finetuner.jobs.child")
_READ_BYTES: Final = 1 << 16


class Child:
    """One child. Its group is gone when `reap` has returned.

    Args:
        process: just started, leader of a session of its own.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdout is None:
            raise AssertionError
        self._process = process
        self._pipe = process.stdout.fileno()
        os.set_blocking(self._pipe, False)
        self._rest = b""
        self._is_open = True

    @classmethod
    def start(
        cls,
        task: Task,
        *,
        command: Sequence[str] = COMMAND,
        environment: Mapping[str, str] | None = None,
    ) -> Self:
        """Start a child and give it its task.

        Its log lines go to this process's standard error, what it prints to the folder's log.

        Raises:
            OSError: the system starts no process, or the folder cannot be written.
        """
        folder = Path(task.folder)
        folder.mkdir(mode=0o700, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        with ExitStack() as closing:
            log = os.open(folder / LOG_FILE, flags, 0o600)
            closing.callback(os.close, log)
            kept: tuple[int, ...] = ()
            if task.telemetry is not None:
                kept = (os.dup(sys.__stderr__.fileno() if sys.__stderr__ else log),)
                closing.callback(os.close, kept[0])
                task = replace(task, telemetry=replace(task.telemetry, descriptor=kept[0]))
            process = subprocess.Popen(  # noqa: S603 -- our own module, or a test's
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=folder,
                env=None if environment is None else dict(environment),
                start_new_session=True,
                pass_fds=kept,
            )
        child = cls(process)
        with suppress(BrokenPipeError):  # it died at once: its end says how
            if process.stdin is not None:
                process.stdin.write(task.line())
                process.stdin.flush()
        return child

    @property
    def process_id(self) -> int:
        """Of the leader, and of its group."""
        return self._process.pid

    def lines(self, wait_s: float) -> list[bytes | Garbled]:
        """The whole lines that arrived, waiting at most `wait_s` for the first."""
        if not self._is_open:
            self._wait_exit(wait_s)
            return []
        select.select([self._pipe], [], [], wait_s)
        with suppress(BlockingIOError):
            while piece := os.read(self._pipe, _READ_BYTES):
                self._rest += piece
                if len(self._rest) > LINE_BYTES_MOST:
                    break
            else:
                self._is_open = False
        *whole, self._rest = self._rest.split(b"\n")
        found: list[bytes | Garbled] = list(whole)
        if len(self._rest) > LINE_BYTES_MOST:
            self._rest = b""
            found.append(Garbled("a line is longer than 1 MiB"))
        if not self._is_open and self._rest:
            found.append(Garbled("the last line is not whole"))
            self._rest = b""
        return found

    def has_exited(self) -> bool:
        """Whether the leader has ended. It is not reaped, so its group keeps its number."""
        if self._process.returncode is not None:
            return True
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.process_id, options) is not None

    def ask_to_stop(self) -> None:
        """SIGTERM to the group: stop at the step boundary, with a checkpoint."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to the group."""
        self._signal(signal.SIGKILL)

    def reap(self) -> int:
        """Kill what is left of the group; returns the leader's exit code, negative for a signal."""
        self.kill()
        code = self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        return code

    def _wait_exit(self, wait_s: float) -> None:
        if not self.has_exited():
            select.select([], [], [], min(wait_s, 0.05))

    def _signal(self, number: int) -> None:
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process_id, number)
