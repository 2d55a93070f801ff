"""What the name model knows of words without context: gazetteer bits, and classes of like meaning.

Classes are k-means clusters of MiniLM's vectors of single words (Apache-2.0): they take the place
that Brown clusters have in Ratinov & Roth 2009, and need no corpus. The words are MiniLM's own
vocabulary, those of the gazetteer, and those that occur in three or more training documents.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from name_pools import gazetteer
from name_sets import Document
from tokenizers import Tokenizer
from transformers import BertModel

from privacy_core.redaction import word_features
from privacy_core.redaction.tokens import tokenize

COARSE, FINE = 120, 1000
BITS = {
    "given": word_features.GIVEN,
    "surname": word_features.SURNAME,
    "city": word_features.CITY,
    "country": word_features.COUNTRY,
    "firm": word_features.FIRM,
}


def build(base: Path, documents: Iterable[Document]) -> dict[str, int]:
    """Entries of a `word_features.Lexicon`."""
    lists = gazetteer()
    vocabulary = (base / "vocab.txt").read_text(encoding="utf-8").splitlines()
    frequent = frequent_words(documents, 3)
    words = sorted(
        {w for w in vocabulary if w.isalpha()}
        | {w for w in frequent if w.isalpha()}
        | set().union(*lists.values())
    )
    vectors = _vectors(base, words)
    fine, centres = _clusters(vectors, FINE)
    coarse = _clusters(centres, COARSE)[0][fine]
    entries = {}
    for k, word in enumerate(words):
        bits = sum(bit for name, bit in BITS.items() if word in lists[name])
        entries[word] = bits | (int(coarse[k]) + 1) << 5 | (int(fine[k]) + 1) << 13
    return entries


def frequent_words(documents: Iterable[Document], least: int) -> frozenset[str]:
    """Lower-cased words that occur in so many different documents."""
    counts: Counter[str] = Counter()
    seen: dict[str, set[str]] = {}
    for document in documents:
        fresh = {word.lower() for word in tokenize(document.text).words}
        # Copies of one document count once.
        counts.update(w for w in fresh if document.name not in seen.setdefault(w, set()))
        for word in fresh:
            seen[word].add(document.name)
    return frozenset(word for word, count in counts.items() if count >= least)


def _vectors(base: Path, words: list[str]) -> np.ndarray:
    """Unit vectors of single words: the mean of MiniLM's last hidden states."""
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(12)
    model = BertModel.from_pretrained(base, add_pooling_layer=False, attn_implementation="eager")
    model.eval()
    encoded = [tokenizer.encode(word).ids for word in words]
    result = np.zeros((len(words), model.config.hidden_size), dtype=np.float32)
    by_length: dict[int, list[int]] = {}
    for k, ids in enumerate(encoded):
        by_length.setdefault(len(ids), []).append(k)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        for rows in by_length.values():
            for begin in range(0, len(rows), 512):
                part = rows[begin : begin + 512]
                hidden = model(torch.tensor([encoded[k] for k in part])).last_hidden_state
                result[part] = hidden.mean(dim=1).float().numpy()
    return result / np.linalg.norm(result, axis=1, keepdims=True)


def _clusters(vectors: np.ndarray, count: int, rounds: int = 15) -> tuple[np.ndarray, np.ndarray]:
    """K-means on the sphere: the class of each vector, and the centres."""
    chance = np.random.default_rng(5)
    centres = vectors[chance.choice(len(vectors), count, replace=False)]
    for _ in range(rounds):
        place = np.concatenate(
            [(part @ centres.T).argmax(axis=1) for part in np.array_split(vectors, 20)]
        )
        sums = np.zeros_like(centres)
        np.add.at(sums, place, vectors)
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(norms > 0, sums / np.maximum(norms, 1e-9), centres)
    return place, centres
