"""What a key may hold: domains that read a value and can say what they take.

A domain's `read` returns the value or raises `OutsideDomain`; the words for the refusal are
`expected`. `takes_text` says that a text from a variable is read as it stands; otherwise it is
first read as a plain YAML scalar, because variables know no types.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from privacy_runtime.secret import MASK, Secret


class OutsideDomain(ValueError):
    """A value is not in a domain."""


class Domain(Protocol):
    """What a key may hold."""

    @property
    def expected(self) -> str:
        """What it takes, in words."""

    @property
    def takes_text(self) -> bool:
        """Whether a text from a variable is read as it stands."""

    @property
    def is_secret(self) -> bool:
        """Whether its values are never shown."""

    def read(self, value: Any) -> Any:
        """The value of the key. Raises `OutsideDomain` when it is none."""


@dataclass(frozen=True, slots=True)
class Flag:
    """`true` or `false`."""

    expected: str = "true or false"
    takes_text: bool = False
    is_secret: bool = False

    def read(self, value: Any) -> bool:
        """See `Domain`."""
        if not isinstance(value, bool):
            raise OutsideDomain
        return value


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number, from `least` to `most`."""

    least: int
    most: int
    takes_text: bool = False
    is_secret: bool = False

    @property
    def expected(self) -> str:
        """See `Domain`."""
        return f"a whole number from {self.least} to {self.most}"

    def read(self, value: Any) -> int:
        """See `Domain`."""
        if not isinstance(value, int) or isinstance(value, bool):
            raise OutsideDomain
        if not self.least <= value <= self.most:
            raise OutsideDomain
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A finite number: above `above`, at least `least`, below `below`, at most `most`."""

    above: float | None = None
    least: float | None = None
    below: float | None = None
    most: float | None = None
    takes_text: bool = False
    is_secret: bool = False

    @property
    def expected(self) -> str:
        """See `Domain`."""
        limits = (
            ("above", self.above),
            ("at least", self.least),
            ("below", self.below),
            ("at most", self.most),
        )
        words = [f"{word} {limit:g}" for word, limit in limits if limit is not None]
        return " ".join(["a number", " and ".join(words)]) if words else "a finite number"

    def read(self, value: Any) -> float:
        """See `Domain`."""
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise OutsideDomain
        number = _finite(value)
        refused = (
            (self.above is not None and not number > self.above)
            or (self.least is not None and not number >= self.least)
            or (self.below is not None and not number < self.below)
            or (self.most is not None and not number <= self.most)
        )
        if refused:
            raise OutsideDomain
        return number


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some words."""

    words: tuple[str, ...]
    takes_text: bool = True
    is_secret: bool = False

    @property
    def expected(self) -> str:
        """See `Domain`."""
        return f"one of {', '.join(self.words)}"

    def read(self, value: Any) -> str:
        """See `Domain`."""
        if not isinstance(value, str) or value not in self.words:
            raise OutsideDomain
        return value


@dataclass(frozen=True, slots=True)
class Text:
    """A text of one line that matches a pattern as a whole."""

    pattern: str
    expected: str
    takes_text: bool = True
    is_secret: bool = False

    def read(self, value: Any) -> str:
        """See `Domain`."""
        if not isinstance(value, str) or not re.fullmatch(self.pattern, value):
            raise OutsideDomain
        return value


@dataclass(frozen=True, slots=True)
class Hidden:
    """A secret text of at least `least` characters, without line ends."""

    least: int = 1
    takes_text: bool = True
    is_secret: bool = True

    @property
    def expected(self) -> str:
        """See `Domain`."""
        return f"a text of at least {self.least} characters, without line ends"

    def read(self, value: Any) -> Secret:
        """See `Domain`."""
        text = value.reveal() if isinstance(value, Secret) else value
        if not isinstance(text, str) or len(text) < self.least or _CONTROL.search(text):
            raise OutsideDomain
        return Secret(text)


@dataclass(frozen=True, slots=True)
class Address:
    """An address such as `postgresql://user:password@host:5432/name`. It may hold a password.

    Schemes of `hostless` are those of files, which have no host.
    """

    schemes: tuple[str, ...]
    hostless: tuple[str, ...] = ()
    takes_text: bool = True
    is_secret: bool = True

    @property
    def expected(self) -> str:
        """See `Domain`."""
        known = " or ".join(f"{scheme}://" for scheme in (*self.schemes, *self.hostless))
        return f"an address that begins with {known}"

    def read(self, value: Any) -> Secret:
        """See `Domain`."""
        text = value.reveal() if isinstance(value, Secret) else value
        if not isinstance(text, str) or re.search(r"\s", text) or _CONTROL.search(text):
            raise OutsideDomain
        try:
            parts = urlsplit(text)
            _ = parts.port  # raises where it is not a number up to 65535
        except ValueError as error:
            raise OutsideDomain from error
        if parts.scheme in self.hostless:
            if not parts.path.strip("/"):
                raise OutsideDomain
        elif parts.scheme not in self.schemes or not parts.hostname:
            raise OutsideDomain
        return Secret(text, shown=without_password(text))


@dataclass(frozen=True, slots=True)
class Several:
    """A list of values of one domain, none of them twice; from a variable: separated by commas."""

    item: Domain
    least: int = 0
    takes_text: bool = True

    @property
    def is_secret(self) -> bool:
        """See `Domain`."""
        return self.item.is_secret

    @property
    def expected(self) -> str:
        """See `Domain`."""
        enough = f" of at least {self.least}" if self.least else ""
        return f"a list{enough}, each {self.item.expected}, none twice"

    def read(self, value: Any) -> tuple[Any, ...]:
        """See `Domain`."""
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",")] if value.strip() else []
        if not isinstance(value, list | tuple):
            raise OutsideDomain
        items = tuple(self.item.read(each) for each in value)
        if len(items) < self.least or len(set(items)) != len(items):
            raise OutsideDomain
        return items


_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\u0085\u2028\u2029]")
RESERVED: Final = re.compile(r"[@:/?#\[\]%\s\x00-\x1f\x7f]")
"""What ends a part of an address, or means something else there (RFC 3986, section 2.2)."""


def without_password(address: str) -> str:
    """An address as it may be shown: no password, no query, no fragment."""
    parts = urlsplit(address)
    user, at, host = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    netloc = f"{name}{colon}{MASK if colon else ''}{at}{host}"
    query = f"?{MASK}" if parts.query else ""
    return f"{parts.scheme}://{netloc}{parts.path}{query}"


def password_of(address: Secret) -> str | None:
    """The password inside an address, if it has one."""
    return urlsplit(address.reveal()).password


def _finite(value: float) -> float:
    try:
        number = float(value)
    except OverflowError as error:
        raise OutsideDomain from error
    if not math.isfinite(number):
        raise OutsideDomain
    return number
