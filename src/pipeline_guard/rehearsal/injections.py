"""What is done to the subject: signals, bits, full disks. Nothing here pretends."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Final

from pipeline_guard.errors import MonitoringError
from pipeline_guard.processes import ProcessName, read_pid_file

DISK_BYTES: Final = 48 << 20
"""Of the small disk that is filled up."""
_BLOCK: Final = 4096
_ENDS_S: Final = 10.0


class Impossible(MonitoringError):
    """This machine does not let the fault be injected. Nothing was done."""

    code = "rehearsal_impossible"


def signalled(pid_file: Path, number: signal.Signals) -> None:
    """Send a signal to the process that a file names, and wait where it kills."""
    name = _running(pid_file)
    name.send(number)
    if number in (signal.SIGKILL, signal.SIGABRT) and not name.ended_within(_ENDS_S):
        raise Impossible(f"process {name.pid} survived {number.name}")


def flipped(path: Path) -> None:
    """Flip one bit in the middle of a file."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        (byte,) = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 0b100]))
        os.fsync(file.fileno())


def newest_weights(run: Path) -> Path:
    """The weights of the newest checkpoint of a run.

    Raises:
        Impossible: there is none.
    """
    found = sorted(run.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    files = [file for folder in found[-1:] for file in sorted(folder.glob("*.safetensors"))]
    if not files:
        raise Impossible(f"{run.name} has no checkpoint to damage")
    return files[0]


def filled(folder: Path) -> None:
    """Write into a folder until its disk is full.

    All that is free is taken at once: a guard may be faster than a program that writes block by
    block, and remove what is still being written. Others write to the disk meanwhile.
    """
    folder.mkdir(exist_ok=True)
    with (folder / "core.dump").open("wb", buffering=0) as file:
        while not _taken(file):
            pass
        file.seek(0, os.SEEK_END)
        with suppress(OSError):
            while True:
                file.write(bytes(_BLOCK))


def _taken(file: FileIO) -> bool:
    """Take what is free now; False where somebody else took some of it first."""
    free = os.fstatvfs(file.fileno())
    if not free.f_bavail:
        return True
    try:
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return False
        raise Impossible(f"the disk could not be filled: {error.strerror}") from error
    return True


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """A file system in memory, of a size that is soon full.

    Attributes:
        folder: where it is.
    """

    folder: Path

    @classmethod
    def mounted(cls, folder: Path, size_bytes: int = DISK_BYTES) -> SmallDisk:
        """Mount one.

        Raises:
            Impossible: this process may not mount.
        """
        folder.mkdir()
        program = shutil.which("mount")
        if program is None or os.geteuid() != 0:
            raise Impossible("mounting a small disk needs root, so disk_full cannot be rehearsed")
        command = [program, "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode != 0:
            raise Impossible(f"no small disk could be mounted: {done.stderr.strip()}")
        return cls(folder)

    def unmount(self) -> None:
        """Take it away; what still uses it keeps it until it ends."""
        program = shutil.which("umount")
        if program is not None:
            subprocess.run([program, "-l", str(self.folder)], check=False)  # noqa: S603


def _running(pid_file: Path) -> ProcessName:
    name = read_pid_file(pid_file) if pid_file.exists() else None
    if name is None or not name.is_alive():
        raise Impossible(f"the process of {pid_file.name} is not there")
    return name


Injection = Callable[[], None]
