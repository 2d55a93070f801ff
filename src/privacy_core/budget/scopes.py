"""Whose budget: the data's, which is the guarantee, and the people's, which is a limit on use.

==========  =====================================================  ==========================
kind        path                                                   what its cap means
==========  =====================================================  ==========================
protection  cohort / time slice [/ subject]                        a differential privacy
                                                                   guarantee of the data's
                                                                   subjects
quota       organisation [/ department [/ user [/ project          a limit on use; nobody's
            [/ purpose]]]]                                         privacy rests on it
==========  =====================================================  ==========================

Blocks of one cohort are disjoint in time, so each has its own budget (parallel composition), and
an act that touches several is charged to each. New data is a new block with a new budget; an old
block is never refilled by the calendar. Budgets per analyst alone would not be sound: analysts
see each other's answers ("Big Bird", arXiv:2506.05290).

A block and its subjects are accounts of their own. Whoever filters by subject must leave an
exhausted subject out in silence: which subjects are exhausted depends on the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from privacy_core.errors import InvalidParameter

PART_MOST: Final = 128
"""Longest part of a scope's path, in characters."""


class ScopeKind(StrEnum):
    """What a cap on the scope means."""

    PROTECTION = "protection"
    QUOTA = "quota"


_DEPTHS: Final = {ScopeKind.PROTECTION: (2, 3), ScopeKind.QUOTA: (1, 5)}


@dataclass(frozen=True, slots=True, order=True)
class Scope:
    """One account's name. Sorts the same way everywhere, so locks are taken in one order.

    Raises:
        InvalidParameter: wrong number of parts, or a part is blank, too long, padded with blanks,
            or holds `/` or a control character.
    """

    kind: ScopeKind
    path: tuple[str, ...]

    def __post_init__(self) -> None:
        least, most = _DEPTHS[self.kind]
        if not least <= len(self.path) <= most:
            raise InvalidParameter(
                f"{self.kind.value} scope", found=self.path, expected=f"{least} to {most} parts"
            )
        for part in self.path:
            _require_part(part)

    def __str__(self) -> str:
        return "/".join((self.kind.value, *self.path))

    @property
    def with_ancestors(self) -> tuple[Scope, ...]:
        """What a charge to this scope is charged to: a quota implies those above it."""
        if self.kind is ScopeKind.PROTECTION:
            return (self,)
        return tuple(
            Scope(ScopeKind.QUOTA, self.path[:depth]) for depth in range(1, len(self.path) + 1)
        )


def protection(cohort: str, time_slice: str, subject: str | None = None) -> Scope:
    """A block of data, or one subject in it: `protection("hospital-a", "2026-08")`."""
    path = (cohort, time_slice) if subject is None else (cohort, time_slice, subject)
    return Scope(ScopeKind.PROTECTION, path)


def quota(*path: str) -> Scope:
    """A node of the tree of users: `quota("clinic", "research", "ada", "triage")`."""
    return Scope(ScopeKind.QUOTA, path)


def parse_scope(text: str) -> Scope:
    """Read what `str(scope)` wrote.

    Raises:
        InvalidParameter: it is not the name of a scope.
    """
    kind, *path = text.split("/") if isinstance(text, str) else [""]
    if kind not in set(ScopeKind):
        raise InvalidParameter(
            "scope", found=text, expected="protection/COHORT/SLICE or quota/ORGANISATION..."
        )
    return Scope(ScopeKind(kind), tuple(path))


def _require_part(part: str) -> None:
    if (
        not isinstance(part, str)
        or not 0 < len(part) <= PART_MOST
        or part != part.strip()
        or "/" in part
        or not part.isprintable()
    ):
        raise InvalidParameter(
            "part of a scope",
            found=part,
            expected=f"1 to {PART_MOST} printable characters without '/' or blanks around",
        )
