"""What erasure means for each thing that was made of somebody's data.

Files, indexes and backups are deleted, or will have been by a date. A model is another matter:
(epsilon, delta)-differential privacy bounds how much one record (or one user) can have changed it.
It does not remove the influence, so a model is never "erased from". An officer decides what
happens to it: it is retired, trained again without the person, or kept with the bound stated.

Source: EDPB Opinion 28/2024: whether a model is anonymous is shown case by case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from privacy_core.errors import InvalidParameter

TEXT_MOST: Final = 300


class ArtefactKind(StrEnum):
    """What kind of thing was made of the data."""

    RAW_DATA = "raw_data"
    DERIVED_DATA = "derived_data"
    INDEX = "index"
    BACKUP = "backup"
    LOG = "log"
    MODEL = "model"


class Outcome(StrEnum):
    """What becomes of it."""

    DELETED = "deleted"
    EXPIRES = "expires"
    NOT_FOUND = "not_found"
    KEPT_BY_LAW = "kept_by_law"
    RETIRED = "retired"
    TRAINED_AGAIN = "trained_again"
    KEPT_WITH_BOUND = "kept_with_bound"
    UNDECIDED = "undecided"


_OF_DATA: Final = frozenset(
    {
        Outcome.DELETED,
        Outcome.EXPIRES,
        Outcome.NOT_FOUND,
        Outcome.KEPT_BY_LAW,
        Outcome.UNDECIDED,
    }
)
_OF_MODELS: Final = frozenset(
    {
        Outcome.RETIRED,
        Outcome.TRAINED_AGAIN,
        Outcome.KEPT_WITH_BOUND,
        Outcome.NOT_FOUND,
        Outcome.KEPT_BY_LAW,
        Outcome.UNDECIDED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtefactOutcome:
    """What becomes of one thing.

    Attributes:
        artefact: its name; never a person's data.
        kind: what it is.
        outcome: a model is never `deleted` from: see the module.
        until: when it is gone, of what expires.
        epsilon, delta, unit: the bound, of a model that is kept with one.
        note: for the answer to the person.
    """

    artefact: str
    kind: ArtefactKind
    outcome: Outcome
    until: datetime | None = None
    epsilon: float | None = None
    delta: float | None = None
    unit: str | None = None
    note: str = ""

    def __post_init__(self) -> None:
        for name, least in (("artefact", 1), ("note", 0)):
            text = getattr(self, name)
            if not least <= len(text) <= TEXT_MOST or not text.isprintable():
                raise InvalidParameter(
                    name, found=f"{len(text)} characters", expected=f"{least} to {TEXT_MOST}"
                )
        allowed = _OF_MODELS if self.kind is ArtefactKind.MODEL else _OF_DATA
        if self.outcome not in allowed:
            raise InvalidParameter(
                "outcome",
                found=f"{self.outcome.value} of a {self.kind.value}",
                expected=", ".join(sorted(allowed)),
            )
        if self.outcome is Outcome.EXPIRES and self.until is None:
            raise InvalidParameter("until", found=None, expected="when it is gone")
        bound = (self.epsilon, self.delta, self.unit)
        if self.outcome is Outcome.KEPT_WITH_BOUND and None in bound:
            raise InvalidParameter(
                "epsilon, delta, unit", found=bound, expected="the bound that is stated"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedModel:
    """A model that was trained on the records in question.

    Attributes:
        name: of the model or the job that made it.
        epsilon, delta: its guarantee; `None` where it has none.
        unit: `example` or `user`: whose presence the bound is about.
    """

    name: str
    epsilon: float | None
    delta: float | None
    unit: str


def plan(models: Sequence[TrainedModel]) -> list[ArtefactOutcome]:
    """What has to be decided for models, with what is known of each. It decides nothing."""
    return [
        ArtefactOutcome(
            artefact=each.name,
            kind=ArtefactKind.MODEL,
            outcome=Outcome.UNDECIDED,
            epsilon=each.epsilon,
            delta=each.delta,
            unit=each.unit,
            note=_statement(each),
        )
        for each in models
    ]


def _statement(each: TrainedModel) -> str:
    if each.epsilon is None or each.delta is None:
        return (
            "trained without a guarantee: to take the person out, it is retired or trained again "
            "without them"
        )
    return (
        f"the influence of one {each.unit} is bounded by epsilon {each.epsilon:.4g} at delta "
        f"{each.delta:.1e}; a bound is not erasure: retire it, train it again, or keep it and "
        "say so"
    )
