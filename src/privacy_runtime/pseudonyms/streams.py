"""Tokens back to values in a text that arrives in pieces: the answer of a language model.

**Guarantee**: what `feed` and `close` return, put together, is what `reveal` returns for the whole
text, for every way of cutting it into pieces. Nothing that may be the beginning of a token is sent
on; of ordinary prose that is the last word, until it is clear that no colon follows.

====================  ==========================================================================
held back             at most
====================  ==========================================================================
a session token       `vault.LONGEST_TOKEN` characters
a sealed token        `longest` characters; one that is longer stays a token, in one piece or many
====================  ==========================================================================
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from typing import Final, Protocol

from privacy_core.errors import InvalidParameter
from privacy_core.redaction.streaming import StreamClosed
from privacy_runtime.pseudonyms.revealing import Reason, Refused, Restored, reveal_spans

LONGEST: Final = 16_384  # a sealed value of 10,000 characters
_CONTEXT: Final = 256  # more than any reader looks back


class TokenReader(Protocol):
    """What reads tokens: `TokenCipher`, `SessionVault`."""

    def tokens_from(
        self, text: str, start: int, labels: Collection[str] | None, longest: int
    ) -> Iterator[Restored | Refused]:
        """Yield the tokens of a text that begin at `start` or behind, in order."""
        ...

    def undecided_from(self, text: str, start: int, longest: int) -> int:
        """Where the first token may begin of which not all is there; the length, if none can."""
        ...


class StreamingRevealer:
    """Puts values in the place of tokens in a stream: `feed(chunk) -> str`, at the end `close()`.

    Args:
        reader: opens the tokens.
        labels: entity types that may be revealed; all if left out.
        longest: of a sealed token, in characters.

    Raises:
        InvalidParameter: `longest` is below 1.
    """

    def __init__(
        self,
        reader: TokenReader,
        labels: Collection[str] | None = None,
        *,
        longest: int = LONGEST,
    ) -> None:
        if longest < 1:
            raise InvalidParameter("longest", found=longest, expected="1 or more characters")
        self._reader, self._labels, self._longest = reader, labels, longest
        self._buffer = ""
        self._sent = 0
        self._is_closed = False
        self.restored: Counter[str] = Counter()
        """How many tokens were replaced, by entity type."""
        self.refused: Counter[Reason] = Counter()
        """How many stay tokens, and why."""

    def __repr__(self) -> str:
        return f"StreamingRevealer({self.restored.total()} revealed, {self.held} characters held)"

    @property
    def held(self) -> int:
        """How many characters were taken and not yet sent on."""
        return len(self._buffer) - self._sent

    def feed(self, chunk: str) -> str:
        """Take the next piece of the text; return what can be sent on.

        Raises:
            StreamClosed: the stream was closed, or reading failed before.
            VaultRefused, TenantDestroyed: as the reader; nothing is sent on after that.
        """
        if self._is_closed:
            raise StreamClosed("the stream is closed; open another one")
        self._is_closed = True  # until this piece has gone well
        self._buffer += chunk
        ready = self._ready(self._reader.undecided_from(self._buffer, self._sent, self._longest))
        drop = self._sent - _CONTEXT
        if drop > 0:
            self._buffer, self._sent = self._buffer[drop:], self._sent - drop
        self._is_closed = False
        return ready

    def close(self) -> str:
        """Return the rest. The stream takes nothing any more.

        Raises:
            StreamClosed: it was closed, or reading failed before.
        """
        if self._is_closed:
            raise StreamClosed("the stream is closed; open another one")
        self._is_closed = True
        rest = self._ready(len(self._buffer))
        self._buffer, self._sent = "", 0
        return rest

    def _ready(self, end: int) -> str:
        """The text up to `end`, or up to the token that goes beyond it, with its values."""
        found: list[Restored | Refused] = []
        start = self._sent
        for token in self._reader.tokens_from(self._buffer, start, self._labels, self._longest):
            if token.end > end:
                end = min(end, token.start)
                break
            found.append(token)
        done = reveal_spans(self._buffer[start:end], (_moved(token, -start) for token in found))
        self.restored.update(done.counts)
        self.refused.update(token.reason for token in done.refused)
        self._sent = end
        return done.text


def _moved(token: Restored | Refused, by: int) -> Restored | Refused:
    if isinstance(token, Restored):
        return Restored(token.start + by, token.end + by, token.label, token.value)
    return Refused(token.start + by, token.end + by, token.label, token.reason)
