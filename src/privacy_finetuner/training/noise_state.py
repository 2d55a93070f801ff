"""What a run with correlated noise must find again when it is resumed: groups, and past noise.

Both are outside the guarantee: past noise taken off the updates leaves the sums, and the groups say
who joined when. So they lie in one file beside the checkpoints, readable by its owner only, never
in a checkpoint, and go when the run is finished. It is as secret as the records.

==========================================  =====================================================
found at resume                             then
==========================================  =====================================================
the memory of the last charged step         the noise goes on as if nothing had happened
the memory of an earlier one: the process   the noise begins afresh: the rows of C G that were
died and its last steps are lost            lost are never asked for again
no file, or a damaged one                   refused: with other groups a unit could join twice
                                            in a round
==========================================  =====================================================

Beginning afresh costs utility, not privacy: C with some columns cut short has a smaller
sensitivity. Going on with the memory of an *earlier* step would not be: a unit of that step would
have moved the lost rows, and would move the new ones again.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from privacy_finetuner.errors import CheckpointError
from privacy_finetuner.training.correlated_noise import CorrelatedNoise
from privacy_finetuner.training.cyclic_sampling import CyclicPoissonSampler
from privacy_runtime.files import write_atomic

FILE_NAME: Final = ".noise"
_DIGEST_BYTES: Final = 32
_GROUPS, _STEP, _MEMORY = "groups_of_units", "step", "memory."


def write(folder: Path, step: int, sampler: CyclicPoissonSampler, noise: CorrelatedNoise) -> None:
    """Keep groups and memory as they are after `step` steps, instead of what was kept before.

    Raises:
        WriteFailed: the disk refused; the file is as it was.
    """
    payload = save(
        {
            _GROUPS: torch.from_numpy(sampler.groups_of_units),
            _STEP: torch.tensor([step]),
            **{_MEMORY + name: part for name, part in noise.memory().items()},
        }
    )
    path = folder / FILE_NAME
    path.touch(mode=0o600)
    write_atomic(path, hashlib.sha256(payload).digest() + payload)


def read(folder: Path, step: int, sampler: CyclicPoissonSampler, noise: CorrelatedNoise) -> bool:
    """Put sampler and noise back to where `step` steps are charged.

    Returns:
        whether the memory was of that very step; if not, the noise begins afresh.

    Raises:
        CheckpointError: no such file, or it is damaged or another run's; nothing was started.
    """
    path = folder / FILE_NAME
    content = path.read_bytes() if path.is_file() else b""
    digest, payload = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(payload).digest() != digest:
        raise CheckpointError(
            f"{path} is missing or damaged: without the groups of the run that was begun, its "
            "noise cannot be continued; nothing was started"
        )
    try:
        tensors = load(payload)
        sampler.continue_from(tensors.pop(_GROUPS).numpy().astype(np.int64), draws=step)
        if int(tensors.pop(_STEP)) != step:
            return False
        noise.restore({name.removeprefix(_MEMORY): part for name, part in tensors.items()})
    except (SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path} is not of this run; nothing was started") from error
    return True


def remove(folder: Path) -> None:
    """Forget groups and memory: the run is finished."""
    (folder / FILE_NAME).unlink(missing_ok=True)
