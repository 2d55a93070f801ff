"""Batches from groups that take turns: what correlated noise needs to keep its Poisson price.

A unit's steps are then at least `groups` apart, whatever the coins say. Inside a group it is
Poisson sampling, as in `training.sampling`, at `groups` times the rate: batches are as large.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from privacy_core.dp_events import DpEvent, PoissonSampled
from privacy_core.errors import InvalidParameter
from privacy_finetuner.training.sampling import Indices, PoissonSampler
from privacy_runtime.keystream import KeyStream


class CyclicPoissonSampler:
    """The t-th draw is a Poisson sample of group t mod `groups`. A batch may be empty.

    Guarantee: a unit takes part only in draws that are a multiple of `groups` apart, each time by a
    coin of its own. Every unit draws its group for itself, in secret: whether another unit is
    there changes nobody's group. (Groups of equal size would: one that is absent leaves a gap that
    somebody fills, and the price under `ADD_OR_REMOVE_ONE` would be wrong.)

    The price holds for any one assignment, so a run that is resumed must bring its own back, with
    the count of draws (`continue_from`): a second one would let a unit take part twice in a round.

    Args:
        dataset_size: number of units, >= 1.
        groups: how many groups take turns, >= 1.
        sampling_probability: of a unit to join when it is its group's turn, in (0, 1].
        stream: where groups and coins come from.

    Raises:
        InvalidParameter: an argument is outside its domain.

    Source: Choquette-Choo et al. 2023 (arXiv:2306.08153), algorithm 2 and theorem 4.
    """

    kind: ClassVar[str] = "cyclic_poisson"

    def __init__(
        self, dataset_size: int, groups: int, sampling_probability: float, stream: KeyStream
    ) -> None:
        if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
            raise InvalidParameter("groups", found=groups, expected="a whole number >= 1")
        PoissonSampler(dataset_size, sampling_probability, stream)  # checks both numbers
        self.dataset_size = dataset_size
        self.groups = groups
        self.sampling_probability = float(sampling_probability)
        self._stream = stream
        drawn = stream.words(dataset_size) % np.uint64(groups)
        self.continue_from(drawn.astype(np.int64), draws=0)

    def continue_from(self, groups_of_units: Indices, *, draws: int) -> None:
        """Take over the assignment of a run and the number of its draws.

        Raises:
            InvalidParameter: not one group below `groups` for each unit.
        """
        is_assignment = groups_of_units.shape == (self.dataset_size,) and bool(
            np.all((groups_of_units >= 0) & (groups_of_units < self.groups))
        )
        if not is_assignment:
            raise InvalidParameter(
                "groups_of_units",
                found=f"shape {groups_of_units.shape}",
                expected=f"a group below {self.groups} for each of {self.dataset_size} units",
            )
        self.groups_of_units = groups_of_units
        self.draws = draws
        self._members = [np.flatnonzero(groups_of_units == group) for group in range(self.groups)]
        self._samplers = [
            PoissonSampler(members.size, self.sampling_probability, self._stream)
            if members.size
            else None
            for members in self._members
        ]

    @property
    def expected_batch_size(self) -> float:
        """The mean over groups and assignments: `dataset_size * sampling_probability / groups`."""
        return self.dataset_size * self.sampling_probability / self.groups

    def draw(self) -> Indices:
        """Return the units that joined this step; possibly none."""
        turn = self.draws % self.groups
        self.draws += 1
        sampler = self._samplers[turn]
        if sampler is None:
            return np.empty(0, dtype=np.int64)
        return self._members[turn][sampler.draw()]

    def event(self, mechanism: DpEvent) -> DpEvent:
        """Return what a draw does to the group whose turn it is: once in `groups` draws."""
        if self.sampling_probability == 1:
            return mechanism
        return PoissonSampled(self.sampling_probability, mechanism)
