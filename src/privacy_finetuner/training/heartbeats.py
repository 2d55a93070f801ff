"""The heartbeat of a run: how far it is, for whoever watches over it (`pipeline_guard`).

The file `heartbeat.json` lies in the run's folder and says the section (setup, step, eval,
checkpoint), the number of charged steps, the step of the newest checkpoint, and whether the trained
weights are finite. Weights are released, so looking at them after every step costs nothing; no
gradient, loss or batch is looked at. Durations may depend a little on the records and are outside
the guarantee, as everywhere: the file belongs to its owner alone, and they go from it when the run
ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final, Protocol

import torch

from pipeline_guard.heartbeat import Heartbeat
from privacy_finetuner.errors import TrainingInterrupted
from privacy_finetuner.training.exhaustion import is_out_of_memory

FILE_NAME: Final = "heartbeat.json"


class Heart(Protocol):
    """What the loop tells of itself."""

    def section(self, name: str) -> AbstractContextManager[None]:
        """Be in a section."""
        ...

    def beat(self, step: int, steps: int | None = None, *, is_finite: bool = True) -> None:
        """Say that a step is done."""
        ...

    def wrote_checkpoint(self, step: int) -> None:
        """Say that a checkpoint is on the disk."""
        ...

    def finish(self) -> None:
        """Say that the run is done."""
        ...

    def stop(self, reason: str = "") -> None:
        """Say that it was stopped in order."""
        ...

    def fail(self, reason: str) -> None:
        """Say that it failed."""
        ...


class SilentHeart:
    """Of a run that nobody watches."""

    def section(self, name: str) -> AbstractContextManager[None]:
        """Nothing."""
        return nullcontext()

    def beat(self, step: int, steps: int | None = None, *, is_finite: bool = True) -> None:
        """Nothing."""

    def wrote_checkpoint(self, step: int) -> None:
        """Nothing."""

    def finish(self) -> None:
        """Nothing."""

    def stop(self, reason: str = "") -> None:
        """Nothing."""

    def fail(self, reason: str) -> None:
        """Nothing."""


def heart_of(folder: Path) -> Heartbeat:
    """The heartbeat of a run's folder, which must be locked for this process."""
    return Heartbeat(folder / FILE_NAME)


def tell_end(heart: Heart, error: BaseException | None) -> None:
    """Say how a run ended: done, stopped in order, or by an error, of which only the name."""
    if error is None:
        heart.finish()
    elif isinstance(error, TrainingInterrupted):
        heart.stop(type(error).__name__)
    else:
        heart.fail(_name_of(error))


def _name_of(error: BaseException) -> str:
    """The class of an error; one name for memory of the machine, however torch says it."""
    name = type(error).__name__
    is_memory = is_out_of_memory(error) and name != "OutOfMemoryError"
    return "MemoryError" if is_memory else name


def are_finite(parameters: Iterable[torch.nn.Parameter]) -> bool:
    """Whether every trained weight is a finite number."""
    trained = [p.detach() for p in parameters if p.requires_grad]
    largest = torch._foreach_norm(trained, math.inf)  # unlike sums of squares, it cannot overflow
    return bool(torch.isfinite(torch.stack(largest)).all())
