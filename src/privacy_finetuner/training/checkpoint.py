"""Checkpoints: all of a run's state at one step, complete or absent.

A checkpoint is a folder `checkpoint-<step>` that any Hugging Face or PEFT loader reads, plus the
optimizer and `state.json`: the version, the loop's state, and the digest of every file. It is
written beside its final place, forced to the disk, then renamed: a crash or a full disk leaves the
previous checkpoint as it was. Noise and sampling keys are never saved: a resumed run draws new
ones.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import torch

from privacy_finetuner.errors import CheckpointError, CheckpointNotWritten
from privacy_finetuner.results import EpochRecord
from privacy_finetuner.training.models import LoadedModel, save_model
from privacy_runtime.files import WriteFailed, write_atomic

CHECKPOINT_VERSION: Final = 1
_STATE: Final = "state.json"
_OPTIMIZER: Final = "optimizer.pt"


@dataclass(slots=True, kw_only=True)
class EpochSums:
    """Released sums of the epoch under way."""

    steps: int = 0
    loss: float = 0.0
    accuracy: float = 0.0
    norm: float = 0.0
    below_bound: float = 0.0


@dataclass(slots=True, kw_only=True)
class LoopState:
    """What the loop carries from step to step, beside model and optimizer. All of it is released.

    `step` counts charged steps.
    """

    step: int = 0
    clip_norm: float = 1.0
    sums: EpochSums = field(default_factory=EpochSums)
    epochs: list[EpochRecord] = field(default_factory=list)
    evaluations: list[Mapping[str, Any]] = field(default_factory=list)


def checkpoint_name(step: int) -> str:
    """The folder's name of the checkpoint at a step."""
    return f"checkpoint-{step}"


def save_checkpoint(
    folder: Path, loaded: LoadedModel, optimizer: torch.optim.Optimizer, state: LoopState
) -> Path:
    """Write a checkpoint, entirely or not at all.

    Raises:
        CheckpointNotWritten: the disk refused; earlier ones are intact, the partial one is gone.
    """
    final = folder / checkpoint_name(state.step)
    partial = folder / f".{final.name}.partial"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_model(loaded, partial)
        torch.save(optimizer.state_dict(), partial / _OPTIMIZER)
        document = {
            "version": CHECKPOINT_VERSION,
            "state": asdict(state),
            "digests": {p.name: _flushed_digest(p) for p in sorted(partial.iterdir())},
        }
        write_atomic(partial / _STATE, json.dumps(document, indent=1).encode())
        if final.exists():
            shutil.rmtree(final)
        partial.rename(final)
        _flush_folder(folder)
    except CheckpointNotWritten:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    except (OSError, WriteFailed, RuntimeError) as error:
        # torch and safetensors report a full disk as a RuntimeError of their own.
        shutil.rmtree(partial, ignore_errors=True)
        raise CheckpointNotWritten(
            f"{final.name} could not be written ({type(error).__name__}: "
            f"{getattr(error, 'strerror', None) or 'disk refused'}); earlier checkpoints are intact"
        ) from error
    return final


def digest_of(path: Path) -> str:
    """What tells a checkpoint from every other: the digest of its list of digests."""
    return _digest(path / _STATE)


def read_checkpoint(path: Path, digest: str | None = None) -> LoopState:
    """Read and verify the state of a checkpoint.

    Args:
        path: of its folder.
        digest: what `digest_of` said when it was written, kept elsewhere: without it a whole other
            checkpoint in this one's place is not noticed.

    Raises:
        CheckpointError: missing, of another version, or a file differs from its digest.
    """
    document = _document(path)
    if digest is not None and digest_of(path) != digest:
        raise CheckpointError(
            f"{path.name} is not the checkpoint that the run record names; nothing was loaded"
        )
    try:
        digests = dict(document["digests"])
        values = dict(document["state"])
        values["sums"] = EpochSums(**values["sums"])
        values["epochs"] = [EpochRecord(**epoch) for epoch in values["epochs"]]
        state = LoopState(**values)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path / _STATE} lacks or has unknown fields: the checkpoint is damaged"
        ) from error
    for name, expected in digests.items():
        if not (path / name).is_file() or _digest(path / name) != expected:
            raise CheckpointError(
                f"{path.name}/{name} is missing or differs from its digest; nothing was loaded"
            )
    return state


def load_checkpoint(
    path: Path,
    loaded: LoadedModel,
    optimizer: torch.optim.Optimizer,
    digest: str | None = None,
) -> LoopState:
    """Put a checkpoint's optimizer state in place, and return the loop's state.

    The weights are those of `loaded`: a run resumes with the model loaded from the checkpoint.

    Raises:
        CheckpointError: as `read_checkpoint`, or the files do not fit the model.
    """
    state = read_checkpoint(path, digest)
    try:
        optimizer.load_state_dict(
            torch.load(path / _OPTIMIZER, map_location=loaded.device, weights_only=True)
        )
    except (ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"{path.name}/{_OPTIMIZER} does not fit the optimizer of this run"
        ) from error
    return state


def newest_intact(folder: Path, digests: Mapping[str, str | None]) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that is what was written, and the names of newer ones that are not.

    `None` is the model that the run began with: where no checkpoint is intact, and none older than
    these was removed, so that no more is lost than what the damaged ones held.

    Args:
        folder: of the run.
        digests: of its checkpoints by name, oldest first.

    Raises:
        CheckpointError: none is intact, and older ones are gone; the message is about the newest.
    """
    newest: CheckpointError | None = None
    damaged = []
    for name in reversed(list(digests)):
        try:
            read_checkpoint(folder / name, digests[name])
        except CheckpointError as error:
            newest = newest or error
            damaged.append(name)
        else:
            return folder / name, damaged
    if all((folder / name).is_dir() for name in damaged):
        return None, damaged
    raise CheckpointError(
        f"no checkpoint of this run can be used, nothing was loaded; the newest: {newest}"
    )


def set_aside(path: Path) -> None:
    """Keep a damaged checkpoint, if anything of it is there, under a name that nobody loads."""
    target = path.with_name(f"{path.name}.damaged")
    shutil.rmtree(target, ignore_errors=True)
    with suppress(FileNotFoundError):
        path.rename(target)


def remove_old(folder: Path, keep: int) -> list[Path]:
    """Remove all but the newest `keep` checkpoints; returns those that remain, oldest first.

    What a killed process left half written goes too.
    """
    for path in folder.glob(".*checkpoint-*.partial*"):
        shutil.rmtree(path, ignore_errors=True)
    steps = {p: p.name.removeprefix("checkpoint-") for p in folder.glob("checkpoint-*")}
    found = sorted((p for p in steps if steps[p].isdecimal()), key=lambda p: int(steps[p]))
    for path in found[:-keep]:
        shutil.rmtree(path)
    return found[-keep:]


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads((path / _STATE).read_text())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} holds no {_STATE}: it is not a checkpoint") from error
    except ValueError as error:
        raise CheckpointError(f"{path / _STATE} is not JSON: the checkpoint is damaged") from error
    if not isinstance(document, dict) or document.get("version") != CHECKPOINT_VERSION:
        found = document.get("version") if isinstance(document, dict) else None
        raise CheckpointError(
            f"{path.name} has checkpoint version {found!r}, expected {CHECKPOINT_VERSION}; "
            "nothing was loaded"
        )
    return document


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flushed_digest(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return _digest(path)


def _flush_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
