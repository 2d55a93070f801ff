"""Redaction of a text that arrives in pieces, with a bounded delay and bounded memory.

The text is decided window by window. Where a window ends depends on the text alone, never on the
pieces it came in, so **the output is the same for every chunking**, whatever the detector does. It
is also **the output of a batch** (`detect` on the text with its marks `blanked`, then `rewrite`) if
the detector is local: what it finds at a place depends on no more than `context` characters before
and `delay` characters behind, and no finding is longer than `longest`. Patterns are. Names by a
model are nearly local to their sentence; for them use a window with `sentences=True` (the shipped
model said the same at 690 of 690 places of 80 pages). A detector that carries a name found once
over to every other mention (level `high`) is not local; a stream cannot know what comes.

==========================================  ====================================================
a window never ends                         but
==========================================  ====================================================
inside a word or number (a run without      after `longest` characters it does; both parts are
blanks)                                     looked at with the text around them
inside a finding                            after `longest` characters; each part is replaced
inside a block that was opened (PEM)        after `longest` characters
inside a sentence, if names are looked for  a sentence without an end within `longest_sentence`
                                            characters ends at a blank
==========================================  ====================================================

A finding that comes to light only when its first part has been sent on is replaced from there: a
late find never lets more through than the delay allows.

Memory: at most `context + longest_sentence + longest + delay` characters and the pieces of one
call.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from privacy_core.errors import InvalidParameter, PrivacyError
from privacy_core.redaction.findings import Detector, Finding
from privacy_core.redaction.marks import blanked
from privacy_core.redaction.operators import Scope
from privacy_core.redaction.rewriting import ChooseOperator, moved, rewrite

_ENDS: Final = (".", "!", "?", "\u2026")
_WIDE_ENDS: Final = frozenset("\u3002\uff01\uff1f")  # full stop, ! and ? of Chinese and Japanese
_WIDE_STOPS: Final = _WIDE_ENDS | frozenset("\uff1b\uff0c\u3001")  # ; and commas
_CLOSERS: Final = "\"')]}\u00bb\u201d\u2019"
_LOOK_BACK: Final = 8
_WORD_SLACK: Final = 64
_BLOCK: Final = re.compile(r"-----(BEGIN|END) [A-Z0-9 ]{1,64}-----|-----BEGIN\b")


class StreamClosed(PrivacyError):
    """The stream was closed. What was given now was not looked at, and not sent on."""

    code: ClassVar[str] = "redaction_stream_closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How much of a stream is decided at once. All sizes are in characters.

    Args:
        delay: what is seen behind a place before it is sent on.
        context: what is kept of the text before it, at least; from the beginning of a word, or of
            a sentence of at most `longest_sentence`.
        stride: what is decided by one call of the detector, at least 1. Small: short delay, many
            calls. Large: few calls, for files.
        longest: the longest finding, or run without blanks, that is kept together.
        sentences: decide whole sentences, because names are looked for.
        longest_sentence: after this many characters a sentence ends at a blank.
    """

    delay: int = 64
    context: int = 128
    stride: int = 1
    longest: int = 16_384
    sentences: bool = False
    longest_sentence: int = 1_000

    def __post_init__(self) -> None:
        for name, least in (("delay", 1), ("context", 0), ("stride", 1), ("longest_sentence", 1)):
            if getattr(self, name) < least:
                raise InvalidParameter(
                    name, found=getattr(self, name), expected=f"{least} or more characters"
                )
        if self.longest < max(self.stride, self.longest_sentence):
            raise InvalidParameter(
                "longest", found=self.longest, expected="at least stride and longest_sentence"
            )


TOKENS: Final = Window()
SENTENCES: Final = Window(sentences=True, context=400, delay=160)
FILES: Final = Window(sentences=True, context=400, delay=160, stride=8_192)


class StreamingRedactor:
    """Redacts a stream of text: `feed` returns what is decided, `close` the rest.

    Args:
        detector: finds what is to be replaced.
        choose_operator: says which operator replaces a finding; None leaves it.
        scope: the document or conversation; a fresh one if left out.
        level: passed to the detector.
        hints: passed to the detector.
        window: `TOKENS` towards a person who reads along, `SENTENCES` with names, `FILES` for bulk.
    """

    def __init__(
        self,
        detector: Detector,
        choose_operator: ChooseOperator,
        *,
        scope: Scope | None = None,
        level: str = "medium",
        hints: Sequence[str] = (),
        window: Window = TOKENS,
    ) -> None:
        self._detector, self._choose = detector, choose_operator
        self._scope = Scope() if scope is None else scope
        self._level, self._hints = level, tuple(hints)
        self._window = window
        self._is_closed = False
        self._buffer = ""
        # Places in the buffer, in this order:
        self._context = 0  # the detector sees the text from here
        self._sent = 0  # everything before was sent on
        self._looked = 0  # a window to here was looked at, and held nothing certain
        self._reach = window.stride  # the next window ends at the last boundary before, or after
        self._scanned = 0  # there is no boundary from _reach to here
        self.counts: Counter[str] = Counter()

    def __repr__(self) -> str:
        held = len(self._buffer) - self._sent
        return f"StreamingRedactor({sum(self.counts.values())} replaced, {held} characters held)"

    @property
    def held(self) -> int:
        """How many characters were taken and not yet sent on."""
        return len(self._buffer) - self._sent

    def feed(self, chunk: str) -> str:
        """Take the next piece of the text; return what can be sent on.

        Raises:
            StreamClosed: the stream was closed, or the detector failed before: nothing is sent on
                after a failure.
        """
        if self._is_closed:
            raise StreamClosed("the stream is closed; open another one")
        self._is_closed = True  # until this piece has gone well
        self._buffer += chunk
        pieces = []
        while (end := self._next_end()) is not None:
            pieces.append(self._decide(end))
        self._forget()
        self._is_closed = False
        return "".join(pieces)

    def close(self) -> str:
        """Return the rest. The stream takes nothing any more.

        Raises:
            StreamClosed: it was closed, or the detector failed before.
        """
        if self._is_closed:
            raise StreamClosed("the stream is closed; open another one")
        self._is_closed = True
        end = len(self._buffer)
        rest = self._send(end, self._find(end)) if self.held else ""
        self._buffer, self._sent = "", 0
        return rest

    def _next_end(self) -> int | None:
        """Where the next window may end, or None while that cannot be known."""
        size = len(self._buffer)
        limit = self._sent + self._window.longest
        reach = min(self._reach, limit)
        if size < reach:
            return None
        end = self._boundary_before(reach, self._looked)
        if end is None:
            end = self._boundary_after(reach, limit)
        return end if end is not None and size >= end + self._window.delay else None

    def _boundary_before(self, reach: int, start: int) -> int | None:
        for position in range(reach, start, -1):
            if self._is_boundary(position):
                return position
        return None

    def _boundary_after(self, reach: int, limit: int) -> int | None:
        size = len(self._buffer)
        position = max(reach, self._scanned) + 1
        while position <= min(size, limit):
            if self._is_boundary(position):
                return position
            self._scanned = position
            position += 1
        return limit if size >= limit else None

    def _is_boundary(self, position: int) -> bool:
        """Whether a window may end before the character at `position`; looks back only."""
        text, last = self._buffer, self._buffer[position - 1]
        if not self._window.sentences:
            return last.isspace() or last in _WIDE_STOPS
        if last in "\n\u2029" or last in _WIDE_ENDS:
            return True
        if not last.isspace():
            return False
        if position - self._sent > self._window.longest_sentence:
            return True
        before = text[max(position - _LOOK_BACK, 0) : position].rstrip()
        return before.rstrip(_CLOSERS)[-1:] in _ENDS

    def _decide(self, end: int) -> str:
        """Look at a window and send on what is certain; if nothing is, make the window longer."""
        findings = self._find(end)
        limit = self._sent + self._window.longest
        cut, wanted = self._cut(end, findings)
        if cut is None and end < limit:
            self._looked, self._scanned = end, 0
            self._reach = min(max(wanted, 2 * end - self._sent), limit)
            return ""
        return self._send(end if cut is None else cut, findings)

    def _find(self, end: int) -> list[Finding]:
        """Findings up to `end`, in positions of the buffer."""
        window = self._buffer[self._context : end + self._window.delay]
        window = blanked(window, self._scope.marks(window))
        found = self._detector.detect(window, level=self._level, hints=self._hints)
        shift = self._context
        placed = (moved(f, f.start + shift, f.end + shift) for f in found)
        return sorted(placed, key=lambda finding: finding.start)

    def _context_of(self, sent: int) -> int:
        """Where the text before `sent` begins: at a boundary, so that nothing is seen by half."""
        last = sent - self._window.context
        slack = self._window.longest_sentence if self._window.sentences else _WORD_SLACK
        first = max(self._context, last - slack)
        for position in range(last, first, -1):
            if self._is_boundary(position):
                return position
        return max(last, self._context) if first > self._context else self._context

    def _cut(self, end: int, findings: Sequence[Finding]) -> tuple[int | None, int]:
        """The last boundary outside findings and blocks, and how far to look if there is none."""
        position = end
        wanted = end + 1
        opened = self._open_block(end)
        if opened is not None:
            position = opened
        for finding in reversed(findings):
            if finding.start < position < finding.end:
                wanted = max(wanted, finding.end)
                position = finding.start
            while position > self._sent and not self._is_boundary(position) and position != end:
                position -= 1
                if finding.start < position < finding.end:
                    position = finding.start
        while position > self._sent and not self._is_boundary(position) and position != end:
            position -= 1
        return (position, wanted) if position > self._sent else (None, wanted)

    def _open_block(self, end: int) -> int | None:
        """Where a block begins that has not ended before `end`."""
        if self._buffer.find("-----", self._sent, end) < 0:
            return None
        opened = None
        for match in _BLOCK.finditer(self._buffer, self._sent, end):
            if match.group(1) == "END":
                opened = None
            elif opened is None:
                opened = match.start()
        return opened

    def _send(self, end: int, findings: Sequence[Finding]) -> str:
        """Rewrite what lies between the last place and `end`."""
        start = self._sent
        inside = [
            moved(f, max(f.start, start) - start, min(f.end, end) - start)
            for f in findings
            if f.start < end and f.end > start
        ]
        done = rewrite(
            self._buffer[start:end], inside, self._choose, self._scope, around=self._buffer
        )
        self.counts.update(found.label for found in done.replacements)
        self._context = self._context_of(end)
        self._sent = self._looked = end
        self._reach, self._scanned = end + self._window.stride, 0
        return done.text

    def _forget(self) -> None:
        """Drop what lies before the context and what decides whether it begins a sentence."""
        drop = self._context - 2 * _LOOK_BACK
        if drop > 0:
            self._buffer = self._buffer[drop:]
            self._context -= drop
            self._sent -= drop
            self._looked -= drop
            self._reach -= drop
            self._scanned = max(self._scanned - drop, 0)
