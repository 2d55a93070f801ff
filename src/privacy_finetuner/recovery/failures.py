"""The six failures that are recovered from, and how an error is told to be one of them.

An error that is none of them is no failure of the world but of a program or of its settings: it is
raised, and nothing is tried again. Neither is an exhausted budget a failure: the run has ended in
order, with everything saved, and no recovery may go on with it.
"""

from __future__ import annotations

import errno
from enum import Enum
from typing import Final

from privacy_finetuner.errors import CheckpointError, CheckpointNotWritten, NonFiniteWeights
from privacy_finetuner.training.exhaustion import is_out_of_memory
from privacy_runtime.blobs import BlobMissing, NotSealed, RolledBack, SealBroken
from privacy_runtime.files import WriteFailed, errno_of
from privacy_runtime.journal import StoreUnavailable
from privacy_runtime.keys import KeyringUnavailable


class FailureType(Enum):
    """What happened to a run."""

    PROCESS_CRASH = "process_crash"
    """The process died: killed, out of memory by the system's judgement, a power cut."""
    GPU_MEMORY_ERROR = "gpu_memory_error"
    """A pass did not fit in the memory of the accelerator, or of the machine."""
    NON_FINITE = "non_finite"
    """A trained weight became NaN or infinite."""
    CORRUPT_CHECKPOINT = "corrupt_checkpoint"
    """A saved state is not what was written."""
    DISK_FULL = "disk_full"
    """The disk refused a write for want of room."""
    STORE_AWAY = "store_away"
    """A database or a network that the run needs does not answer."""


_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_BROKEN: Final = (SealBroken, NotSealed, RolledBack, BlobMissing)
_AWAY: Final = (StoreUnavailable, KeyringUnavailable, ConnectionError, TimeoutError)


def failure_of(error: BaseException) -> FailureType | None:
    """Which failure an error is a sign of; `None`: none that can be recovered from."""
    if isinstance(error, NonFiniteWeights):
        return FailureType.NON_FINITE
    if is_out_of_memory(error):
        return FailureType.GPU_MEMORY_ERROR
    if isinstance(error, CheckpointError | WriteFailed | OSError) and _is_full(error):
        return FailureType.DISK_FULL
    if isinstance(error, CheckpointError) and not isinstance(error, CheckpointNotWritten):
        return FailureType.CORRUPT_CHECKPOINT
    if isinstance(error, _BROKEN):
        return FailureType.CORRUPT_CHECKPOINT
    if isinstance(error, _AWAY):
        return FailureType.STORE_AWAY
    return None


def _is_full(error: BaseException | None) -> bool:
    """Whether the disk had no room, by the number of the system's error or its own words."""
    while error is not None:
        if errno_of(error) in _FULL or "No space left" in str(error):  # torch's is a RuntimeError
            return True
        error = error.__cause__
    return False
