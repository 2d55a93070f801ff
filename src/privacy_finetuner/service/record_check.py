"""Whether a file of records can be read: in a process of its own, with the trainer's own reader.

A file that somebody sent is parsed where it can do no harm: the process has a minute of processor
time and four gibibytes of memory, and ends with the check. It says one line of JSON: `{}` or the
refusal, which names lines and rows and never holds what is in them.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Final

_CPU_S: Final = 60
_MEMORY_BYTES: Final = 4 * 1024**3
_WAIT_S: Final = 120.0


def check(path: Path) -> None:
    """Read a file of records in full.

    Raises:
        UploadRefused: it cannot be read as records, or not within the limits.
    """
    from privacy_finetuner.service.errors import UploadRefused  # noqa: PLC0415 -- not the child's

    words = [sys.executable, "-P", __file__, str(path)]  # by its path: the room's own imports cost
    try:
        done = subprocess.run(  # noqa: S603 -- our own command
            words, capture_output=True, timeout=_WAIT_S, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise UploadRefused(f"it cannot be read within {_WAIT_S:g} s") from None
    try:
        said = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        raise UploadRefused("it cannot be read within a minute and 4 GiB") from None
    if said:
        raise UploadRefused(str(said["message"]).replace(path.name, "the file"))


def main(path: str) -> None:
    """Check a file; the body of the process."""
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    from privacy_finetuner.errors import DatasetError  # noqa: PLC0415 -- after the limits
    from privacy_finetuner.training.record_files import rows_of_path  # noqa: PLC0415

    said = {}
    try:
        rows_of_path(Path(path), text_field="text", label_field="label")
    except DatasetError as error:
        said = {"message": str(error)}
    sys.stdout.write(f"{json.dumps(said)}\n")


if __name__ == "__main__":
    main(sys.argv[1])
