"""Bytes of a file as text: decided strictly, never guessed.

=====================================  =====================================================
the file                               is read as
=====================================  =====================================================
an encoding was named                  that encoding
begins with a byte order mark          UTF-8, UTF-16 or UTF-32, as the mark says
anything else                          UTF-8
=====================================  =====================================================

What does not decode is refused with the position: text that is read wrongly is not found, and what
is not found is not redacted. A NUL is refused too: UTF-16 without its mark is "valid" UTF-8.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from privacy_finetuner.errors import DocumentError

_BLOCK_BYTES: Final = 1 << 20
# The longer marks first: that of UTF-32 begins with that of UTF-16.
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a file is encoded, so that it can be written the same way.

    Attributes:
        name: of a Python codec, without byte order mark.
        mark: the byte order mark that the file begins with, or none.
    """

    name: str = "utf-8"
    mark: bytes = b""

    def encode(self, text: str) -> bytes:
        """The text in this encoding, without the mark.

        Raises:
            DocumentError: the encoding has no bytes for a character.
        """
        try:
            return text.encode(self.name)
        except UnicodeEncodeError as error:
            position = error.start
        raise DocumentError(
            f"the protected text has a character at {position} that {self.name} cannot hold; "
            "nothing was written: name another encoding"
        )


def encoding_of(head: bytes, declared: str | None = None) -> Encoding:
    """The encoding of a file that begins with `head`.

    Raises:
        DocumentError: `declared` is no encoding of text that Python knows.
    """
    for mark, name in _MARKS:
        if head.startswith(mark) and declared is None:
            return Encoding(name, mark)
    if declared is None:
        return Encoding()
    try:
        found = codecs.lookup(declared)
        "".encode(declared)  # a codec of bytes (base64, zip) is no encoding
    except LookupError:
        raise DocumentError(
            f"encoding {declared[:40]!r} is not known; examples: utf-8, utf-16, latin-1, cp1252"
        ) from None
    plain = found.name.removesuffix("-sig")
    for mark, name in _MARKS:  # utf-16 as such: as the mark says
        if name.startswith(plain) and head.startswith(mark):
            return Encoding(name, mark)
    if plain in ("utf-16", "utf-32"):
        raise DocumentError(
            f"{plain} without a byte order mark can be read in two ways: say {plain}-le or "
            f"{plain}-be; nothing was written"
        )
    return Encoding(plain)


def decoded(data: bytes, name: str, declared: str | None = None) -> tuple[str, Encoding]:
    """A whole file as text.

    Args:
        data: its bytes.
        name: what to call it in errors: `file 'notes.txt'`.
        declared: an encoding that somebody named.

    Raises:
        DocumentError: it is not in that encoding, or holds a NUL.
    """
    encoding = encoding_of(data[:4], declared)
    blocks = iter([data[len(encoding.mark) :]])
    return "".join(text_blocks(blocks, encoding, name)), encoding


def lines_of(file: BinaryIO, encoding: Encoding, name: str) -> Iterator[str]:
    r"""The lines of an open file with their ends, one at a time; only `\n` ends a line.

    Raises:
        DocumentError: as `decoded`, when the place is reached.
    """
    file.seek(len(encoding.mark))
    rest: list[str] = []
    for text in text_blocks(iter(lambda: file.read(_BLOCK_BYTES), b""), encoding, name):
        # str.splitlines would also split where JSON allows it inside strings (U+2028).
        first, *others = text.split("\n")
        rest.append(first)
        for line in others:
            yield "".join(rest) + "\n"
            rest = [line]
    last = "".join(rest)
    if last:
        yield last


def read_whole(path: Path, declared: str | None = None) -> tuple[str, Encoding]:
    """The text of a file and its encoding.

    Raises:
        DocumentError: the file cannot be read, or not decoded.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DocumentError(f"file {path.name!r} cannot be read: {error.strerror}") from error
    return decoded(data, f"file {path.name!r}", declared)


def text_blocks(blocks: Iterator[bytes], encoding: Encoding, name: str) -> Iterator[str]:
    """Decode block by block, without the byte order mark, with positions in bytes of the whole.

    Raises:
        DocumentError: as `decoded`, when the place is reached.
    """
    decoder = codecs.getincrementaldecoder(encoding.name)(errors="strict")
    before = len(encoding.mark)
    for block in _with_end(blocks):
        pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            position = before - pending + error.start
        else:
            if "\0" in text:
                raise DocumentError(
                    f"{name} holds a NUL near byte {before}: it is not text, or UTF-16 or "
                    "UTF-32 without its mark; name its encoding, or leave it out"
                )
            before += len(block)
            yield text
            continue
        raise DocumentError(f"{name} is not {encoding.name} at byte {position}; name its encoding")


def _with_end(blocks: Iterator[bytes]) -> Iterator[bytes]:
    yield from (block for block in blocks if block)
    yield b""
