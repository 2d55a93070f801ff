"""Name models of others: spaCy pipelines, Hugging Face token classifiers, GLiNER.

Each is a `NameTagger`, given to `PatternDetector(names=...)` or `ContextGuard(names=...)` in the
place of the shipped model. Their labels are translated by the table of `label_schemes`; what the
table leaves out (products, events) is no finding. Nothing is downloaded unless a name is given that
is not a folder, and then by the library itself.

====================  ===================================  ======================================
class                 needs                                scores
====================  ===================================  ======================================
`HuggingFaceNames`    nothing more                         the model's probabilities, not calibrated
`SpacyNames`          spacy and a pipeline                 none: every finding has the one given
`GlinerNames`         gliner and a model                   the model's, not calibrated
====================  ===================================  ======================================
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from privacy_core.errors import InvalidParameter
from privacy_core.redaction.entities import UnknownEntity
from privacy_core.redaction.findings import Finding
from privacy_core.redaction.tokens import OUTSIDE, Tokens, decode, tokenize
from privacy_finetuner.context.label_schemes import canonical
from privacy_finetuner.errors import ModelLoadError

# The letters of the BILOU scheme in ours.
_KINDS: Final = {"L": "E", "U": "S"}
_GLINER_WORDS: Final = 250
_SPACY_CHARACTERS: Final = 100_000


class SpacyNames:
    """Entities of a spaCy pipeline.

    Args:
        pipeline: a loaded pipeline, or the name or folder of one.
        score: probability given to every finding; spaCy states none.
        labels: pipeline label to ours, beside the table; None leaves a label out.

    Raises:
        ModelLoadError: spacy or the pipeline is not installed.
    """

    def __init__(
        self,
        pipeline: Any,
        *,
        score: float = 0.85,
        labels: Mapping[str, str | None] | None = None,
    ) -> None:
        if not 0 <= score <= 1:
            raise InvalidParameter("score", found=score, expected="a probability")
        self._labels = _Labels(labels)
        self._score = score
        if isinstance(pipeline, str | Path):
            spacy = _imported("spacy", "spaCy")
            try:
                pipeline = spacy.load(pipeline)
            except OSError as error:
                raise ModelLoadError(
                    f"spaCy has no pipeline {str(pipeline)!r}: give a folder, or install it with "
                    f"`python -m spacy download {pipeline}`; nothing was tagged"
                ) from error
        self._pipeline = pipeline

    def tag(self, text: str) -> list[Finding]:
        """Names in a text, in order, not overlapping."""
        findings = []
        for start, part in _parts(text, _SPACY_CHARACTERS):
            for entity in self._pipeline(part).ents:
                label = self._labels.ours(entity.label_)
                if label is not None:
                    first, last = start + entity.start_char, start + entity.end_char
                    findings.append(Finding(first, last, label, self._score, "names.spacy"))
        return findings


class GlinerNames:
    """Entities of a GLiNER model, asked for labels in words.

    Args:
        model: a loaded model, or the name or folder of one.
        ask: what is asked for, in the model's words, and what it is called here.
        least: findings below this score of the model are dropped.

    Raises:
        ModelLoadError: gliner or the model is not there.
    """

    def __init__(
        self, model: Any, *, ask: Mapping[str, str] | None = None, least: float = 0.3
    ) -> None:
        self._ask = dict(
            ask or {"person": "PERSON", "location": "LOCATION", "organization": "ORGANIZATION"}
        )
        self._least = least
        if isinstance(model, str | Path):
            gliner = _imported("gliner", "GLiNER")
            try:
                model = gliner.GLiNER.from_pretrained(str(model))
            except OSError as error:
                raise ModelLoadError(
                    f"GLiNER has no model {str(model)!r}; nothing was tagged"
                ) from error
        self._model = model

    def tag(self, text: str) -> list[Finding]:
        """Names in a text, in order; where the model's overlap, the higher score stays."""
        findings = []
        for start, part in _parts_of_words(text, _GLINER_WORDS):
            found = self._model.predict_entities(part, list(self._ask), threshold=self._least)
            findings += [
                Finding(
                    start + each["start"],
                    start + each["end"],
                    self._ask[each["label"]],
                    float(each["score"]),
                    "names.gliner",
                )
                for each in found
            ]
        return _apart(findings)


class HuggingFaceNames:
    """Entities of a token classifier, decoded by word.

    A word has the label of its first piece. Texts longer than the model's context are read in
    windows that overlap by a quarter; a word is taken from the window where it stands furthest
    from an end.

    Args:
        model: folder or name of a token classification model with a fast tokenizer.
        labels: model label (without `B-`, `I-`) to ours, beside the table; None leaves it out.
        max_length: pieces of a window; default: the model's context, at most 512.
        device: where it runs.
        batch_size: windows at once.

    Raises:
        ModelLoadError: it cannot be loaded, is no token classifier, or has no fast tokenizer.
        UnknownEntity: one of its labels is not in the table; `labels` can place it.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        labels: Mapping[str, str | None] | None = None,
        max_length: int | None = None,
        device: str = "cpu",
        batch_size: int = 8,
    ) -> None:
        import transformers  # noqa: PLC0415 -- loads torch

        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(model, use_fast=True)
            self._model = transformers.AutoModelForTokenClassification.from_pretrained(model)
        except (OSError, ValueError, KeyError) as error:
            raise ModelLoadError(
                f"{str(model)!r} is no token classifier with its tokenizer; nothing was tagged"
            ) from error
        if not self._tokenizer.is_fast:
            raise ModelLoadError(
                f"the tokenizer of {str(model)!r} does not know where its pieces stand (it is not "
                "a fast one); nothing was tagged"
            )
        self._model.eval().to(device)
        table = _Labels(labels)
        self._tags = [
            _translated(tag, table) for _, tag in sorted(self._model.config.id2label.items())
        ]
        context = getattr(self._model.config, "max_position_embeddings", None) or 512
        self._max_length = min(max_length or 512, context, self._tokenizer.model_max_length)
        self._batch_size = batch_size
        self._device = device

    def tag(self, text: str) -> list[Finding]:
        """Names in a text, in order, not overlapping."""
        tokens = tokenize(text)
        tags, scores = self._by_word(text, tokens)
        return [
            Finding(
                tokens.starts[start],
                tokens.ends[end - 1],
                label,
                min(scores[start:end]),
                "names.huggingface",
            )
            for start, end, label in decode(tags)
        ]

    def _by_word(self, text: str, tokens: Tokens) -> tuple[list[str], list[float]]:
        """Tag and probability of each word."""
        tags = [OUTSIDE] * len(tokens.words)
        scores = [0.0] * len(tokens.words)
        best = [-1] * len(tokens.words)
        place = {start: word for word, start in enumerate(tokens.starts)}
        for offsets, kinds, sure in self._windows(text):
            real = [k for k, (start, end) in enumerate(offsets) if end > start]
            for depth, k in zip(_depths(len(real)), real, strict=True):
                word = place.get(_without_space(text, *offsets[k]))
                if word is not None and depth > best[word]:
                    tags[word], scores[word], best[word] = self._tags[kinds[k]], sure[k], depth
        return tags, scores

    def _windows(self, text: str) -> Iterator[tuple[list[Any], list[int], list[float]]]:
        """Offsets, best labels and their probabilities of the pieces of each window."""
        import torch  # noqa: PLC0415

        encoded = self._tokenizer(
            text,
            truncation=True,
            max_length=self._max_length,
            stride=self._max_length // 4,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            padding=True,
            return_tensors="pt",
        )
        offsets = encoded.pop("offset_mapping").tolist()
        encoded.pop("overflow_to_sample_mapping", None)
        for begin in range(0, len(offsets), self._batch_size):
            part = {
                name: value[begin : begin + self._batch_size].to(self._device)
                for name, value in encoded.items()
            }
            with torch.inference_mode():
                sure, kinds = self._model(**part).logits.softmax(dim=-1).max(dim=-1)
            yield from zip(
                offsets[begin : begin + self._batch_size],
                kinds.tolist(),
                sure.tolist(),
                strict=True,
            )


class _Labels:
    """Labels of a model in our names."""

    def __init__(self, own: Mapping[str, str | None] | None) -> None:
        self._own = {} if own is None else dict(own)

    def ours(self, label: str) -> str | None:
        """Our name, None for what is left out."""
        return self._own[label] if label in self._own else canonical(label)


def _translated(tag: str, table: _Labels) -> str:
    """`B-PER` as `B-PERSON`; a tag without prefix continues what stands before it."""
    if tag in {"O", "_", "OUTSIDE"}:
        return OUTSIDE
    kind, dash, name = tag.partition("-")
    if not dash or kind not in {"B", "I", "E", "S", "L", "U"}:
        kind, name = "I", tag
    try:
        label = table.ours(name)
    except UnknownEntity:
        if name.startswith("LABEL_"):
            raise ModelLoadError(
                f"the model calls its labels {name!r} and the like; say with `labels` what they "
                "mean; nothing was tagged"
            ) from None
        raise
    return OUTSIDE if label is None else f"{_KINDS.get(kind, kind)}-{label}"


def _imported(module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ModelLoadError(
            f"{name} is not installed: pip install {module}; nothing was tagged"
        ) from error


def _depths(count: int) -> list[int]:
    """How far each of `count` pieces stands from the nearer end."""
    return [min(k, count - 1 - k) for k in range(count)]


def _without_space(text: str, start: int, end: int) -> int:
    """Where a piece begins; some tokenizers count the space before it."""
    while start < end and text[start].isspace():
        start += 1
    return start


def _parts(text: str, size: int) -> Iterator[tuple[int, str]]:
    """A text in pieces of at most `size` characters, cut after a space where there is one."""
    start = 0
    while start < len(text):
        end = min(len(text), start + size)
        if end < len(text):
            cut = max(text.rfind("\n", start, end), text.rfind(" ", start, end))
            end = cut + 1 if cut > start else end
        yield start, text[start:end]
        start = end


def _parts_of_words(text: str, count: int) -> Iterator[tuple[int, str]]:
    """A text in pieces of about `count` words, cut after a line or a sentence where one ends."""
    tokens = tokenize(text)
    cuts = [0]
    size = 0
    for k, word in enumerate(tokens.words):
        size += 1
        ends = word in {"\n", ".", "!", "?"}
        if (ends and 2 * size > count) or size == count:
            cuts.append(tokens.ends[k])
            size = 0
    cuts.append(len(text))
    for start, end in pairwise(cuts):
        if end > start:
            yield start, text[start:end]


def _apart(findings: Sequence[Finding]) -> list[Finding]:
    """Findings without overlaps: higher scores first."""
    kept: list[Finding] = []
    for finding in sorted(findings, key=lambda f: (-f.score, f.start)):
        if all(finding.end <= other.start or other.end <= finding.start for other in kept):
            kept.append(finding)
    return sorted(kept, key=lambda finding: finding.start)
