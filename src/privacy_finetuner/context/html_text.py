"""A web page as pieces: its text, its attributes, its comments, its scripts.

The text is read as a reader sees it: tags inside a paragraph vanish, so that a number with one
digit in bold is one number; blocks are lines of their own. What is not a tag that a browser knows
(`<ann@example.org>`) is text. Everything that is not replaced stays byte for byte as it was.

The page is read in one pass, in time linear in its length for every input; the parser of the
standard library is quadratic in unclosed tags, and this one must not be.
"""

from __future__ import annotations

import html
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from privacy_finetuner.context.pieces import Edit, Piece, edited, words_of

_INLINE: Final = frozenset(
    ["a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em",
     "font", "i", "ins", "kbd", "label", "mark", "q", "s", "samp", "small", "span", "strike",
     "strong", "sub", "sup", "time", "tt", "u", "var", "wbr",
     # not in the standard any more, and inside of drawings and formulas
     "blink", "nobr", "rb", "spacer", "tspan", "textpath",
     "mi", "mn", "mo", "mrow", "ms", "mstyle", "mtext"]
)  # fmt: skip
_BLOCKS: Final = frozenset(
    ["address", "area", "article", "aside", "audio", "base", "blockquote", "body", "br", "button",
     "canvas", "caption", "center", "circle", "col", "colgroup", "datalist", "dd", "details",
     "dialog", "dir", "div", "dl", "dt", "embed", "fieldset", "figcaption", "figure", "footer",
     "form", "frame", "frameset", "g", "h1", "h2", "h3", "h4", "h5", "h6", "head", "header",
     "hgroup", "hr", "html", "iframe", "img", "input", "legend", "li", "line", "link", "main",
     "map", "math", "menu", "meta", "meter", "nav", "noframes", "noscript", "object", "ol",
     "optgroup", "option", "output", "p", "param", "path", "picture", "polygon", "pre", "progress",
     "rect", "rp", "rt", "ruby", "script", "search", "section", "select", "slot", "source",
     "style", "summary", "svg", "table", "tbody", "td", "template", "text", "textarea", "tfoot",
     "th", "thead", "title", "tr", "track", "ul", "video",
     "applet", "basefont", "desc", "ellipse", "foreignobject", "image", "keygen", "listing",
     "marquee", "menu", "menuitem", "metadata", "noembed", "plaintext", "rtc", "symbol", "use",
     "xmp", "mfrac", "msub", "msup", "mtable", "mtd", "mtr"]
)  # fmt: skip
_KNOWN: Final = _INLINE | _BLOCKS
_RAW: Final = {
    name: re.compile(f"</{name}(?=[\\s/>])", re.IGNORECASE) for name in ("script", "style")
}
_PLAIN_ATTRIBUTES: Final = frozenset(
    ["class", "id", "style", "type", "rel", "lang", "dir", "width", "height", "colspan", "rowspan",
     "charset", "role", "tabindex"]
)  # fmt: skip
_MARKUP: Final = re.compile(r"<(?:!--|[!?]|(/?)([A-Za-z][A-Za-z0-9:-]*)(?=[\s/>]))")
_NAME: Final = re.compile(r"[\s/]*([^\s/>=][^\s/>=]*)?")
_VALUE: Final = re.compile(r"\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s>\"'][^\s>]*)|)")
_ENTITY: Final = re.compile(r"&(?:#[0-9]{1,64}|#[xX][0-9a-fA-F]{1,64}|[A-Za-z][A-Za-z0-9]{1,31});?")
_DECLARED: Final = re.compile(
    rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]{1,40})""", re.IGNORECASE
)
_DECLARED_WITHIN: Final = 1024  # bytes in which a page must say its encoding (HTML standard)


@dataclass(frozen=True, slots=True)
class _Run:
    """A stretch of the source that is text of a piece.

    `starts[k]` is where character k of the stretch stands in the source; one more for its end.
    """

    piece: int
    offset: int  # of its first character in the piece
    starts: Sequence[int] = field(repr=False)
    is_bare: bool = False  # a value without quotes, which a blank would end


class HtmlText:
    """A record of one web page.

    Args:
        text: any text; what is not well-formed is read as far as it goes.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        reader = _Reader(text)
        self.pieces: Sequence[Piece] = reader.pieces()
        self._runs = reader.runs

    def __repr__(self) -> str:
        return f"HtmlText(characters={len(self._text)}, pieces={len(self.pieces)})"

    def render(self, edits: Sequence[Sequence[Edit]]) -> str:
        """Write the page with the edits of each piece, escaped as the place demands."""
        changed = [cut for run in self._runs for cut in _cuts(run, edits[run.piece])]
        return edited(self._text, sorted(changed, key=lambda edit: (edit.start, edit.end)))


def declared_encoding(head: bytes) -> str | None:
    """The encoding that a page names in its first bytes."""
    found = _DECLARED.search(head[:_DECLARED_WITHIN])
    return None if found is None else found[1].decode("ascii")


def _cuts(run: _Run, edits: Sequence[Edit]) -> Iterator[Edit]:
    """What the edits of a piece do to one stretch: the replacement goes where the span begins."""
    length = len(run.starts) - 1
    first = bisect_right(edits, run.offset, key=lambda edit: edit.end)
    for edit in edits[first:]:
        if edit.start >= run.offset + length:
            return
        start, end = max(edit.start - run.offset, 0), min(edit.end - run.offset, length)
        text = html.escape(edit.replacement) if edit.start >= run.offset else ""
        if run.is_bare:
            text = "".join("&#32;" if sign.isspace() else sign for sign in text)
        yield Edit(run.starts[start], run.starts[end], text)


class _Reader:
    """Collects the stretches of text of a page."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._prose: list[str] = []
        self._prose_length = 0
        self._others: list[Piece] = []
        self.runs: list[_Run] = []
        done = 0
        while (markup := _MARKUP.search(source, done)) is not None:
            name = (markup[2] or "").lower()
            if name and name not in _KNOWN and "-" not in name and ":" not in name:
                self._text(done, markup.end())
                done = markup.end()
                continue
            self._text(done, markup.start())
            done = self._after(markup, name)
        self._text(done, len(source))

    def pieces(self) -> list[Piece]:
        """The text first, then attributes, comments and scripts in their order."""
        return [Piece("".join(self._prose)), *self._others]

    def _after(self, markup: re.Match[str], name: str) -> int:
        """Take a tag or comment; returns where it ends."""
        start = markup.end()
        if markup[0] == "<!--":
            return self._other(start, "-->", "comment")
        if not name:
            return self._other(start, ">", "declaration")
        if name not in _INLINE:
            self._prose.append("\n")
            self._prose_length += 1
        end = self._attributes(start)
        if name in _RAW and not markup[1]:
            close = _RAW[name].search(self._source, end)
            last = len(self._source) if close is None else close.start()
            self._piece(end, last, name, decode=False)
            return last
        return end

    def _other(self, start: int, until: str, name: str) -> int:
        end = self._source.find(until, start)
        last = len(self._source) if end < 0 else end
        self._piece(start, last, name, decode=False)
        return min(last + len(until), len(self._source))

    def _text(self, begin: int, end: int) -> None:
        if begin < end:
            text, starts = _read(self._source, begin, end)
            self.runs.append(_Run(0, self._prose_length, starts))
            self._prose.append(text)
            self._prose_length += len(text)

    def _piece(self, begin: int, end: int, name: str, *, decode: bool, hint: str = "") -> None:
        if begin >= end:
            return
        starts: Sequence[int]
        if decode:
            text, starts = _read(self._source, begin, end)
        else:
            text, starts = self._source[begin:end], range(begin, end + 1)
        is_bare = decode and self._source[begin - 1] not in "\"'"
        self.runs.append(_Run(len(self._others) + 1, 0, starts, is_bare))
        self._others.append(Piece(text, f"<{name}>", name, (hint,) if hint else ()))

    def _attributes(self, at: int) -> int:
        """Take the attributes of a tag; returns where the tag ends."""
        found: list[tuple[str, int, int]] = []
        labelled = ""
        while True:
            name = _NAME.match(self._source, at)
            if name is None or name[1] is None:
                at = at if name is None else name.end()
                break
            value = _VALUE.match(self._source, name.end())
            if value is None:  # a name alone: junk can stand here too
                found.append(("attribute", *name.span(1)))
                at = name.end()
                continue
            group = value.lastindex or 0
            begin, at = value.span(group) if group else (value.end(), value.end())
            found.append((name[1].lower(), begin, at))
            if name[1].lower() == "name":
                labelled = words_of(self._source[begin:at])
            at = value.end()
        for attribute, begin, end in found:
            beside = labelled if attribute in ("value", "content") else ""
            # What these say is about the page; what they hold may still be somebody's.
            hint = "" if attribute in _PLAIN_ATTRIBUTES else beside or words_of(attribute)
            self._piece(begin, end, attribute, decode=True, hint=hint)
        return at + 1 if self._source[at : at + 1] == ">" else self._unread(at)

    def _unread(self, at: int) -> int:
        """A tag that does not end as tags do (`<a =x>`, or the page's end): go on behind a sign."""
        return min(at + 1, len(self._source)) if at < len(self._source) else at


def _read(source: str, begin: int, end: int) -> tuple[str, Sequence[int]]:
    """Text with its character references resolved, and where each character stands."""
    if source.find("&", begin, end) < 0:
        return source[begin:end], range(begin, end + 1)
    parts: list[str] = []
    starts: list[int] = []
    done = begin
    for match in _ENTITY.finditer(source, begin, end):
        parts.append(source[done : match.start()])
        starts.extend(range(done, match.start()))
        value = html.unescape(match[0])
        parts.append(value)
        # A reference of two characters: both stand where it begins; a cut takes it whole.
        starts.extend([match.start()] * len(value))
        done = match.end()
    parts.append(source[done:end])
    starts.extend(range(done, end))
    return "".join(parts), [*starts, end]
