"""What makes the logits of two nodes comparable: SHA-256 of weights, architecture and prompt form.

Tensors are hashed by name, however they are spread over files, straight from the safetensors files:
no other format is read, and no code of a model runs.

Source: the safetensors format, version 0.3: eight bytes of length, JSON, then raw tensors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from federated_dp_llm.node.prompts import PromptForm
from privacy_core.errors import InvalidParameter
from privacy_runtime.files import reason_of

_HEADER_MAX: Final = 100_000_000
_CHUNK: Final = 1 << 22
_UNIMPORTANT: Final = frozenset(
    {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache"}
)
"""Entries of config.json that change no logit of a float32 model."""


def require_folder(folder: Path | str) -> Path:
    """A folder that holds a model as we read it: config.json, tokenizer.json, safetensors.

    Raises:
        InvalidParameter: something is missing; says what, and how to get it.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise InvalidParameter(
            "model", found=str(folder), expected="a local folder: nothing is downloaded"
        )
    for name in ("config.json", "tokenizer.json"):
        if not (path / name).is_file():
            raise InvalidParameter(
                "model",
                found=f"{folder}: no {name}",
                expected="a folder as save_pretrained writes it, with a fast tokenizer",
            )
    if not any(path.glob("*.safetensors")):
        raise InvalidParameter(
            "model",
            found=f"{folder}: no *.safetensors",
            expected="weights in safetensors; save_pretrained writes them",
        )
    return path


def weights_digest(folder: Path, form: PromptForm) -> str:
    """SHA-256 over the tensors, what of the configuration matters, and the form of prompts.

    Raises:
        InvalidParameter: a file is damaged, or a tensor is there twice.
    """
    total = hashlib.sha256(_canonical(_architecture(folder)) + _canonical(asdict(form)))
    tensors: dict[str, bytes] = {}
    for file in sorted(folder.glob("*.safetensors")):
        for name, digest in _tensors(file):
            if name in tensors:
                raise InvalidParameter("model", found="a tensor twice", expected="each once")
            tensors[name] = digest
    for name in sorted(tensors):
        total.update(_canonical(name) + tensors[name])
    return total.hexdigest()


def tokenizer_digest(folder: Path) -> str:
    """SHA-256 of tokenizer.json: the same file at every node, and at the router."""
    return hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()


def _architecture(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except ValueError:
        raise InvalidParameter(
            "model", found="a config.json that is no JSON", expected="a model's configuration"
        ) from None
    return {name: value for name, value in config.items() if name not in _UNIMPORTANT}


def _tensors(file: Path) -> Iterator[tuple[str, bytes]]:
    """Each tensor's name with the SHA-256 of its type, shape and bytes."""
    damaged = InvalidParameter(
        "model", found=f"{file.name}: damaged", expected="a safetensors file"
    )
    try:
        with file.open("rb") as content:
            length = int.from_bytes(content.read(8), "little")
            if length > _HEADER_MAX:
                raise damaged
            header = json.loads(content.read(length))
            header.pop("__metadata__", None)
            for name, entry in header.items():
                start, end = entry["data_offsets"]
                content.seek(8 + length + start)
                digest = hashlib.sha256(_canonical([entry["dtype"], entry["shape"]]))
                rest = end - start
                while rest > 0:
                    chunk = content.read(min(rest, _CHUNK))
                    if not chunk:
                        raise damaged
                    digest.update(chunk)
                    rest -= len(chunk)
                yield name, digest.digest()
    except OSError as error:
        raise InvalidParameter(
            "model", found=f"{file.name}: {reason_of(error)}", expected="a safetensors file"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise damaged from None


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n"
