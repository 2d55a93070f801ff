"""Memory that a step frees stays with the process until the run ends: the next step needs it again.

A step takes and frees the same gigabytes every time. Left to itself the C library of Linux gives
large pieces back to the kernel at once, which hands them out again zeroed, page by page: a tenth of
a step's processor time where batches are small (docs/benchmarks.md). The price is gaps between
pieces of unlike sizes: a few per cent of peak memory.
"""

from __future__ import annotations

import ctypes
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from torch import nn

from privacy_finetuner.config import PerformanceFlags

# glibc, malloc.h.
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_ALL: Final = 2**31 - 1
"""The largest number that `mallopt` takes, 2 GiB: more than one tensor of a step, as a rule."""
# Where glibc's own adjustment ends that it makes up for programs with large tensors (malloc(3)).
_USUAL_MMAP: Final = 32 * 2**20
_USUAL_TRIM: Final = 2 * _USUAL_MMAP

# Below it a step's tensors are too small to be given back one by one.
_LEAST_WEIGHTS: Final = 2**20

_lock = threading.Lock()
_runs = 0


@contextmanager
def kept_memory(model: nn.Module, flags: PerformanceFlags) -> Iterator[None]:
    """Keep freed memory while the context is open; at the end of the last one give it back.

    Nothing that is computed changes. It is left to the C library as ever where that is not glibc,
    on another device than the CPU, for a model too small to gain by it, and under `max_memory_gb`:
    pieces of unlike sizes leave gaps, which a limit cannot afford.
    """
    library = _glibc() if _is_worth_it(model, flags) else None
    if library is None:
        yield
        return
    _enter(library)
    try:
        yield
    finally:
        _leave(library)


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None


def _is_worth_it(model: nn.Module, flags: PerformanceFlags) -> bool:
    weights = list(model.parameters())
    on_cpu = all(weight.device.type == "cpu" for weight in weights)
    return (
        flags.max_memory_gb is None
        and on_cpu
        and sum(weight.numel() for weight in weights) >= _LEAST_WEIGHTS
    )


def _enter(library: ctypes.CDLL) -> None:
    global _runs  # noqa: PLW0603  process-wide by nature: there is one allocator
    with _lock:
        _runs += 1
        if _runs == 1:
            library.malloc_trim(0)  # what the start left free is not what the steps need
            library.mallopt(_TRIM_THRESHOLD, _ALL)
            library.mallopt(_MMAP_THRESHOLD, _ALL)


def _leave(library: ctypes.CDLL) -> None:
    global _runs  # noqa: PLW0603  as above
    with _lock:
        _runs -= 1
        if _runs == 0:
            library.mallopt(_TRIM_THRESHOLD, _USUAL_TRIM)
            library.mallopt(_MMAP_THRESHOLD, _USUAL_MMAP)
            library.malloc_trim(0)
