"""Workers and children that are forked instead of started, so that a short campaign mostly waits.

Loading torch takes seconds of a core, and a campaign starts a hundred processes. Here one process
loads everything, once, and does nothing else; it forks every worker, and beside each worker a
*cradle*, as clean as itself, which forks that worker's children:

::

    the test --- nursery --+-- worker --+-- cradle
                           |            '-- child      (forked by the cradle, adopted by the worker)
                           '-- worker ...

A child is the worker's own, as in the product: its parent, waited for by it, leader of a session,
with a pipe to it and one from it. Only `exec` and imports are left out; the long campaign leaves
nothing out. Nothing with a database, a lock or a thread is ever forked.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, TypeAlias

from driver import child, worker
from privacy_finetuner.jobs import process

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_LINE_BYTES: Final = 1 << 20
Run: TypeAlias = Callable[[], int | None]


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value)


class Nursery:
    """Forks workers, for any number of threads; its end is theirs too."""

    def __init__(self) -> None:
        here = str(Path(__file__).parents[1])
        path = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
        self._turn = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "driver.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )

    def worker(self, root: Path) -> Forked:
        """Fork a worker of a site."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._turn:
            self._process.stdin.write(f"{root}\n")
            self._process.stdin.flush()
            return Forked(int(self._process.stdout.readline()))

    def close(self) -> None:
        """End the nursery."""
        self._process.kill()
        self._process.communicate()


class Forked:
    """A process by its number, which the system gives to nobody else meanwhile."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        try:
            self._handle: int | None = os.pidfd_open(pid)
        except ProcessLookupError:  # it has ended already
            self._handle = None

    def poll(self) -> int | None:
        """0 once it has ended; how is not known here."""
        return 0 if self._handle is None or self._has_ended(0.0) else None

    def wait(self) -> int:
        """Return when it has ended."""
        if self._handle is not None:
            self._has_ended(None)
        return 0

    def kill(self) -> None:
        """SIGKILL."""
        self._send(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM."""
        self._send(signal.SIGTERM)

    def _has_ended(self, wait_s: float | None) -> bool:
        assert self._handle is not None
        if not select.select([self._handle], [], [], wait_s)[0]:
            return False
        os.close(self._handle)
        self._handle = None
        return True

    def _send(self, number: signal.Signals) -> None:
        if self._handle is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, number)


def main() -> None:
    """Fork a worker for each folder on standard input, and tell its number."""
    for name in (
        "privacy_finetuner.assessment.certificate_issue",
        "privacy_finetuner.reports",
        "privacy_finetuner.trainer",
        "privacy_finetuner.training.loop",
        "privacy_finetuner.training.session",
        "privacy_finetuner.training.sizes",
        "transformers.models.llama.modeling_llama",
        "transformers.models.auto.modeling_auto",
        "peft",
    ):
        __import__(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for workers here
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _become(partial(_worker, Path(line.rstrip("\n"))), parent_dies=signal.SIGKILL)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def _worker(root: Path) -> None:
    """In the fork: the worker's process, with a cradle at its side."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with (root / "workers.log").open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        _become(partial(_cradle, theirs, root), parent_dies=signal.SIGKILL)
    theirs.close()
    process.subprocess = SimpleNamespace(  # type: ignore[assignment]  # only what `Child.start` uses
        Popen=lambda *given, **named: _Child(ours, *given, **named), PIPE=subprocess.PIPE
    )
    worker.main(root)


class _Child:
    """What `jobs.process` uses of `subprocess.Popen`, for a child that a cradle forks.

    Args:
        cradle: takes the order, with the child's files.
        command: what the product would have started; the cradle knows its fork.
        cwd, env, pass_fds, stderr: as `Popen`'s; its pipes are always made.
    """

    def __init__(
        self,
        cradle: socket.socket,
        command: Sequence[str],
        *,
        stderr: int,
        cwd: Path,
        env: Mapping[str, str] | None,
        pass_fds: Sequence[int] = (),
        **_: Any,
    ) -> None:
        assert command[1:3] == ["-m", "driver.child"]
        inside, to_child = os.pipe()
        from_child, outside = os.pipe()
        order = {"cwd": str(cwd), "env": None if env is None else dict(env), "kept": [*pass_fds]}
        files = [inside, outside, stderr, *pass_fds]
        line = json.dumps({**order, "parent": os.getpid()}).encode()
        socket.send_fds(cradle, [line], files)
        for each in (inside, outside):
            os.close(each)
        answer = cradle.recv(64)
        if not answer:
            raise OSError(0, "the cradle has ended")
        self.pid = int(answer)
        self.stdin, self.stdout = os.fdopen(to_child, "wb"), os.fdopen(from_child, "rb")
        self.returncode: int | None = None

    def wait(self) -> int:
        """Reap it; returns its exit code, negative for a signal."""
        if self.returncode is None:
            _, status = os.waitpid(self.pid, 0)
            self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


def _cradle(orders: socket.socket, root: Path) -> None:
    """Fork a child for each order. A fork in between dies at once, so the worker adopts it."""
    while True:
        line, files, _, _ = socket.recv_fds(orders, _LINE_BYTES, 8)
        if not line:
            return
        order = json.loads(line)
        told, tell = os.pipe()
        between = os.fork()
        if between == 0:
            number = os.fork()
            if number == 0:
                _become(partial(_child, order, files, root))
            os.write(tell, str(number).encode())
            os._exit(0)
        os.waitpid(between, 0)
        for each in (tell, *files):
            os.close(each)
        orders.send(os.read(told, 64))
        os.close(told)


def _child(order: Mapping[str, Any], files: Sequence[int], root: Path) -> int:
    """In the fork: what `exec` of the product's child would begin with."""
    os.setsid()
    while os.getppid() != order["parent"]:  # the one in between is about to end
        select.select([], [], [], 0.001)
    places = [0, 1, 2, *order["kept"]]
    aside = [fcntl.fcntl(each, fcntl.F_DUPFD, max(places) + 1) for each in files]
    for copy, place in zip(aside, places, strict=True):
        os.dup2(copy, place)
    for number in os.listdir("/proc/self/fd"):
        if int(number) not in places:
            with suppress(OSError):
                os.close(int(number))
    sys.stdin = os.fdopen(0)  # nothing that somebody else has read ahead
    os.chdir(order["cwd"])
    if order["env"] is not None:
        os.environ.clear()
        os.environ.update(order["env"])
    return child.main(root)


def _become(run: Run, *, parent_dies: signal.Signals | None = None) -> None:
    """Run something in a process that was just forked, and never return."""
    code = 1
    try:
        if parent_dies is not None:
            _prctl(_PR_SET_PDEATHSIG, parent_dies)
        code = run() or 0
    except BaseException:  # noqa: BLE001  the process's last line
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
