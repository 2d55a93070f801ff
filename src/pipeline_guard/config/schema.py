"""The JSON Schema of a configuration, for editors: made from the same dataclasses that read it.

Source: JSON Schema draft 2020-12; `yaml-language-server: $schema=...` in a file's first line.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Mapping
from dataclasses import is_dataclass
from enum import Enum
from typing import Any, Final

from pipeline_guard.config.forms import Registries
from pipeline_guard.config.gates import GateSettings
from pipeline_guard.config.reading import Parameter, parameters_of
from pipeline_guard.config.scalars import expected_of
from pipeline_guard.config.settings import CheckSettings, GuardConfig, Step
from pipeline_guard.config.values import Automatic, Within
from privacy_runtime.secret import Secret

_DURATION: Final = {"type": "string", "pattern": r"^(\d+(\.\d+)?(ms|s|m|h|d))+$"}
_REFERENCE: Final = {"type": "string", "pattern": r"\$\{"}
_FORMS: Final[dict[type, dict[str, Any]]] = {
    CheckSettings: {"$ref": "#/$defs/check"},
    Step: {"$ref": "#/$defs/step"},
    GateSettings: {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"type": "string"}},
    },
}
_SECTION: Final = re.compile(r"^(?:Attributes|Args):\n((?:[ \t]+.*\n?|\n)+)", re.MULTILINE)
_ITEM: Final = re.compile(r"^ {4}(\w+(?:, \w+)*): (.*(?:\n {8}.*)*)", re.MULTILINE)


def json_schema(registries: Registries) -> dict[str, Any]:
    """The schema of a whole configuration, with the parameters of every probe and remedy."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Pipeline Guard",
        "$defs": {
            "check": _variants(CheckSettings, registries.probes or {}),
            "step": _step(registries.remedies or {}),
        },
        **_object(GuardConfig),
    }


def described(schema: type) -> dict[str, str]:
    """What the docstring of a dataclass says of each field."""
    text = re.sub(r"^ {4}", "", schema.__doc__ or "", flags=re.MULTILINE)
    section = _SECTION.search(text + "\n")
    found: dict[str, str] = {}
    for names, words in _ITEM.findall(section[1]) if section else ():
        for name in names.split(", "):
            found[name] = " ".join(words.split())
    return found


def _object(schema: type) -> dict[str, Any]:
    says = described(schema)
    properties: dict[str, Any] = {}
    required = []
    for each in parameters_of(schema):
        properties[each.key] = _property(each, says.get(each.name, ""))
        if each.key != each.name:
            properties[each.name] = _type(each.hint, each.unit)
        if each.is_required:
            required.append(each.key)
    found: dict[str, Any] = {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    return found | ({"required": required} if required else {})


def _property(parameter: Parameter, says: str) -> dict[str, Any]:
    found = _type(parameter.hint, parameter.unit)
    if says:
        found = {**found, "description": says}
    if isinstance(parameter.default, bool | int | float | str):
        default = parameter.default
        found["default"] = f"{default:g}s" if parameter.unit == "s" else default
    return found


def _type(hint: Any, unit: str = "") -> dict[str, Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, type) and hint in _FORMS:
        return _FORMS[hint]
    if origin is typing.Annotated:
        domains = [d for d in arguments[1:] if isinstance(d, Within)]
        return _narrowed(_type(arguments[0], unit), domains)
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_type(each, unit) for each in arguments]}
    if origin is not None and hasattr(origin, "keys"):
        return {"type": "object", "additionalProperties": _type(arguments[1], unit)}
    if origin is not None and hasattr(origin, "__getitem__") and origin is not typing.Literal:
        return {"type": "array", "items": _type(arguments[0], unit)}
    if isinstance(hint, type) and is_dataclass(hint) and hint is not Automatic:
        return _object(hint)
    return _scalar(hint, unit)


def _scalar(hint: Any, unit: str) -> dict[str, Any]:
    if typing.get_origin(hint) is typing.Literal:
        return {"enum": list(typing.get_args(hint))}
    if isinstance(hint, type) and issubclass(hint, Enum):
        return {"enum": [member.value for member in hint]}
    if hint is float:
        number = {"type": "number"}
        return {"anyOf": [number, _DURATION, _REFERENCE]} if unit == "s" else number
    if hint is int:
        size = {"type": "string", "pattern": r"^\d+(\.\d+)? ?[kMGT]?i?B$"}
        whole = {"type": "integer"}
        return {"anyOf": [whole, size]} if unit == "bytes" else whole
    simple = {bool: "boolean", type(None): "null"}
    if hint in simple:
        return {"type": simple[hint]}
    if hint is Automatic:
        return {"type": "string", "pattern": r"^auto(\*\d+(\.\d+)?)?$"}
    if hint is Any:
        return {}
    words = {} if hint in (str, Secret) else {"description": str(expected_of(hint))}
    return {"type": "string", **words}


def _narrowed(found: dict[str, Any], domains: list[Within]) -> dict[str, Any]:
    """Limits belong to numbers; a duration as a text keeps only its form."""
    limits: dict[str, float] = {}
    for each in domains:
        limits["exclusiveMinimum" if each.is_open else "minimum"] = each.low
        if each.high != float("inf"):
            limits["maximum"] = each.high
    if "anyOf" in found:
        number, *others = found["anyOf"]
        return {"anyOf": [{**number, **limits}, *others]}
    return {**found, **limits}


def _variants(schema: type, kinds: Mapping[str, type]) -> dict[str, Any]:
    """A form whose other keys depend on its `type`."""
    base = _object(schema)
    variants = []
    for name, kind in sorted(kinds.items()):
        inner = _object(kind)
        inner.pop("additionalProperties")
        inner["properties"] = {
            **inner["properties"],
            "type": {"const": name, "description": (kind.__doc__ or "").splitlines()[0]},
        }
        variants.append(inner)
    base.pop("additionalProperties")
    if not variants:
        return base
    return {**base, "oneOf": variants, "unevaluatedProperties": False}


def _step(kinds: Mapping[str, type]) -> dict[str, Any]:
    """A step in any of its three forms."""
    common = _object(Step)["properties"]
    shared = {key: common[key] for key in ("timeout", "rollback")}
    short: dict[str, Any] = {}
    for name, kind in sorted(kinds.items()):
        inner = _object(kind)
        inner["properties"] = {**inner["properties"], **shared}
        inner.pop("required", None)
        short[name] = {"anyOf": [inner, {"type": "null"}]}
    names = {"enum": sorted(kinds)} if kinds else {"type": "string"}
    keyed = {"type": "object", "minProperties": 1, "maxProperties": 1, "properties": short}
    return {
        "anyOf": [
            names,
            {**keyed, "additionalProperties": False},
            _variants(Step, kinds),
        ]
    }
