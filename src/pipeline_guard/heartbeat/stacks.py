"""On a signal, a process writes where each of its threads is. For the one that hangs."""

from __future__ import annotations

import faulthandler
import os
import signal
from pathlib import Path
from typing import IO, Final

STACKS_FILE: Final = "stacks.txt"
_open_files: list[IO[str]] = []
"""`faulthandler` keeps the descriptor only; the file must stay open."""


def dump_stacks_on_signal(folder: Path, number: signal.Signals = signal.SIGUSR1) -> Path:
    """Write the stacks of all threads into `folder/stacks.txt` at each signal of this number.

    It is written by C code that needs neither the interpreter's lock nor memory, so it works in a
    process that hangs. A stack names files, functions and lines; it holds no values. The file is
    readable for its owner only.

    Call it in a process of your own; what the signal did before is replaced. To be called once.

    Returns:
        the file.

    Raises:
        OSError: the file cannot be opened.
    """
    path = folder / STACKS_FILE
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    file = os.fdopen(os.open(path, flags, 0o600), "a")
    faulthandler.register(number, file=file, all_threads=True, chain=False)
    _open_files.append(file)
    return path
