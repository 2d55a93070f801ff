"""`${...}` in the texts of a file, filled in. Never read again as YAML, never filled in twice.

`${NAME}`                      the variable, or the secret that stands for it (see `secrets`); unset
                               or empty is a fault
`${NAME:-text}`                the same, or `text` when it is unset or empty
`${NAME:?words}`               the same; the fault has these words
`${file:PATH}`, `${vault:...}` a secret (see `secrets`)
`$$`                           one `$`

A `$` in any other place is a fault: what it was meant to be cannot be known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from privacy_runtime.settings.faults import SecretUnavailable
from privacy_runtime.settings.secrets import Found, Lookup

_REFERENCE: Final = re.compile(
    r"\$(?:(?P<dollar>\$)"
    r"|\{(?P<scheme>file|vault):(?![-?])(?P<reference>[^{}$]+)\}"
    r"|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::(?P<how>[-?])(?P<word>[^{}$]*))?\}"
    r"|(?P<stray>))"
)


class CannotExpand(ValueError):
    """A text cannot be filled in; the message says why, without any value."""


@dataclass(frozen=True, slots=True)
class Expanded:
    """A text after filling in.

    Attributes:
        text: the result.
        parts: what was filled in, in order.
        is_whole: whether the text was one reference and nothing else.
    """

    text: str = field(repr=False)
    parts: tuple[Found, ...] = ()
    is_whole: bool = False

    @property
    def is_secret(self) -> bool:
        """Whether any part came from a place that holds secrets."""
        return any(part.is_secret for part in self.parts)


def expand(text: str, lookup: Lookup) -> Expanded:
    """Fill in every reference of a text.

    Raises:
        CannotExpand: a variable is not set, a secret cannot be had, or a `$` stands alone.
    """
    pieces: list[str] = []
    parts: list[Found] = []
    end = 0
    for match in _REFERENCE.finditer(text):
        pieces.append(text[end : match.start()])
        end = match.end()
        if match["dollar"]:
            pieces.append("$")
            continue
        found = _found(match, lookup)
        parts.append(found)
        pieces.append(found.text)
    pieces.append(text[end:])
    is_whole = len(parts) == 1 and len(pieces) == 3 and not pieces[0] and not pieces[2]
    return Expanded("".join(pieces), tuple(parts), is_whole)


def names_in(text: str) -> Iterator[str]:
    """The variables that a text refers to."""
    for match in _REFERENCE.finditer(text):
        if match["name"]:
            yield match["name"]


def escaped(text: str) -> str:
    """A text that expands to `text`."""
    return text.replace("$", "$$")


def _found(match: re.Match[str], lookup: Lookup) -> Found:
    if match["stray"] is not None:
        raise CannotExpand(
            "has a '$' that begins no reference; expected ${NAME}, ${NAME:-default}, ${file:PATH}, "
            "${vault:MOUNT/PATH#FIELD}, or $$ for the sign itself"
        )
    try:
        if match["scheme"]:
            return lookup.fetch(match["scheme"], match["reference"])
        found = lookup.find(match["name"])
    except SecretUnavailable as error:
        raise CannotExpand(f"cannot be filled in: {error}") from error
    if match["how"] is not None and (found is None or not found.text):
        if match["how"] == "?":
            raise CannotExpand(
                f"needs {match['name']}, which is not set: {match['word'] or 'it is required'}"
            )
        return Found(match["word"], f"default of {match['name']}", is_secret=False)
    if found is None:
        name = match["name"]
        raise CannotExpand(
            f"needs {name}, which is not set; set it, or {name}_FILE, or mount a secret of that "
            f"name in {lookup.folder}, or write ${{{name}:-default}}"
        )
    if not found.text:
        name = match["name"]
        raise CannotExpand(f"needs {name}, which is empty; where that is meant: ${{{name}:-}}")
    return found
