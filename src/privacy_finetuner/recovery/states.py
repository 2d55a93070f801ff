"""States as files: tensors as safetensors, everything else as JSON. Never a pickle.

A state is what `state_dict()` gives: dictionaries with text or whole numbers as keys, lists,
tuples, tensors, numbers, truth values, text and `None`. Anything else is refused by its place.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import load, save

from privacy_core.errors import InvalidParameter

_ATOMS = (bool, int, float, str, type(None))


def encoded(name: str, state: Mapping[str, Any]) -> dict[str, bytes]:
    """The files of a state: `NAME.safetensors` and `NAME.json`.

    Tensors are copied to the CPU; those that share memory are written once each.

    Raises:
        InvalidParameter: something that is no state; names its place and type, not its value.
    """
    tensors: dict[str, torch.Tensor] = {}
    outline = _outline(state, name, tensors)
    return {
        f"{name}.safetensors": save(tensors),
        f"{name}.json": json.dumps(outline, allow_nan=False).encode(),
    }


def decoded(name: str, files: Mapping[str, bytes]) -> dict[str, Any]:
    """What `encoded` was given; tensors on the CPU.

    Raises:
        KeyError, ValueError: the files are not those of a state.
    """
    tensors = load(files[f"{name}.safetensors"])
    return dict(_filled(json.loads(files[f"{name}.json"]), tensors))


def _outline(value: Any, place: str, tensors: dict[str, torch.Tensor]) -> Any:
    match value:
        case torch.Tensor():
            tensors[place] = value.detach().cpu().contiguous().clone()
            return {"tensor": place}
        case Mapping():
            for key in value:
                _require(isinstance(key, str | int), place, key, "a dictionary with plain keys")
            items = [[k, _outline(v, f"{place}.{k}", tensors)] for k, v in value.items()]
            return {"map": items}
        case list() | tuple():
            kind = "list" if isinstance(value, list) else "tuple"
            return {kind: [_outline(v, f"{place}.{n}", tensors) for n, v in enumerate(value)]}
        case float() if not math.isfinite(value):
            return {"float": repr(value)}
    _require(isinstance(value, _ATOMS), place, value, "tensors, numbers, text, or groups of them")
    return value


def _filled(outline: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if not isinstance(outline, dict):
        return outline
    ((kind, content),) = outline.items()
    match kind:
        case "tensor":
            return tensors[content]
        case "map":
            return {key: _filled(value, tensors) for key, value in content}
        case "list":
            return [_filled(value, tensors) for value in content]
        case "tuple":
            return tuple(_filled(value, tensors) for value in content)
        case "float":
            return float(content)
    raise ValueError(f"a state has no part of kind {kind!r}")


def _require(holds: bool, place: str, value: Any, expected: str) -> None:
    if not holds:
        raise InvalidParameter(place, found=type(value).__name__, expected=expected)
