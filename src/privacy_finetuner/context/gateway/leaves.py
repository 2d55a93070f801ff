"""Every text of a JSON document, wherever it hides, rewritten by one function.

A text may be a value, the key of an object, a number under a key that says what it is, a document
inside a string, the text behind base64 or a `data:` address, percent-encoded in a URI, or written
with entities or escapes (`disguises`).
What is not listed in `PROTOCOL_KEYS` is looked at, so that a field which a later version of the
protocol adds is redacted and not forgotten.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeAlias
from urllib.parse import quote, unquote

from privacy_finetuner.context.gateway.disguises import readings, words_in_base64
from privacy_finetuner.context.gateway.errors import MessageRefused, Reason

Json: TypeAlias = Any
Hints: TypeAlias = tuple[str, ...]


class Form(StrEnum):
    """Where a text was found, for functions that treat it differently."""

    TEXT = "text"
    KEY = "key"
    NUMBER = "number"
    URI = "uri"


ChangeText: TypeAlias = Callable[[str, Hints, Form], str]
"""From a text, the names beside it and where it was found, to what stands in its place."""

# Words and numbers of the protocol itself: the schema admits nothing else there. `requestState` and
# `nextCursor` are a server's own, and the proxy puts its own in their place.
PROTOCOL_KEYS: Final = frozenset({
    "type", "role", "resultType", "method", "mode", "level", "isError", "ttlMs", "cacheScope",
    "size", "priority", "audience", "requestState", "nextCursor", "includeContext", "temperature",
    "maxTokens", "action", "hasMore", "total", "progress", "destructiveHint", "idempotentHint",
    "openWorldHint", "readOnlyHint",
})  # fmt: skip
# Under these a server writes what it likes: no word in there is the protocol's.
FREE_KEYS: Final = frozenset({
    "arguments", "structuredContent", "_meta", "data", "inputSchema", "outputSchema",
    "requestedSchema", "metadata", "input",
})  # fmt: skip
URI_KEYS: Final = frozenset({"uri", "uriTemplate", "url", "websiteUrl", "src"})

_URI_SAFE: Final = "/:?#[]@!$&'()*+,;=<>{}|~"
_DATA_URI: Final = re.compile(
    r"(data:([^,;\s]{0,100})[^,\s]{0,100};base64,)([a-z0-9+/=%_-]*)", re.IGNORECASE
)
_ENCODED: Final = re.compile(r"[^\s%]*%[0-9A-Fa-f]{2}\S*")
_OPENERS: Final = ("{", "[", '"')
_CONTROL: Final = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
WITHHELD_NOTICE: Final = "[binary content withheld by the privacy gateway]"


@dataclass(frozen=True, slots=True)
class Bounds:
    """How large a document may be: levels of nesting, and texts in all."""

    depth: int
    leaves: int


class LeafRewriter:
    """Applies one function to every text of one message.

    Args:
        change: what happens to a text. It is called for numbers too; a number stays what it is when
            its digits come back unchanged, and becomes a text otherwise.
        bounds: beyond them the message is refused.
        pass_binary: whether bytes that are not text may stay; otherwise a notice replaces them.
        documents: JSON in strings, parsed; for several walks of one message to share. None of them
            is changed.

    Raises (every method):
        MessageRefused: the document is beyond the bounds, or base64 that is not base64.
    """

    def __init__(
        self,
        change: ChangeText,
        *,
        bounds: Bounds,
        pass_binary: bool,
        documents: dict[str, Json] | None = None,
    ) -> None:
        self._change = change
        self._bounds = bounds
        self._pass_binary = pass_binary
        self._documents: dict[str, Json] = {} if documents is None else documents
        self._seen = 0

    def protocol(self, value: Json, hints: Hints = (), depth: int = 0) -> Json:
        """Rewrite a message of the protocol: its own words stay."""
        self._step(depth)
        if isinstance(value, list):
            return [self.protocol(item, hints, depth + 1) for item in value]
        if not isinstance(value, dict):
            return self.free(value, hints, depth)
        done = ""
        if "blob" in value or value.get("type") in ("image", "audio"):
            done = "blob" if "blob" in value else "data"
            value = self._bytes(value, done)
        # What a person entered into a form is free, whatever its fields are called.
        form = "content" if "action" in value else ""
        return {
            key: item
            if key == done
            else self.free(item, (), depth + 1)
            if key == form
            else self._field(key, item, hints, depth)
            for key, item in value.items()
        }

    def free(self, value: Json, hints: Hints = (), depth: int = 0) -> Json:
        """Rewrite JSON of which nothing is the protocol's."""
        self._step(depth)
        if isinstance(value, str):
            return self._text(value, hints, depth)
        if isinstance(value, list):
            return [self.free(item, hints, depth + 1) for item in value]
        if isinstance(value, dict):
            return self._object(value, hints, depth)
        if isinstance(value, int | float) and not isinstance(value, bool):
            digits = repr(value)
            changed = self._change(digits, hints, Form.NUMBER)
            return value if changed == digits else changed
        return value

    def uri(self, value: str) -> str:
        """Rewrite an address, also where it is percent-encoded."""
        if value[:5].lower() == "data:":
            return self._text(value, (), 0)
        plain = unquote(value)
        changed = self._change(plain, (), Form.URI)
        if changed != plain:
            return changed if plain == value else quote(changed, safe=_URI_SAFE)
        return value

    def _field(self, key: str, value: Json, hints: Hints, depth: int) -> Json:
        if key in PROTOCOL_KEYS and not isinstance(value, dict | list):
            return value
        if key in URI_KEYS and isinstance(value, str):
            self._step(depth)
            return self.uri(value)
        if key in FREE_KEYS:
            return self.free(value, (), depth + 1)
        if isinstance(value, dict | list):
            # Free keys of a protocol map, such as the names of input requests, are texts as well.
            return self.protocol(value, hints, depth + 1)
        return self.free(value, (), depth + 1)

    def _object(self, value: Mapping[str, Json], hints: Hints, depth: int) -> dict[str, Json]:
        rewritten: dict[str, Json] = {}
        for key, item in value.items():
            name = self._text(key, (), depth + 1, Form.KEY)
            # Two keys may become one token; none of the values may vanish.
            while name in rewritten:
                name += "_"
            inner = (*hints[-2:], key)
            is_blob = key == "blob" and isinstance(item, str)
            read = self._blob if is_blob else self.free
            rewritten[name] = read(item, inner, depth + 1)
        return rewritten

    def _blob(self, encoded: str, hints: Hints, depth: int) -> Json:
        """Rewrite the copy of a `blob` in free JSON, if it is text; bytes stay what they are."""
        text = _text_in(encoded, "")
        if text is None or text == encoded:
            return self.free(encoded, hints, depth)
        changed = self._text(text, hints, depth)
        return encoded if changed == text else base64.b64encode(changed.encode()).decode()

    def _text(self, value: str, hints: Hints, depth: int, form: Form = Form.TEXT) -> str:
        """Rewrite a text, and the documents, `data:` addresses and encoded words inside of it."""
        self._step(depth)
        if value.lstrip()[:1] in _OPENERS:
            if value not in self._documents:
                self._documents[value] = _document(value)
            inside = self._documents[value]
            if inside is not None:
                changed = self.free(inside, hints, depth + 1)
                return value if changed == inside else json.dumps(changed, ensure_ascii=False)
        if ";base64," in value.lower():
            value = _DATA_URI.sub(lambda found: self._data_uri(found, depth + 1), value)
        changed = words_in_base64(value, lambda text: self._change(text, hints, form))
        changed = self._change(changed, hints, form)
        for read in readings(changed):
            plain = read(changed)
            shown = self._change(plain, hints, form)
            changed = changed if shown == plain else shown
        if "%" in changed:
            changed = _ENCODED.sub(lambda found: self._decoded(found[0], hints, form), changed)
        return changed

    def _decoded(self, word: str, hints: Hints, form: Form) -> str:
        plain = unquote(word)
        changed = self._change(plain, hints, form)
        return word if changed == plain else changed

    def _bytes(self, block: Mapping[str, Json], field: str) -> dict[str, Json]:
        """Rewrite a block that carries bytes: as text when they are, by the policy otherwise."""
        text = _text_in(str(block.get(field)), str(block.get("mimeType", "")))
        if text is not None:
            changed = self._text(text, (), 1)
            encoded = base64.b64encode(changed.encode()).decode()
            return {**block, field: block[field] if changed == text else encoded}
        if self._pass_binary:
            return dict(block)
        if field == "blob":
            rest = {key: item for key, item in block.items() if key not in ("blob", "mimeType")}
            return {**rest, "text": WITHHELD_NOTICE, "mimeType": "text/plain"}
        return {"type": "text", "text": WITHHELD_NOTICE}

    def _data_uri(self, found: re.Match[str], depth: int) -> str:
        head, kind, body = found.groups()
        text = _text_in(unquote(body), kind)
        if text is None:
            return found[0] if self._pass_binary else "data:,"
        changed = self._text(text, (), depth)
        if changed == text:
            return found[0]
        return head + base64.b64encode(changed.encode()).decode()

    def _step(self, depth: int) -> None:
        self._seen += 1
        if depth > self._bounds.depth or self._seen > self._bounds.leaves:
            raise MessageRefused(Reason.TOO_LARGE)


def _document(text: str) -> Json | None:
    """The JSON in a string; `None` when it is none, or would not survive being written again."""
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None


def _once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


def _refuse(word: str) -> Json:
    raise ValueError(word)


def _text_in(encoded: str, mime_type: str) -> str | None:
    """The text behind base64; `None` when the bytes are not text. What is no base64 is text."""
    try:
        data = base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError):
        return encoded
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        if not mime_type.startswith("text/"):
            return None
        text = data.decode("latin-1")
    return None if _CONTROL.search(text) else text
