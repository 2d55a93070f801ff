"""What protection gives back: the text, what was found, and a map that keeps its values to itself.

Nothing here shows a value by accident: not in a `repr`, not in `to_dict`, not in a pickle.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NoReturn

from privacy_core.redaction.findings import Finding
from privacy_core.redaction.rewriting import Replacement
from privacy_finetuner.context.pieces import Edit
from privacy_finetuner.errors import ConfigurationError

if TYPE_CHECKING:
    from privacy_runtime.pseudonyms.keys import RedactionKeys

DISTRIBUTION: Final = "privacy-finetuner"
"""The name under which this program is installed: its version stands in what it writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityFound:
    """One thing that was found and replaced. It does not hold the value.

    Attributes:
        label: entity type, for example `EMAIL`.
        start: index of its first character in the text that was given, in code points.
        end: index after its last.
        score: calibrated probability that it is what the label says.
        rule: what decided, as `<recognizer>.<rule>`.
        evidence: why, in words of our own tables.
        operator: what replaced it.
        replacement: what stands in its place.
        new_start: index of the replacement in the protected text.
        new_end: index after it.
        column: where in a document it stood; "" in plain text.
    """

    label: str
    start: int
    end: int
    score: float
    rule: str
    evidence: tuple[str, ...]
    operator: str
    replacement: str = field(repr=False)  # a surrogate must not be mistaken for a leak
    new_start: int
    new_end: int
    column: str = ""

    @classmethod
    def of(cls, done: Replacement, column: str) -> EntityFound:
        """What a rewriting did at one place."""
        found = done.finding
        return cls(
            label=found.label,
            start=done.start,
            end=done.end,
            score=found.score,
            rule=found.rule,
            evidence=found.evidence,
            operator=done.operator,
            replacement=done.replaced_by,
            new_start=done.new_start,
            new_end=done.new_end,
            column=column,
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        document = {name: getattr(self, name) for name in self.__slots__}
        document["evidence"] = list(self.evidence)
        if not self.column:
            del document["column"]
        return document


@dataclass(frozen=True, slots=True)
class SealedEntry:
    """One value of a redaction map, sealed.

    Attributes:
        label: entity type.
        replacement: what stands in the text.
        digest: keyed hash of the value, where ENTITY_HASHING is among the strategies.
        sealed: the value as a token that only the key opens, where SEMANTIC_ENCRYPTION is.
        value: the value itself, where it is not sealed; never shown.
    """

    label: str
    replacement: str = field(repr=False)
    digest: str = ""
    sealed: str = field(default="", repr=False)
    value: str | None = field(default=None, repr=False)


class RedactionMap:
    """Which replacement stands for which value. Shows counts only.

    It iterates over replacements, in the order of the text; what they stand for is said by
    `originals`, on purpose and nowhere else. It cannot be pickled.
    """

    __slots__ = ("_entries", "_tenant")

    def __init__(self, entries: Sequence[SealedEntry], tenant: str = "default") -> None:
        self._entries = tuple(entries)
        self._tenant = tenant

    @property
    def counts(self) -> dict[str, int]:
        """How many values of each type."""
        return dict(Counter(entry.label for entry in self._entries))

    @property
    def digests(self) -> dict[str, str]:
        """Replacement -> keyed hash of its value; empty without ENTITY_HASHING."""
        return {e.replacement: e.digest for e in self._entries if e.digest}

    @property
    def sealed(self) -> dict[str, str]:
        """Replacement -> the value as a token for the holder of the key; may be stored."""
        return {e.replacement: e.sealed for e in self._entries if e.sealed}

    @property
    def is_sealed(self) -> bool:
        """Whether the values are in it as tokens only, so that `originals` needs the key."""
        return all(entry.value is None for entry in self._entries)

    def originals(self, encryption_key: str | RedactionKeys | None = None) -> list[tuple[str, str]]:
        """Say the values: (original, replacement) pairs in the order of the text.

        Args:
            encryption_key: needed where the map is sealed (SEMANTIC_ENCRYPTION).

        Raises:
            ConfigurationError: the map is sealed and no key was given, or it does not fit.
        """
        if not self.is_sealed:
            return [(entry.value or "", entry.replacement) for entry in self._entries]
        if encryption_key is None:
            raise ConfigurationError(
                "the values of this map are sealed: originals(encryption_key) opens them"
            )
        from privacy_finetuner.context.reversal import opened  # noqa: PLC0415 -- loads cryptography

        sealed = [entry.sealed for entry in self._entries]
        values = opened(sealed, encryption_key, self._tenant)
        return [(v, e.replacement) for v, e in zip(values, self._entries, strict=True)]

    def __iter__(self) -> Iterator[str]:
        return (entry.replacement for entry in self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        kinds = ", ".join(f"{label}: {count}" for label, count in sorted(self.counts.items()))
        return f"RedactionMap({kinds or 'empty'})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a redaction map holds values and is not pickled; keep `sealed` instead")


@dataclass(frozen=True, slots=True, repr=False)
class Protected:
    """The pieces of a record after protection: what to change in each, and what was found."""

    edits: list[list[Edit]]
    entities: list[EntityFound]
    entries: list[SealedEntry]
    findings: list[Finding]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ProtectionResult:
    """A protected text, and what was done to it.

    Attributes:
        protected_text: the text with every finding replaced.
        redaction_map: replacement -> value, sealed.
        sensitivity_score: probability that the text holds at least one of the things that were
            found in it, were they independent: 1 - prod(1 - score), over everything the level looks
            for, also what is preserved. 0 where nothing was found.
        entities_found: what was replaced, in the order of the text.
    """

    protected_text: str
    redaction_map: RedactionMap
    sensitivity_score: float
    entities_found: list[EntityFound]

    @classmethod
    def of(cls, protected_text: str, made: Protected, tenant: str) -> ProtectionResult:
        """The result of what was decided."""
        return cls(
            protected_text=protected_text,
            redaction_map=RedactionMap(made.entries, tenant),
            sensitivity_score=score_of(made.findings),
            entities_found=made.entities,
        )

    def __repr__(self) -> str:
        return (
            f"ProtectionResult(characters={len(self.protected_text)}, "
            f"entities={self.redaction_map!r}, sensitivity_score={self.sensitivity_score:.3f})"
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON, without a value."""
        return {
            "protected_text": self.protected_text,
            "entities": [entity.to_dict() for entity in self.entities_found],
            "sensitivity_score": self.sensitivity_score,
        }


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ProtectedValue:
    """A protected JSON value (or list of messages), and what was done to it.

    Attributes:
        value: the value, of the same shape; a number in which something was found is text.
        redaction_map: as in `ProtectionResult`.
        sensitivity_score: as in `ProtectionResult`.
        entities_found: as in `ProtectionResult`, each with its `column`.
    """

    value: Any
    redaction_map: RedactionMap
    sensitivity_score: float
    entities_found: list[EntityFound]

    @classmethod
    def of(cls, value: Any, made: Protected, tenant: str) -> ProtectedValue:
        """The result of what was decided."""
        return cls(
            value=value,
            redaction_map=RedactionMap(made.entries, tenant),
            sensitivity_score=score_of(made.findings),
            entities_found=made.entities,
        )

    def __repr__(self) -> str:
        return (
            f"ProtectedValue(entities={self.redaction_map!r}, "
            f"sensitivity_score={self.sensitivity_score:.3f})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What happens to one finding, and why.

    Attributes:
        finding: where, what, how sure, by which rule, on what evidence.
        action: `replace`, or `leave`.
        reason: why, in a sentence.
        operator: what replaces it; "" where it is left.
        leaks: what an onlooker of the protected text still learns about it.
    """

    finding: Finding
    action: str
    reason: str
    operator: str
    leaks: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        found = self.finding
        return {
            "label": found.label,
            "start": found.start,
            "end": found.end,
            "score": found.score,
            "rule": found.rule,
            "evidence": list(found.evidence),
            "action": self.action,
            "reason": self.reason,
            "operator": self.operator,
            "leaks": self.leaks,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactionReport:
    """What would be redacted, and why. It holds no text.

    Attributes:
        decisions: one for each finding, in the order of the text.
        level: sensitivity level that was asked for.
        threshold: lowest score that is redacted.
        sensitivity_score: as in `ProtectionResult`.
        policy: what the level and the threshold mean, in sentences.
        limits: what redaction does not do, said of this text.
    """

    decisions: list[Decision]
    level: str
    threshold: float
    sensitivity_score: float
    policy: str
    limits: list[str]

    @property
    def redacted(self) -> list[Decision]:
        """What would be replaced."""
        return [each for each in self.decisions if each.action == "replace"]

    @property
    def left(self) -> list[Decision]:
        """What was noticed and would stay."""
        return [each for each in self.decisions if each.action == "leave"]

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "level": self.level,
            "threshold": self.threshold,
            "sensitivity_score": self.sensitivity_score,
            "policy": self.policy,
            "decisions": [each.to_dict() for each in self.decisions],
            "limits": self.limits,
        }


def score_of(findings: Sequence[Finding]) -> float:
    """Probability that at least one finding is real, were they independent."""
    # In logarithms: ten thousand factors below one must not become zero by rounding alone.
    logs = [math.log1p(-min(f.score, 1.0)) if f.score < 1.0 else -math.inf for f in findings]
    return -math.expm1(sum(logs)) if logs else 0.0
