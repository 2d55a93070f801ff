"""The marked texts that the name models learn from, read into one form.

Every set, its licence, and what is kept back of it for scoring, is in `SETS`; nothing else is read.
Kept back means: whole documents (or templates, or users), chosen by a hash of their name, never
shown to a model that is scored on them.
"""

# ruff: noqa: RUF001, S311 -- quotes that people type; samples from a fixed seed

from __future__ import annotations

import gzip
import hashlib
import json
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

PERSON, LOCATION, ORGANIZATION, ADDRESS = "PERSON", "LOCATION", "ORGANIZATION", "ADDRESS"
LABELS = (PERSON, LOCATION, ORGANIZATION, ADDRESS)


@dataclass(frozen=True)
class Document:
    """A text with marks; `spans` are (start, end, label), in order, not overlapping."""

    name: str
    source: str
    text: str
    spans: tuple[tuple[int, int, str], ...]
    held_out: bool = False


@dataclass(frozen=True)
class Source:
    """Where a set comes from and on what terms."""

    title: str
    licence: str
    use: str


SETS = {
    "wnut17": Source("WNUT 2017 emerging entities", "CC BY 4.0", "training"),
    "btc": Source("Broad Twitter Corpus", "CC BY 4.0", "training"),
    "wikigold": Source("Wikigold", "CC BY 4.0", "training"),
    "tab": Source(
        "Text Anonymization Benchmark, original training documents",
        "MIT",
        "training with every person renamed; a fifth of the documents kept back",
    ),
    "lifebench": Source(
        "LifeBench PII, six users", "Apache-2.0", "training on five users; one user kept back"
    ),
    "presidio": Source(
        "presidio-research synth_dataset_v2, development templates",
        "MIT (templates); the values are CC BY-SA and are replaced by ours before training",
        "training on templates with our values; a quarter of the templates kept back",
    ),
    "meddocan": Source("MEDDOCAN (SPACCC)", "CC BY 4.0", "training; its dev part kept back"),
    "echr": Source(
        "ECHR judgments in French and Spanish", "MIT", "training, persons renamed; dev kept back"
    ),
    "ewt": Source("Universal NER, English EWT dev", "CC BY-SA 4.0", "scoring only"),
}

_PRESIDIO = {"PERSON": PERSON, "GPE": LOCATION, "ORGANIZATION": ORGANIZATION}
_MEDDOCAN = {
    "NOMBRE_SUJETO_ASISTENCIA": PERSON,
    "NOMBRE_PERSONAL_SANITARIO": PERSON,
    "TERRITORIO": LOCATION,
    "PAIS": LOCATION,
    "CALLE": ADDRESS,
    "HOSPITAL": ORGANIZATION,
    "INSTITUCION": ORGANIZATION,
    "CENTRO_SALUD": ORGANIZATION,
}
_TAGS = {
    "PER": PERSON,
    "person": PERSON,
    "LEGAL_PROFESSIONAL": PERSON,
    "LOC": LOCATION,
    "location": LOCATION,
    "ORG": ORGANIZATION,
    "corporation": ORGANIZATION,
    "group": ORGANIZATION,
}
_NO_SPACE_BEFORE = set(".,;:!?)]}%’'”…") | {"'s", "n't", "'m", "'re", "'ve", "'ll", "'d", "’s"}
_ENDINGS = {"s", "t", "re", "m", "ve", "ll", "d"}
_NO_SPACE_AFTER = set("([{#$£€“@")


def documents(folder: Path) -> list[Document]:
    """Read every set under `folder`; marks that overlap an earlier one are dropped."""
    return [
        _clean(document)
        for reader in (_tsv_sets, _tab, _lifebench, _presidio, _meddocan, _ewt)
        for document in reader(folder)
    ]


def bucket(name: str, buckets: int) -> int:
    """A number from a name that never changes."""
    return int(hashlib.md5(name.encode(), usedforsecurity=False).hexdigest(), 16) % buckets


def _clean(document: Document) -> Document:
    spans: list[tuple[int, int, str]] = []
    for start, end, label in sorted(document.spans):
        if end > start and (not spans or start >= spans[-1][1]):
            spans.append((start, end, label))
    return replace(document, spans=tuple(spans))


def _tsv_sets(folder: Path) -> Iterator[Document]:
    train = folder / "ner_train"
    groups = [
        ("wnut17", sorted(train.glob("WNUT17_[td]*.conll")) + sorted(train.glob("*.annotated"))),
        ("btc", sorted(train.glob("BTC_*.conll"))),
        ("wikigold", sorted(train.glob("wikigold*.txt"))),
        ("echr", sorted((folder / "echr_es_fr").glob("*.tsv"))),
    ]
    for source, paths in groups:
        for path in paths:
            held = source == "echr" and "-dev" in path.name
            for k, sentences in enumerate(_chunks(_sentences(path))):
                text, spans = _joined(sentences)
                yield Document(f"{path.stem}-{k}", source, text, spans, held)


def _sentences(path: Path) -> Iterator[list[tuple[str, str]]]:
    rows: list[tuple[str, str]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        parts = line.split()
        if len(parts) < 2 or parts[0] == "-DOCSTART-":
            if rows:
                yield rows
            rows = []
        else:
            rows.append((parts[0], parts[-1]))
    if rows:
        yield rows


def _chunks(
    sentences: Iterable[list[tuple[str, str]]], size: int = 8
) -> Iterator[list[list[tuple[str, str]]]]:
    chunk: list[list[tuple[str, str]]] = []
    for sentence in sentences:
        chunk.append(sentence)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _joined(
    sentences: list[list[tuple[str, str]]],
) -> tuple[str, tuple[tuple[int, int, str], ...]]:
    """Put words back into a text, with the spaces that a writer would set."""
    text = ""
    spans: list[tuple[int, int, str]] = []
    for sentence in sentences:
        before = ""
        open_quote = False
        last: str | None = None
        for word, tag in sentence:
            quoted = word == '"'
            glued = (
                not text
                or (before in {"'", "’"} and word in _ENDINGS)
                or text[-1] == "\n"
                or word in _NO_SPACE_BEFORE
                or before in _NO_SPACE_AFTER
                or (quoted and open_quote)
                or (before == '"' and open_quote)
                or (before.endswith(("’", "'")) and len(before) <= 3 and before[:1].isalpha())
            )
            text += "" if glued else " "
            start = len(text)
            text += word
            label = None if before == "@" or word[0] == "@" else _TAGS.get(tag[2:])
            if label is None:
                last = None
            elif tag[0] == "I" and last == label and spans:
                spans[-1] = (spans[-1][0], len(text), label)
            else:
                spans.append((start, len(text), label))
                last = label
            if quoted:
                open_quote = not open_quote
            before = word
        text += "\n"
    return text, tuple(spans)


def _tab(folder: Path) -> Iterator[Document]:
    for row in _rows(folder / "tab" / "train.jsonl"):
        spans = tuple(
            (s[0], s[1], {"LOC": LOCATION, "ORG": ORGANIZATION, PERSON: PERSON}[s[2]])
            for s in row["spans"]
            if s[2] in {"LOC", "ORG", "PERSON"}
        )
        yield Document(row["id"], "tab", row["text"], spans, bucket(row["id"], 5) == 0)


def _lifebench(folder: Path) -> Iterator[Document]:
    names = {"ORG": ORGANIZATION, "PERSON": PERSON, "LOCATION": LOCATION}
    for path in sorted((folder / "lifebench").glob("*.jsonl.gz")):
        for row in _rows(path):
            spans = tuple(
                (s["start"], s["end"], names[s["type"]])
                for s in row["pii_spans"]
                if s["type"] in names
            )
            held = row["user"] == "yuxiaowei"
            yield Document(row["id"], "lifebench", row["data_to_answer"], spans, held)


def _presidio(folder: Path) -> Iterator[Document]:
    for row in _rows(folder / "presidio_synth" / "dev.jsonl"):
        template = row["id"].split("-")[0]
        marks = {tuple(s) for s in row["spans"]}
        spans = [(a, b, _PRESIDIO[label]) for a, b, label in marks if label in _PRESIDIO]
        spans += _addresses(
            row["text"], sorted((a, b) for a, b, x in marks if x == "STREET_ADDRESS")
        )
        held = bucket("held" + template, 4) == 0
        yield Document("presidio-" + row["id"], "presidio", row["text"], tuple(spans), held)


def _addresses(text: str, parts: list[tuple[int, int]]) -> list[tuple[int, int, str]]:
    """Join parts of an address that only spaces part."""
    joined: list[tuple[int, int, str]] = []
    for start, end in parts:
        if joined and not re.search(r"[^\s,]", text[joined[-1][1] : start]):
            joined[-1] = (joined[-1][0], end, ADDRESS)
        else:
            joined.append((start, end, ADDRESS))
    return joined


def _meddocan(folder: Path) -> Iterator[Document]:
    for part in ("train", "dev"):
        for row in _rows(folder / "meddocan" / f"{part}.jsonl.gz"):
            spans = tuple(
                (a, b, _MEDDOCAN[label])
                for a, b, label in row["spans"]
                if label in _MEDDOCAN and not row["text"][a:b].isdigit()
            )
            yield Document("meddocan-" + row["id"], "meddocan", row["text"], spans, part == "dev")


def _ewt(folder: Path) -> Iterator[Document]:
    """Sentences with their original text; ten make a document."""
    blocks = (folder / "uner_ewt" / "dev.iob2").read_text(encoding="utf-8").split("\n\n")
    group: list[str] = []
    spans: list[tuple[int, int, str]] = []
    offset = 0
    for k, block in enumerate(blocks):
        lines = block.strip().split("\n")
        text = next((x[9:] for x in lines if x.startswith("# text = ")), None)
        if text is None:
            continue
        spans += [(a + offset, b + offset, label) for a, b, label in _ewt_spans(text, lines)]
        group.append(text)
        offset += len(text) + 1
        if len(group) == 10 or k == len(blocks) - 1:
            yield Document(f"ewt-{k}", "ewt", "\n".join(group), tuple(spans), held_out=True)
            group, spans, offset = [], [], 0


def _ewt_spans(text: str, lines: list[str]) -> list[tuple[int, int, str]]:
    place = 0
    spans: list[tuple[int, int, str]] = []
    open_ = False
    for line in lines:
        if line.startswith("#"):
            continue
        _, word, tag = line.split("\t")[:3]
        start = text.index(word, place)
        place = start + len(word)
        label = _TAGS.get(tag[2:])
        if label is None:
            open_ = False
        elif tag[0] == "I" and open_:
            spans[-1] = (spans[-1][0], place, label)
        else:
            spans.append((start, place, label))
            open_ = True
    return spans


def _rows(path: Path) -> Iterator[dict]:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def lower(document: Document) -> Document:
    """The same text as somebody types it who never reaches for the shift key."""
    text = document.text.lower()
    return replace(document, text=text) if len(text) == len(document.text) else document


def upper(document: Document) -> Document:
    """The same text in capitals."""
    text = document.text.upper()
    return replace(document, text=text) if len(text) == len(document.text) else document


def replaced(document: Document, values: dict[int, str]) -> Document:
    """The same text with other values in some of its marks (by place in `spans`)."""
    text = ""
    place = 0
    spans: list[tuple[int, int, str]] = []
    for k, (start, end, label) in enumerate(document.spans):
        text += document.text[place:start]
        value = values.get(k, document.text[start:end])
        spans.append((len(text), len(text) + len(value), label))
        text += value
        place = end
    return replace(document, text=text + document.text[place:], spans=tuple(spans))


def sample(items: list[Document], count: int, seed: int) -> list[Document]:
    """At most `count` of the documents, in an order that only the seed decides."""
    chosen = list(items)
    random.Random(seed).shuffle(chosen)
    return chosen[:count]
