"""The process that asks one model: `python -m privacy_finetuner.operations.generator FOLDER`.

One line of JSON in, one out; the first line out says that the model is loaded. It ends when its
standard input does, and within a second of its parent, also in the middle of an answer. (The
kernel's own signal for that comes when the parent's *thread* ends, which is no reason to end.)
torch is loaded here, not in the server.

Neither prompts nor answers are written anywhere else: what libraries print goes to nowhere.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from privacy_core.errors import PrivacyError

READY: Final = "ready"
_LOOK_S: Final = 1.0
_PARENT_DIED_EXIT: Final = 75


def main(arguments: list[str]) -> int:
    """Load the model in a folder and answer until nobody asks; returns the exit code."""
    folder, parent, memory_bytes = arguments[0], int(arguments[1]), int(arguments[2])
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for document in _answered(folder, sys.stdin.buffer):
        answers.write(json.dumps(document).encode() + b"\n")
    return 0


def _follow(parent: int) -> None:
    """End with the parent."""
    pause = threading.Event()
    while os.getppid() == parent:
        pause.wait(_LOOK_S)
    os._exit(_PARENT_DIED_EXIT)


def _answered(folder: str, questions: BinaryIO) -> Iterator[dict[str, Any]]:
    try:
        trainer = _loaded(folder)
    except PrivacyError as error:
        yield {"error": error.code, "message": str(error)}
        return
    except (MemoryError, RuntimeError, OSError) as error:
        yield {"error": "model_not_loaded", "message": type(error).__name__}
        return
    yield {READY: True}
    for line in questions:
        try:
            yield {"text": trainer.generate(**json.loads(line))}
        except PrivacyError as error:
            yield {"error": error.code, "message": str(error)}
        except (MemoryError, RuntimeError) as error:
            # What a library says may hold the prompt; its kind does not.
            yield {"error": "generation_failed", "message": type(error).__name__}


def _loaded(folder: str) -> Any:
    """A trainer with the model at hand."""
    from privacy_finetuner.config import PrivacyConfig  # noqa: PLC0415
    from privacy_finetuner.trainer import PrivateTrainer  # noqa: PLC0415 -- what loads torch

    trainer = PrivateTrainer(folder, PrivacyConfig(), "auto", enable_context_guard=False)
    trainer.generate(" ", max_new_tokens=1)
    return trainer


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
