"""What each sensitivity level redacts, and from which calibrated score on.

===========  ==========================================================================  =========
level        types                                                                       threshold
===========  ==========================================================================  =========
``low``      values that are certain by themselves: validated or anchored identifiers         0.85
``medium``   also what points at one person: names, phones, addresses, records, births        0.50
``high``     also what narrows the circle: places, dates, ages, organisations, sums           0.25
===========  ==========================================================================  =========

Each level holds the one before it. A threshold is a probability (see `calibration`): at 0.85, about
85 of 100 findings with the lowest admitted score are what their label says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from privacy_core.errors import InvalidParameter
from privacy_core.redaction.entities import ENTITIES

LEVELS: Final = ("low", "medium", "high")


@dataclass(frozen=True, slots=True)
class Policy:
    """Which findings count.

    Attributes:
        level: name of the policy.
        labels: entity types that are redacted.
        threshold: lowest calibrated score of a finding that counts, in [0, 1].
        propagate: whether a name found once is redacted wherever else it stands in the text.
    """

    level: str
    labels: frozenset[str]
    threshold: float
    propagate: bool

    def admits(self, label: str, score: float) -> bool:
        """Whether a finding counts under this policy."""
        return score >= self.threshold and label in self.labels


def _upto(level: str) -> frozenset[str]:
    held = LEVELS[: LEVELS.index(level) + 1]
    return frozenset(name for name, entity in ENTITIES.items() if entity.level in held)


POLICIES: Final[Mapping[str, Policy]] = MappingProxyType(
    {
        "low": Policy("low", _upto("low"), 0.85, False),
        "medium": Policy("medium", _upto("medium"), 0.5, False),
        "high": Policy("high", _upto("high"), 0.25, True),
    }
)


def policy(level: str) -> Policy:
    """The policy of a level.

    Raises:
        InvalidParameter: there is no such level.
    """
    found = POLICIES.get(level)
    if found is None:
        raise InvalidParameter("level", found=level, expected="'low', 'medium' or 'high'")
    return found
