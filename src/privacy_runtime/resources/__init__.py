"""One sampler of the machine, promises of what it has, and a watch that acts before it runs out."""

from __future__ import annotations

from privacy_runtime.resources.allocation import (
    Allocation,
    Amounts,
    NotEnough,
    Promise,
    ScalingPolicy,
)
from privacy_runtime.resources.readings import (
    AcceleratorReading,
    DiskReading,
    Reading,
    Sampler,
)
from privacy_runtime.resources.watch import Level, ResourceWatch, Shortage

__all__ = [
    "AcceleratorReading",
    "Allocation",
    "Amounts",
    "DiskReading",
    "Level",
    "NotEnough",
    "Promise",
    "Reading",
    "ResourceWatch",
    "Sampler",
    "ScalingPolicy",
    "Shortage",
]
