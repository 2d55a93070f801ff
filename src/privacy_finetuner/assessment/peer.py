"""A third opinion on a price: Google's dp-accounting, where it is installed.

Our two accountants are independent of each other, and both are ours. This one is not. It is no
dependency of this program: without it a certificate says so, and is none the worse.

Source: google/differential-privacy, `dp_accounting.pld.PLDAccountant` (pessimistic estimate).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata, util
from typing import Any, Final

from privacy_core.dp_events import (
    Composed,
    DpEvent,
    Gaussian,
    Laplace,
    NonPrivate,
    NoOp,
    PoissonSampled,
    SelfComposed,
)
from privacy_core.guarantee import NeighbouringRelation

_DISTRIBUTION: Final = "dp-accounting"
# Coarser than its default of 1e-4, and rounded up: quicker, never lower.
_INTERVAL: Final = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerPrice:
    """What the peer says. `epsilon` is `None` where it has no price for the event."""

    accountant: str
    version: str
    epsilon: float | None


class _NoEvent(Exception):
    """The peer has no event of this kind."""


def peer_price(event: DpEvent, delta: float, relation: NeighbouringRelation) -> PeerPrice | None:
    """Price an event by dp-accounting's PLD accountant; `None` where it is not installed.

    Args:
        event: what was done.
        delta: in (0, 1).
        relation: which two data sets are neighbours.
    """
    if util.find_spec("dp_accounting") is None:
        return None
    import dp_accounting  # type: ignore[import-untyped]  # noqa: PLC0415 -- optional, no types
    from dp_accounting.pld import PLDAccountant  # type: ignore[import-untyped]  # noqa: PLC0415

    relations = dp_accounting.NeighboringRelation
    theirs = {
        NeighbouringRelation.ADD_OR_REMOVE_ONE: relations.ADD_OR_REMOVE_ONE,
        NeighbouringRelation.REPLACE_ONE: relations.REPLACE_ONE,
    }[relation]
    accountant = PLDAccountant(theirs, value_discretization_interval=_INTERVAL)
    epsilon: float | None = None
    try:
        translated = _translated(event, dp_accounting)
        if accountant.supports(translated):
            epsilon = float(accountant.compose(translated).get_epsilon(delta))
    except _NoEvent:
        pass
    return PeerPrice(
        accountant="dp_accounting.pld",
        version=metadata.version(_DISTRIBUTION),
        epsilon=epsilon,
    )


def _translated(event: DpEvent, peer: Any) -> Any:
    match event:
        case NoOp():
            return peer.NoOpDpEvent()
        case NonPrivate():
            return peer.NonPrivateDpEvent()
        case Gaussian():
            return peer.GaussianDpEvent(event.noise_multiplier)
        case Laplace():
            return peer.LaplaceDpEvent(event.noise_multiplier)
        case PoissonSampled():
            return peer.PoissonSampledDpEvent(
                event.sampling_probability, _one_gaussian(event.event, peer)
            )
        case SelfComposed():
            return peer.SelfComposedDpEvent(_translated(event.event, peer), event.count)
        case Composed():
            return peer.ComposedDpEvent([_translated(part, peer) for part in event.events])
        case _:
            raise _NoEvent


def _one_gaussian(event: DpEvent, peer: Any) -> Any:
    """Gaussians on one sample are one Gaussian, whose precision is the sum of theirs."""
    match event:
        case Composed(events) if events and all(isinstance(part, Gaussian) for part in events):
            precision = sum(p.noise_multiplier**-2 for p in events if isinstance(p, Gaussian))
            return peer.GaussianDpEvent(precision**-0.5)
        case _:
            return _translated(event, peer)
