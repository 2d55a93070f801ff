"""What replaces a found value, and the state that keeps replacements consistent.

============  =====================  ==========  ===================================================
operator      John Doe, 4111...1111  reversible  what is left
============  =====================  ==========  ===================================================
`Placeholder` `[PERSON]`             no          type; equality inside one scope, through the number
`Mask`        `**** ***`, `1111`     no          length, layout, the last characters if asked for
`Drop`        (nothing)              no          that something is missing, if the sentence tells
`Generalise`  `30-39`, `021**`       no          the band, the first three digits, the year
============  =====================  ==========  ===================================================

Those that lead back (tokens, vault, format-preserving encryption, surrogates) and the keyed hash
need keys and live in `privacy_runtime.pseudonyms`; they follow the same protocol.

**Numbers.** The first value of a type in a scope is `[PERSON]`, the second `[PERSON_2]`, the third
`[PERSON_3]`: the first never becomes `[PERSON_1]`, because a stream has sent it on before it knows
of a second. A text with one person therefore reads like the documented example. Two spellings of
one canonical form (`canonical_forms`) are one value. Placeholders that stand in the text already
take their number from those that are given later.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

from privacy_core.errors import InvalidParameter
from privacy_core.redaction import generalisation
from privacy_core.redaction.canonical_forms import canonical
from privacy_core.redaction.findings import Finding
from privacy_core.redaction.marks import LABELS, Mark, MarkKind, find_marks

DEFAULT_CAPACITY: Final = 100_000
Memory = TypeVar("Memory")


class Operator(Protocol):
    """Says what stands in the place of a value."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    @property
    def reversible(self) -> bool:
        """Whether the value can be had back, by whoever holds a key."""
        ...

    def replace(self, value: str, finding: Finding, scope: Scope) -> str:
        """Return what stands in the place of `value`.

        Args:
            value: the text of the finding.
            finding: where it was and what it is.
            scope: the document or conversation; may be changed.
        """
        ...


@dataclass(kw_only=True)
class Scope:
    """The document or conversation inside which replacements agree. Shows no value of it.

    Give one scope to every text of a conversation, and a fresh one to every document that must not
    be linked with others. It holds values in memory; it is not for storage and not thread-safe.

    Args:
        subject: whom the text is about (a patient's number), for offsets of dates; never shown.
        labels: entity types whose placeholders are recognised in a text.
        capacity: how many distinct values are remembered. Beyond it the one seen longest ago is
            forgotten; when it returns it gets a new number. Two values never share a number.
        is_authentic: whether a sealed or session token is genuine. Without it every token of the
            right form is left as it is.
    """

    subject: str = field(default="", repr=False)
    labels: Collection[str] = field(default=LABELS, repr=False)
    capacity: int = DEFAULT_CAPACITY
    is_authentic: Callable[[str], bool] | None = field(default=None, repr=False)
    text: str = field(default="", init=False, repr=False)
    _memories: dict[object, Any] = field(default_factory=dict, init=False, repr=False)
    _numbers: OrderedDict[tuple[str, str], int] = field(
        default_factory=OrderedDict, init=False, repr=False
    )
    _last: dict[str, int] = field(default_factory=lambda: defaultdict(int), init=False, repr=False)

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise InvalidParameter("capacity", found=self.capacity, expected="at least 1")

    def number(self, label: str, value: str) -> int:
        """Return the number of a value among those of its type, from 1 in order of appearance."""
        key = (label, canonical(label, value))
        known = self._numbers.get(key)
        if known is not None:
            self._numbers.move_to_end(key)
            return known
        self._last[label] += 1
        self._numbers[key] = self._last[label]
        if len(self._numbers) > self.capacity:
            self._numbers.popitem(last=False)
        return self._last[label]

    def memory(self, owner: Operator, make: Callable[[], Memory]) -> Memory:
        """What an operator remembers inside this scope; it ends with the scope.

        An operator that remembered more would make one document's output depend on another's.

        Args:
            owner: the operator; each has a memory of its own.
            make: makes an empty one.
        """
        if owner not in self._memories:
            self._memories[owner] = make()
        found: Memory = self._memories[owner]
        return found

    def observe(self, mark: Mark) -> None:
        """Note a mark that stands in the text, so that no later value gets its number."""
        if mark.kind is MarkKind.PLACEHOLDER:
            self._last[mark.label] = max(self._last[mark.label], int(mark.code))

    def marks(self, text: str) -> list[Mark]:
        """Return the marks of a text that are left as they are, in order."""
        return [mark for mark in find_marks(text, self.labels) if self.accepts(mark, text)]

    def accepts(self, mark: Mark, text: str) -> bool:
        """Whether a mark is left as it is: it is genuine, or there is no way to know."""
        if self.is_authentic is None or mark.kind not in {MarkKind.SEALED, MarkKind.SESSION}:
            return True
        return self.is_authentic(text[mark.start : mark.end])


@dataclass(frozen=True, slots=True)
class Placeholder:
    """The type in brackets, with a number from the second value on.

    Args:
        numbered: tell the values of a type apart. False hides which mentions are the same.
        words: another word for a label.
    """

    numbered: bool = True
    words: Mapping[str, str] = field(default_factory=dict)
    name: str = field(default="placeholder", init=False)
    reversible: bool = field(default=False, init=False)

    def replace(self, value: str, finding: Finding, scope: Scope) -> str:
        """Return `[TYPE]` or `[TYPE_n]`."""
        word = self.words.get(finding.label, finding.label)
        number = scope.number(finding.label, value) if self.numbered else 1
        return f"[{word}]" if number == 1 else f"[{word}_{number}]"


@dataclass(frozen=True, slots=True)
class Mask:
    """Letters and digits become asterisks; blanks and punctuation stay.

    Args:
        keep_last: how many of the last letters and digits stay, at most a third of them, so that a
            short value is not shown whole.
        character: what stands for a letter or digit.
    """

    keep_last: int = 0
    character: str = "*"
    name: str = field(default="mask", init=False)
    reversible: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        if self.keep_last < 0:
            raise InvalidParameter("keep_last", found=self.keep_last, expected="0 or more")
        if len(self.character) != 1 or self.character.isalnum() or self.character in '"\\<>&':
            raise InvalidParameter(
                "character", found=self.character, expected="one sign that no format escapes"
            )

    def replace(self, value: str, finding: Finding, scope: Scope) -> str:
        """Return the value's layout. A masked value is returned as it is."""
        del finding, scope
        shown = [letter.isspace() or _is_sign(letter, self.character) for letter in value]
        hidden = shown.count(False)
        hidden -= min(self.keep_last, hidden // 3)
        pieces = []
        for letter, is_shown in zip(value, shown, strict=True):
            pieces.append(letter if is_shown or hidden <= 0 else self.character)
            hidden -= not is_shown
        return "".join(pieces)


@dataclass(frozen=True, slots=True)
class Drop:
    """Nothing. The blanks around it stay, so that offsets remain simple."""

    name: str = field(default="drop", init=False)
    reversible: bool = field(default=False, init=False)

    def replace(self, value: str, finding: Finding, scope: Scope) -> str:
        """Return an empty string."""
        del value, finding, scope
        return ""


@dataclass(frozen=True, slots=True)
class Generalise:
    """Ages to bands, dates to years, ZIP codes to three digits: see `generalisation`.

    Args:
        this_year: the year in which ages are counted, for dates of birth. Without it they go to
            `otherwise`, because it cannot be known which of them show an age over 89.
        band_years: width of a band of ages, a divisor of 90.
        otherwise: what replaces other types, and values that cannot be read.
    """

    this_year: int | None = None
    band_years: int = 10
    otherwise: Operator = field(default_factory=Placeholder)
    name: str = field(default="generalise", init=False)
    reversible: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        if self.band_years < 1 or (generalisation.OLDEST_AGE + 1) % self.band_years:
            raise InvalidParameter("band_years", found=self.band_years, expected="a divisor of 90")

    def knows(self, finding: Finding) -> bool:
        """Whether values of this type have a coarse form."""
        return finding.label in {"AGE", "DATE", "DATE_OF_BIRTH", "POSTAL_CODE"}

    def replace(self, value: str, finding: Finding, scope: Scope) -> str:
        """Return the coarse value. One that is coarse already is returned as it is."""
        coarse = self._coarse(value, finding.label)
        return self.otherwise.replace(value, finding, scope) if coarse is None else coarse

    def _coarse(self, value: str, label: str) -> str | None:
        match label:
            case "AGE":
                return generalisation.age_band(value, width=self.band_years)
            case "DATE":
                return generalisation.year(value)
            case "DATE_OF_BIRTH" if self.this_year is not None:
                return generalisation.birth_year(value, this_year=self.this_year)
            case "POSTAL_CODE":
                return generalisation.zip3(value)
        return None


def _is_sign(letter: str, mask: str) -> bool:
    """Whether a letter is punctuation that every format has; accents and emoji parts are not."""
    return letter.isascii() and not letter.isalnum() and letter != mask
