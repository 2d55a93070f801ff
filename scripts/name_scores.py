"""Scores of a name model on what was kept back, and the two things that are set from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from name_sets import Document

from privacy_core.redaction import tagging, word_features
from privacy_core.redaction.chains import Potentials
from privacy_core.redaction.findings import Finding, NameTagger
from privacy_core.redaction.scoring import Marked, Span, characters, matches, typed
from privacy_core.redaction.tokens import encode, tokenize

_SCALES = (0.01, 0.015, 0.02, 0.03, 0.05, 0.08, 0.12, 0.16, 0.2, 0.25, 0.3, 0.5, 1.0)
FORBIDDEN = np.float32(-1e4)


class _Tags(Protocol):
    def tag(self, text: str) -> Sequence[Finding]: ...


def marked(tagger: _Tags, documents: Sequence[Document]) -> list[Marked]:
    """Marks and findings of documents.

    Findings of labels that a document's set does not mark are left out: few sets mark addresses.
    """
    labels = {
        source: {s[2] for d in documents if d.source == source for s in d.spans}
        for source in {d.source for d in documents}
    }
    return [
        Marked(
            [Span(*span) for span in d.spans],
            [
                Span(f.start, f.end, f.label, f.score)
                for f in tagger.tag(d.text)
                if f.label in labels[d.source]
            ],
        )
        for d in documents
    ]


def report(tagger: NameTagger, documents: Sequence[Document]) -> None:
    """Print, for each set: F1 of each label at IoU 0.5, exact micro, recall of characters."""
    print("set        n     micro exact char-P char-R  labels: F1 (P/R, n)")
    for source in sorted({d.source for d in documents}):
        texts = marked(tagger, [d for d in documents if d.source == source])
        scores, exact, chars = typed(texts), typed(texts, iou=1), characters(texts)
        labels = "  ".join(
            f"{name[:3]} {s.f1:.3f} ({s.precision:.2f}/{s.recall:.2f}, {s.n})"
            for name, s in scores.entities.items()
        )
        print(
            f"{source:10} {scores.micro.n:5} {scores.micro.f1:.3f} {exact.micro.f1:.3f} "
            f"{chars.precision:.3f} {chars.recall:.3f}  {labels}",
            flush=True,
        )


def tempered(
    weights: tagging.Weights, lexicon: word_features.Lexicon, documents: Sequence[Document]
) -> tagging.Weights:
    """A perceptron's weights on the scale where their marginals are likeliest on held-out labels.

    The best labelling stays the same under every scale; probabilities do not.
    """
    chosen = documents[::20]
    truth = [
        (d.text, [weights.labels.index(x) for x in encode(tokenize(d.text), d.spans)])
        for d in chosen
    ]

    def likelihood(scale: float) -> float:
        scaled = _scaled(weights, scale)
        tagger, potentials = tagging.CrfTagger(scaled, lexicon), Potentials(scaled.transitions)
        total = 0.0
        for text, tags in truth:
            if tags:
                everything = np.ones(len(tags), dtype=bool)
                _, marginals = potentials.solve(tagger.scores(text), everything)
                total += float(np.log(marginals[range(len(tags)), tags] + 1e-9).sum())
        return total

    best = max(_SCALES, key=likelihood)
    print(f"weights times {best}", flush=True)
    return _scaled(weights, best)


def _scaled(weights: tagging.Weights, scale: float) -> tagging.Weights:
    possible = weights.transitions > FORBIDDEN
    return replace(
        weights,
        rows=weights.rows * np.float32(scale),
        tables=[(codes, values * np.float32(scale)) for codes, values in weights.tables],
        transitions=np.where(possible, weights.transitions * np.float32(scale), FORBIDDEN),
    )


def calibrated(
    weights: tagging.Weights, lexicon: word_features.Lexicon, documents: Sequence[Document]
) -> tagging.Weights:
    """Raw confidences to probabilities: isotonic regression on the texts that were kept back."""
    plain = tagging.CrfTagger(replace(weights, confidence={}), lexicon)
    return replace(weights, confidence=confidence_tables(plain, documents))


def confidence_tables(
    tagger: NameTagger, documents: Sequence[Document]
) -> dict[str, tuple[list[float], list[float]]]:
    """For each label, raw confidences and the share of findings with them that are right."""
    texts = marked(tagger, fair(documents))
    tables = {}
    for label in sorted({span.label for text in texts for span in text.found}):
        pairs = []
        for text in texts:
            right = {j for _, j in matches(text)}
            pairs += [(s.score, j in right) for j, s in enumerate(text.found) if s.label == label]
        tables[label] = isotonic(pairs)
    return tables


def fair(documents: Sequence[Document]) -> list[Document]:
    """A part of each large set, so that none outweighs the others."""
    step = {"lifebench": 6, "meddocan": 5}
    return [d for k, d in enumerate(documents) if k % step.get(d.source, 1) == 0]


def isotonic(pairs: list[tuple[float, bool]]) -> tuple[list[float], list[float]]:
    """Pool adjacent violators over twenty equal groups: rising knots for linear interpolation.

    Source: Zadrozny & Elkan 2002 (KDD), section 3.
    """
    pairs = sorted(pairs)
    groups = [
        g for g in np.array_split(np.array(pairs, dtype=float), min(20, len(pairs))) if len(g)
    ]
    blocks = [[float(g[:, 0].mean()), float(g[:, 1].sum()), float(len(g))] for g in groups]
    merged: list[list[float]] = []
    for block in blocks:
        merged.append(block)
        while len(merged) > 1 and merged[-2][1] / merged[-2][2] >= merged[-1][1] / merged[-1][2]:
            last = merged.pop()
            before = merged[-1]
            total = before[2] + last[2]
            before[0] = (before[0] * before[2] + last[0] * last[2]) / total
            before[1] += last[1]
            before[2] = total
    return [b[0] for b in merged], [b[1] / b[2] for b in merged]
