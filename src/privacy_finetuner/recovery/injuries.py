"""What a rehearsed training does to itself: weights that are broken, memory that ends."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any, Final

import torch

_ASKED_BYTES: Final = 1 << 30
_SPARE_BYTES: Final = 64 << 20


def break_weights(model: Any) -> None:
    """Set a trained parameter to NaN."""
    with torch.no_grad():
        next(p for p in model.parameters() if p.requires_grad).fill_(float("nan"))


def exhaust_memory() -> None:
    """Limit the address space to little more than what is used, and ask torch for a gigabyte."""
    held, most = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + _SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, most))
    try:
        torch.empty(_ASKED_BYTES, dtype=torch.uint8)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (held, most))
