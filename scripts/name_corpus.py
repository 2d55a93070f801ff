"""What the name models are trained on, and what they are scored on: documents, mixed by a seed."""

# ruff: noqa: S311 -- data made from a fixed seed

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import name_sets
from name_pools import Pool
from name_sets import Document
from name_templates import Writer

_TEMPLATES = 12000
_TEMPLATES_HELD = 600
_LIFEBENCH = 300


def held_out(folder: Path) -> list[Document]:
    """Everything that is kept back, and texts of the templates that are."""
    real = [d for d in name_sets.documents(folder) if d.held_out]
    return real + Writer(Pool(991)).documents(_TEMPLATES_HELD, held_out=True)


def training(folder: Path, seed: int, *, lifebench: int = _LIFEBENCH) -> list[Document]:
    """The training mixture.

    Persons of court cases are renamed (the model must not know applicants by name), values of
    the Presidio templates are ours, and a part of everything is repeated in small letters and in
    capitals.
    """
    pool = Pool(seed)
    by_source: dict[str, list[Document]] = {}
    for document in name_sets.documents(folder):
        if not document.held_out:
            by_source.setdefault(document.source, []).append(document)
    tweets = by_source["wnut17"] + by_source["btc"]
    chosen = name_sets.sample(by_source["lifebench"], lifebench, seed)
    mixture = [
        *tweets,
        *by_source["wikigold"],
        *(pool.rename(d) for d in by_source["wikigold"]),
        *(pool.rename(d) for d in by_source["tab"] for _ in range(3)),
        *chosen[::2],
        *(pool.rename(d) for d in chosen[1::2]),
        *(pool.refill(d) for d in by_source["presidio"] for _ in range(5)),
        *(_cropped(d, pool.random) for d in by_source["meddocan"]),
        *(pool.rename(d) for d in by_source["echr"]),
    ]
    mixture += [name_sets.lower(d) for d in _part(mixture, 0.1, seed + 1)]
    mixture += [name_sets.upper(d) for d in _part(mixture, 0.05, seed + 2)]
    mixture += Writer(pool).documents(_TEMPLATES, held_out=False)
    random.Random(seed).shuffle(mixture)
    return mixture


def _part(documents: Sequence[Document], share: float, seed: int) -> list[Document]:
    return name_sets.sample(list(documents), round(share * len(documents)), seed)


def _cropped(document: Document, chance: random.Random) -> Document:
    """The lines of a clinical case with marks, and some of the many lines without."""
    text = ""
    spans: list[tuple[int, int, str]] = []
    place = 0
    for line in document.text.splitlines(keepends=True):
        inside = [s for s in document.spans if place <= s[0] and s[1] <= place + len(line)]
        if inside or chance.random() < 0.2:
            shift = len(text) - place
            spans += [(a + shift, b + shift, label) for a, b, label in inside]
            text += line
        place += len(line)
    return Document(document.name, document.source, text, tuple(spans))
