"""The files of the models, read once for the process."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from io import BytesIO
from typing import Any, Final

import numpy as np

from privacy_core.redaction.tagging import Weights
from privacy_core.redaction.word_features import Lexicon

TABLES: Final = 9
TRANSFORMER: Final = "transformer.onnx"


def asset_bytes(name: str) -> bytes:
    """A file of the models."""
    return (resources.files(__package__) / "assets" / name).read_bytes()


def has_transformer() -> bool:
    """Whether the larger model is in this installation."""
    folder = resources.files(__package__) / "assets"
    return all((folder / name).is_file() for name in (TRANSFORMER, "transformer.json"))


@lru_cache(maxsize=1)
def lexicon() -> Lexicon:
    """What is known of single words."""
    with _opened("lexicon.npz") as stored:
        return Lexicon(dict(zip(_words(stored["words"]), stored["codes"].tolist(), strict=True)))


@lru_cache(maxsize=1)
def weights() -> Weights:
    """The conditional random field."""
    with _opened("crf.npz") as stored:
        names = [key.removeprefix("confidence_") for key in stored if key[:10] == "confidence"]
        return Weights(
            labels=tuple(_words(stored["labels"])),
            attributes={name: k for k, name in enumerate(_words(stored["attributes"]))},
            places=stored["places"],
            rows=stored["rows"].astype(np.float32),
            tables=[
                (stored[f"codes_{j}"].astype(np.int64), stored[f"values_{j}"].astype(np.float32))
                for j in range(TABLES)
            ],
            transitions=stored["transitions"],
            settled=float(stored["settled"]),
            confidence={
                name: (
                    tuple(stored[f"confidence_{name}"][0].tolist()),
                    tuple(stored[f"confidence_{name}"][1].tolist()),
                )
                for name in names
            },
        )


def _opened(name: str) -> Any:
    """Arrays by name. Read from memory: no file stays open, whatever happens to the archive."""
    return np.load(BytesIO(asset_bytes(name)), allow_pickle=False)


def _words(stored: Any) -> list[str]:
    text: str = stored.tobytes().decode("utf-8")
    return text.split("\n")
