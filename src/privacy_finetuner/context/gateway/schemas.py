"""JSON Schemas of tools: what a place asks for, and a schema that redacted results still satisfy.

A result in which a value became a token may break `format`, `pattern`, `enum`, lengths, or the type
of a number. Clients check results against the schema they were shown, so the one we show admits a
token wherever a value may stand. The gateway's own client has checked the raw result against the
server's schema before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

Json: TypeAlias = Any

# Keywords that a token in the place of a value may break.
_DROPPED: Final = frozenset({
    "format", "pattern", "minLength", "maxLength", "contentEncoding", "contentMediaType", "not",
    "if", "then", "else", "uniqueItems", "additionalProperties", "unevaluatedProperties",
    "propertyNames", "patternProperties", "examples", "default", "x-mcp-header",
    "unevaluatedItems", "contains", "minContains", "maxContains",
})  # fmt: skip
_NUMBERS: Final = ("integer", "number")
_MAPS: Final = ("properties", "$defs", "definitions", "dependentSchemas")
_LISTS: Final = ("allOf", "anyOf", "oneOf", "prefixItems")
_SINGLE: Final = ("items",)


def relaxed(schema: Json, is_plain: Callable[[Json], bool]) -> Json:
    """Return a schema that every redacted result satisfies whose raw form satisfied `schema`.

    Args:
        schema: a tool's output schema.
        is_plain: whether a constant of the schema would pass redaction unchanged; those stay.
    """
    if not isinstance(schema, dict):
        return True if schema is False else schema
    found: dict[str, Json] = {}
    for key, value in schema.items():
        if key in _DROPPED or (key in ("enum", "const") and not is_plain(value)):
            continue
        if key in _MAPS and isinstance(value, dict):
            found[key] = {name: relaxed(inner, is_plain) for name, inner in value.items()}
        elif key in _LISTS and isinstance(value, list):
            # Relaxed alternatives overlap: exactly one would no longer hold.
            name = "anyOf" if key == "oneOf" and "anyOf" not in schema else key
            if key == "oneOf" and name == key:
                continue
            found[name] = [relaxed(inner, is_plain) for inner in value]
        elif key in _SINGLE:
            found[key] = relaxed(value, is_plain)
        else:
            found[key] = _with_text(value) if key == "type" else value
    return found


def without_headers(schema: Json) -> Json:
    """Return an input schema that asks no client to copy arguments into HTTP headers."""
    if isinstance(schema, dict):
        return {
            key: without_headers(value) for key, value in schema.items() if key != "x-mcp-header"
        }
    return [without_headers(item) for item in schema] if isinstance(schema, list) else schema


def _with_text(kind: Json) -> Json:
    kinds = kind if isinstance(kind, list) else [kind]
    if any(name in _NUMBERS for name in kinds) and "string" not in kinds:
        return [*kinds, "string"]
    return kind


@dataclass(frozen=True, slots=True)
class Place:
    """One place in a document, and what the schema says about it.

    Args:
        root: the whole schema, for `$ref`.
        schema: what applies here; anything but a mapping says nothing.
    """

    root: Json
    schema: Json

    def under(self, key: str) -> Place:
        """The place under a key."""
        here = self._resolved()
        properties = here.get("properties")
        inner = properties.get(key) if isinstance(properties, dict) else None
        return Place(self.root, here.get("additionalProperties") if inner is None else inner)

    def item(self, index: int) -> Place:
        """The place of one item."""
        here = self._resolved()
        first = here.get("prefixItems")
        if isinstance(first, list) and index < len(first):
            return Place(self.root, first[index])
        return Place(self.root, here.get("items"))

    @property
    def wants_number(self) -> bool:
        """Whether a text cannot stand here, but a number can."""
        return self._kinds(self.schema, 0) <= set(_NUMBERS) and bool(self._kinds(self.schema, 0))

    def number(self, text: str) -> int | float | None:
        """The number that a text is, as this place asks for it."""
        try:
            if "number" in self._kinds(self.schema, 0) and not text.lstrip("-").isdigit():
                return float(text)
            return int(text)
        except ValueError:
            return None

    def _resolved(self) -> dict[str, Json]:
        schema = self.schema
        for _ in range(8):
            reference = schema.get("$ref") if isinstance(schema, dict) else None
            if not isinstance(reference, str):
                break
            schema = _at(self.root, reference)
        return schema if isinstance(schema, dict) else {}

    def _kinds(self, schema: Json, depth: int) -> set[str]:
        """The types that a place admits; empty when the schema does not say."""
        here = Place(self.root, schema)._resolved()
        kind = here.get("type")
        if isinstance(kind, str):
            return {kind}
        if isinstance(kind, list):
            return {str(name) for name in kind} - {"null"}
        found: set[str] = set()
        for name in ("anyOf", "oneOf", "allOf"):
            for option in here.get(name, ()) if depth < 4 else ():
                found |= self._kinds(option, depth + 1)
        return found - {"null"}


def _at(root: Json, reference: str) -> Json:
    """What a local reference points to; an empty schema when it points nowhere."""
    here = root
    for step in reference.removeprefix("#").split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        here = here.get(name) if isinstance(here, dict) else None
    return here if reference.startswith("#") else {}
