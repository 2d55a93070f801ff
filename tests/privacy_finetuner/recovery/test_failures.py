"""Which failure an error is a sign of, by errors that libraries really raise."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import save_file

from privacy_finetuner.errors import CheckpointNotWritten
from privacy_finetuner.recovery.failures import FailureType, failure_of


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file of this process may grow beyond so many bytes."""
    held = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, held[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, held)


def test_a_disk_that_is_full_for_safetensors_is_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(SafetensorError) as caught, files_of_at_most(1000):
        save_file({"weights": np.zeros(4096)}, tmp_path / "model.safetensors")
    error = CheckpointNotWritten("the checkpoint cannot be written")
    error.__cause__ = caught.value

    assert failure_of(error) is FailureType.DISK_FULL


def test_a_checkpoint_that_could_not_be_written_for_another_reason_is_nothing_to_recover_from(
    tmp_path: Path,
) -> None:
    with pytest.raises(SafetensorError) as caught:
        save_file({"weights": np.zeros(4)}, tmp_path / "no such folder" / "model.safetensors")
    error = CheckpointNotWritten("the checkpoint cannot be written")
    error.__cause__ = caught.value

    assert failure_of(error) is None
