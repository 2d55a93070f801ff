"""What a mechanism is: a value that knows its sensitivity, its event, and how to release.

A mechanism is public: it is made of parameters only, before it meets data. Data and chance come in
as arguments of `release`. Whoever calls `release` has charged `event` first.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from privacy_core.accounting import epsilon_of
from privacy_core.dp_events import DpEvent
from privacy_core.errors import InvalidParameter
from privacy_core.guarantee import Guarantee, NeighbouringRelation

Data_contra = TypeVar("Data_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)


class Entropy(Protocol):
    """Gives bytes that nobody else can predict."""

    def token_bytes(self, size_bytes: int) -> bytes:
        """`size_bytes` fresh bytes."""
        ...


class Mechanism(Protocol[Data_contra, Result_co]):
    """The plugin contract. Implementations are immutable and hold no data.

    Guarantee: for any two data sets that are neighbours under `relation`, the laws of `release` are
    at most as far apart as `event` says, priced under the same relation.
    """

    @property
    def relation(self) -> NeighbouringRelation:
        """Which data sets are neighbours. The event belongs to this relation only."""

    @property
    def sensitivity(self) -> float:
        """How far the exact answer moves between neighbours, in the mechanism's own norm."""

    @property
    def event(self) -> DpEvent:
        """What a release does to the data."""

    def release(self, data: Data_contra, entropy: Entropy) -> Result_co:
        """The noisy answer, with fresh randomness."""


def event_under(
    mechanism: Mechanism[Data_contra, Result_co], relation: NeighbouringRelation
) -> DpEvent:
    """The event, for an account that is kept under `relation`.

    Raises:
        InvalidParameter: the mechanism was made for the other relation. Its event must not be
            priced here: under the wrong relation it may cost half of the truth.
    """
    if mechanism.relation is not NeighbouringRelation(relation):
        raise InvalidParameter(
            "relation",
            found=mechanism.relation.value,
            expected=f"{relation}: make the mechanism for the relation of the account",
        )
    return mechanism.event


def guarantee_of(
    mechanism: Mechanism[Data_contra, Result_co], delta: float = 0.0, accountant: str = "pld"
) -> Guarantee:
    """The guarantee of one release.

    Raises:
        InvalidParameter: `delta` or `accountant` is outside its domain.
        UnsupportedEvent: the accountant has no sound price for the event.
    """
    relation = mechanism.relation
    epsilon = epsilon_of(mechanism.event, delta, accountant, relation=relation)
    return Guarantee(epsilon=epsilon, delta=delta, relation=relation)
