"""Memory that a step frees is there for the next one, as long as a run lasts and wants it."""

from __future__ import annotations

import platform
import resource
from contextlib import ExitStack

import pytest
import torch
from torch import nn

from privacy_finetuner.config import PerformanceFlags
from privacy_finetuner.training.kept_memory import kept_memory

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is told anything"
)
LARGE = nn.Linear(1024, 1024)
PAGES = 40 * 2**20 // resource.getpagesize()


def pages_asked_for() -> int:
    """How many pages the kernel hands out for 40 MiB that were freed many times before."""
    for _ in range(10):  # freed pieces lie apart at first, until they find each other
        torch.ones(10 * 2**20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(10 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_freed_memory_is_found_again_while_the_last_run_lasts() -> None:
    with kept_memory(LARGE, PerformanceFlags()):
        with kept_memory(LARGE, PerformanceFlags()):
            pass
        inside = pages_asked_for()

    # What happens without it is up to the C library and to what else lies in the heap.
    assert inside < PAGES / 10


@pytest.mark.parametrize(
    ("model", "flags"),
    [(nn.Linear(4, 4), PerformanceFlags()), (LARGE, PerformanceFlags(max_memory_gb=8.0))],
    ids=["a small model", "a limit"],
)
def test_a_run_that_gains_nothing_or_has_a_limit_keeps_nothing(
    model: nn.Module, flags: PerformanceFlags
) -> None:
    with ExitStack() as stack:
        before = pages_asked_for()
        stack.enter_context(kept_memory(model, flags))
        assert (pages_asked_for() < PAGES / 10) == (before < PAGES / 10)
