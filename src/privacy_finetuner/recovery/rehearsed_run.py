"""The process of a rehearsal: `python -m privacy_finetuner.recovery.rehearsed_run`.

It forks a process for each task on its standard input (`nursery`). That one trains with a recovery
system, does the fault of its task to itself half-way, and tells events on standard output, one JSON
object a line. The monotonic clock is the machine's, so that the times of several processes can be
compared.

==================  ==============================================================================
fault               what is done
==================  ==============================================================================
process crash       SIGKILL
memory              the address space is limited, and a gigabyte asked for
not finite          a trained weight is set to NaN
corrupt checkpoint  one bit of the newest checkpoint's weights is flipped; SIGKILL
disk full           RLIMIT_FSIZE below the size of a checkpoint; lifted once the run waits
store away          the ledger's folder is moved away; moved back once the run has waited twice
==================  ==============================================================================
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from transformers import TrainerCallback

from privacy_finetuner.config import PrivacyConfig
from privacy_finetuner.demo import ASSETS
from privacy_finetuner.recovery.failures import FailureType
from privacy_finetuner.recovery.injuries import break_weights, exhaust_memory
from privacy_finetuner.recovery.nursery import serve, tell
from privacy_finetuner.recovery.rehearsal import ACCOUNT, DELTA, EPSILON
from privacy_finetuner.recovery.system import FailureRecoverySystem
from privacy_finetuner.trainer import PrivateTrainer
from privacy_runtime.world import SystemClock

_STEP: Final = 10
_RECORDS: Final = 64
_CHECKPOINT_MOST: Final = 1_000_000  # bytes; the sample's weights have more
_CLOCK: Final = SystemClock()


def main() -> int:
    """Run what standard input asks for; returns the exit code."""
    serve(rehearsed, sys.stdin)
    return 0


def rehearsed(task: Mapping[str, Any]) -> int:
    """Run one task, `{"fault", "folder"}`, in this process; returns its exit code."""
    folder = Path(task["folder"])
    os.chdir(folder)
    fault = None if task["fault"] is None else FailureType(task["fault"])
    injury = Injury(fault, folder)
    system = FailureRecoverySystem(str(folder / "points"), pause=injury.pause)
    trainer = PrivateTrainer(
        ASSETS / "model",
        PrivacyConfig(epsilon=EPSILON, delta=DELTA),
        device="cpu",
        use_mcp_gateway=False,
        enable_context_guard=False,
        ledger=folder / "books" / "ledger.db",
        account="/".join(ACCOUNT),
    )
    trainer.train(
        _records(),
        epochs=6,
        batch_size=16,
        learning_rate=1e-3,
        save_steps=6,
        max_length=16,
        output_dir=str(folder / "run"),
        callbacks=[injury],
        recovery=system,
    )
    _tell("end", lost_steps=system.get_recovery_statistics().lost_steps)
    return 0


class Injury(TrainerCallback):  # type: ignore[misc]  # transformers is not checked
    """Does the fault once, at the step.

    Args:
        fault: what is done; `None`: nothing.
        folder: of the rehearsal.
    """

    def __init__(self, fault: FailureType | None, folder: Path) -> None:
        self._fault = fault
        self._books, self._away = folder / "books", folder / "away"
        self._run = folder / "run"
        self._waits = 0

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> Any:
        """Tell of the step; do the fault when it is time."""
        _tell("step", step=int(state.global_step))
        if self._fault is not None and state.global_step == _STEP:
            fault, self._fault = self._fault, None
            _tell("fault")
            self._do(fault, model)
        return control

    def pause(self, seconds: float) -> None:
        """Wait as the recovery asks; what was full has room again, what was away comes back."""
        _tell("detected")
        self._waits += 1
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        time.sleep(seconds)
        if self._waits > 1 and self._away.exists():
            self._away.rename(self._books)

    def _do(self, fault: FailureType, model: Any) -> None:
        acts: dict[FailureType, Callable[[], object]] = {
            FailureType.PROCESS_CRASH: _die,
            FailureType.GPU_MEMORY_ERROR: exhaust_memory,
            FailureType.NON_FINITE: lambda: break_weights(model),
            FailureType.CORRUPT_CHECKPOINT: self._flip_a_bit,
            FailureType.DISK_FULL: _fill_disk,
            FailureType.STORE_AWAY: lambda: self._books.rename(self._away),
        }
        acts[fault]()

    def _flip_a_bit(self) -> None:
        checkpoints = sorted(self._run.glob("checkpoint-*"))
        path = checkpoints[-1] / "model.safetensors"
        with path.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            (last,) = file.read(1)
            file.seek(-1, os.SEEK_END)
            file.write(bytes([last ^ 1]))
        _die()


def _tell(event: str, **figures: int) -> None:
    tell(event, at_s=_CLOCK.monotonic_s(), **figures)


def _records() -> list[dict[str, Any]]:
    with (ASSETS / "records.jsonl").open() as lines:
        return [json.loads(line) for _, line in zip(range(_RECORDS), lines, strict=False)]


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _fill_disk() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (_CHECKPOINT_MOST, most))


if __name__ == "__main__":
    sys.exit(main())
