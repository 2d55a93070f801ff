"""Noise that takes back a part of earlier noise, step by step, without ever storing a sum.

The matrix mechanism releases the rows of C G + Z, where G holds the clipped sums and Z fresh
Gaussian noise; with c_0 = 1 and in units of the clip norm, row t is

    h_t + z_t,   h_t = g_t - sum_{j >= 1} c_j xhat_(t-j),   xhat_t = (h_t + z_t) - g_t

that is C G up to what was released before, so `GaussianNoise.privatize` of h_t *is* the mechanism,
on the lattice, with all its guarantees. What it returns is g_t + xhat_t with xhat = C^-1 Z: the
update. So the state is earlier noise, and nothing has to be rounded that was not rounded before.

What is remembered is secret: whoever knows xhat_t can take it off the update. It stays in memory
and in a file beside the checkpoints, never in them (`training.noise_state`).

Units: the clip norm may change from step to step, so noise is remembered relative to the
sensitivity of its own step. A unit then moves row t + j by c_j, whatever the clip norm has become.

Shapes: R rows of memory, each as large as the sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from privacy_core.errors import InvalidParameter
from privacy_core.mechanisms.matrix_factorization import (
    BandedToeplitz,
    BufferedToeplitz,
    Correlation,
)
from privacy_finetuner.training.noise import GaussianNoise


class CorrelatedNoise:
    """Adds noise to the sums of one step after the other.

    Guarantee: if one unit takes part only in steps that the plan allows it, and moves the sums of
    each by at most that step's `sensitivity`, then all releases together are the matrix mechanism
    with first column `correlation` and noise `fresh_noise_multiplier`. With one band this is
    `GaussianNoise.privatize`.

    A step whose release was refused leaves the memory as it was. `memory` and `restore` continue a
    run elsewhere, with noise of another source.

    Args:
        correlation: C.
        fresh_noise_multiplier: standard deviation of Z in units of the sensitivity, > 0: the priced
            multiplier times the sensitivity of C (`DPTrainingPlan.fresh_noise_multiplier`).
    """

    def __init__(self, correlation: Correlation, fresh_noise_multiplier: float) -> None:
        self._memory: _Memory = (
            _Window(correlation)
            if isinstance(correlation, BandedToeplitz)
            else _Buffers(correlation)
        )
        self._multiplier = fresh_noise_multiplier
        self.copies = (
            correlation.bands - 1
            if isinstance(correlation, BandedToeplitz)
            else len(correlation.decays)
        )
        """How many float64 copies of the sums it remembers, once it has seen enough steps."""

    def privatize(
        self, noise: GaussianNoise, sums: Sequence[Tensor], *, sensitivity: float
    ) -> list[Tensor]:
        """Return the sums of the next step with their noise, in float64.

        Always in float64: the type of the sums tells whether they were made in one piece or in
        several, and rounding to it would show that in what is released.

        Args:
            noise: where fresh noise comes from.
            sums: floating-point tensors; the same shapes in every step. Unchanged by the call.
            sensitivity: of this step, > 0.

        Raises:
            InvalidParameter: as `GaussianNoise.privatize`, or the shapes are not those of the steps
                before; nothing is released or remembered.
        """
        sums_64 = [part.detach().to(torch.float64) for part in sums]
        due = self._memory.due()
        if due and [part.shape for part in due] != [part.shape for part in sums]:
            raise InvalidParameter(
                "sums", found="other shapes", expected="the shapes of the steps before"
            )
        rows = (
            [
                part.sub(earlier.to(part.device), alpha=sensitivity)
                for part, earlier in zip(sums_64, due, strict=True)
            ]
            if due
            else sums_64
        )
        released = noise.privatize(rows, sensitivity=sensitivity, noise_multiplier=self._multiplier)
        self._memory.remember(
            [(out - part) / sensitivity for out, part in zip(released, sums_64, strict=True)]
        )
        return [out.to(torch.float64) for out in released]

    def memory(self) -> dict[str, Tensor]:
        """What is remembered, by name: to be kept as secret as the data."""
        return {name: part.cpu().clone() for name, part in self._memory.tensors().items()}

    def restore(self, memory: dict[str, Tensor]) -> None:
        """Continue from what `memory` returned.

        Raises:
            InvalidParameter: it is not of this correlation; nothing was taken over.
        """
        self._memory.load({name: part.clone() for name, part in memory.items()})


class _Memory(Protocol):
    """What a step must know of the noise before it."""

    def due(self) -> list[Tensor]:
        """sum_{j >= 1} c_j xhat_(t-j), a tensor a part; empty before the first step."""

    def remember(self, noise: list[Tensor]) -> None: ...

    def tensors(self) -> dict[str, Tensor]: ...

    def load(self, tensors: dict[str, Tensor]) -> None: ...


class _Rows:
    """R rows of past noise for each part, and their sum with R weights."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.parts: list[Tensor] = []  # [R, ...], as the part itself

    def begin(self, noise: list[Tensor]) -> None:
        if not self.parts:
            self.parts = [part.new_zeros((self.count, *part.shape)) for part in noise]

    def sums(self, weights_R: Tensor) -> list[Tensor]:
        return [
            (weights_R.to(rows.device) @ rows.flatten(1)).view(rows.shape[1:])
            for rows in self.parts
        ]

    def tensors(self) -> dict[str, Tensor]:
        return {f"part.{index}": rows for index, rows in enumerate(self.parts)}

    def load(self, tensors: dict[str, Tensor]) -> None:
        parts = [tensors.get(f"part.{index}") for index in range(len(tensors))]
        found = [None if rows is None else tuple(rows.shape[:1]) for rows in parts]
        if any(rows != (self.count,) for rows in found):
            raise InvalidParameter(
                "memory", found=found, expected=f"tensors of {self.count} rows, numbered from 0"
            )
        self.parts = [rows for rows in parts if rows is not None]


class _Window:
    """The noise of the last b - 1 steps, in a ring."""

    def __init__(self, correlation: BandedToeplitz) -> None:
        self._weights_R = torch.tensor(correlation.coefficients[1:], dtype=torch.float64)
        self._rows = _Rows(correlation.bands - 1)
        self._newest = 0

    def due(self) -> list[Tensor]:
        return self._rows.sums(self._weights_R.roll(self._newest))

    def remember(self, noise: list[Tensor]) -> None:
        if self._rows.count == 0:
            return
        self._rows.begin(noise)
        self._newest = (self._newest - 1) % self._rows.count
        for rows, part in zip(self._rows.parts, noise, strict=True):
            rows[self._newest] = part

    def tensors(self) -> dict[str, Tensor]:
        return {"newest": torch.tensor([self._newest]), **self._rows.tensors()}

    def load(self, tensors: dict[str, Tensor]) -> None:
        newest = tensors.pop("newest", None)
        if newest is None or not 0 <= int(newest) < max(1, self._rows.count):
            raise InvalidParameter("memory", found=newest, expected="the place of the newest row")
        self._rows.load(tensors)
        self._newest = int(newest)


class _Buffers:
    """Decaying sums of all noise so far: s_j <- th_j s_j + xhat."""

    def __init__(self, correlation: BufferedToeplitz) -> None:
        self._decays = correlation.decays
        self._weights_R = torch.tensor(correlation.weights, dtype=torch.float64)
        self._rows = _Rows(len(correlation.decays))

    def due(self) -> list[Tensor]:
        return self._rows.sums(self._weights_R)

    def remember(self, noise: list[Tensor]) -> None:
        self._rows.begin(noise)
        for rows, part in zip(self._rows.parts, noise, strict=True):
            for row, decay in zip(rows, self._decays, strict=True):
                row.mul_(decay).add_(part)

    def tensors(self) -> dict[str, Tensor]:
        return self._rows.tensors()

    def load(self, tensors: dict[str, Tensor]) -> None:
        self._rows.load(tensors)
