"""A secret on its way to the one who may see it."""

from __future__ import annotations

import hmac
from typing import Final, NoReturn, final

MASK: Final = "***"


@final
class Secret:
    """A text that prints as `Secret(***)`, whoever prints it. `reveal` gives it out.

    Guarantee: neither `repr`, `str`, formatting, comparison nor a pickle shows the text.

    Args:
        text: the secret.
        shown: what may be shown of it instead of `***`: an address without its password.
    """

    __slots__ = ("_shown", "_text")

    def __init__(self, text: str, *, shown: str = MASK) -> None:
        self._text = text
        self._shown = shown

    def reveal(self) -> str:
        """The secret itself. Do not log it."""
        return self._text

    def __repr__(self) -> str:
        return f"Secret({self._shown})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(("Secret", self._text))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled; hand over where it can be read")
