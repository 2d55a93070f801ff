"""The larger name model: a six-layer transformer of 8-bit weights, run by onnxruntime."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from privacy_core.redaction import subwords
from privacy_core.redaction.candidates import Candidates
from privacy_core.redaction.chains import Potentials
from privacy_core.redaction.findings import Finding
from privacy_core.redaction.tagging import SpanReader
from privacy_core.redaction.tokens import possible_transitions, tokenize
from privacy_runtime.names import assets

_LENGTH: Final = 128
_CONTEXT: Final = 12
_BATCH: Final = 8
_BLOCK: Final = 20_000  # words that are in work at once
_SETTLED: Final = 1.0
_NEVER: Final = -40.0
_RULE: Final = "names.transformer"


@dataclass(frozen=True)
class TransformerTagger:
    """A `NameTagger` from an onnx session; onnxruntime sessions may be shared between threads."""

    session: Any
    tokenizer: Any
    tags: tuple[str, ...]
    confidence: dict[str, tuple[Sequence[float], Sequence[float]]]

    @cached_property
    def _potentials(self) -> Potentials:
        return Potentials(possible_transitions(self.tags))

    @cached_property
    def _candidates(self) -> Candidates:
        return Candidates(self.tags, possible_transitions(self.tags))

    @cached_property
    def _spans(self) -> SpanReader:
        return SpanReader(self.tags, self.confidence)

    def tag(self, text: str, wanted: NDArray[np.bool_] | None = None) -> list[Finding]:
        """Names in a text, in order, not overlapping.

        Args:
            text: any string.
            wanted: for each word of the text (`tokens.tokenize`) whether it is looked at, with
                some words before it as context; the others are no names. All, if left out.
        """
        tokens = tokenize(text)
        findings: list[Finding] = []
        for begin in range(0, len(tokens.words), _BLOCK):
            words = tokens.words[begin : begin + _BLOCK]
            asked = None if wanted is None else wanted[begin : begin + _BLOCK]
            scores = self.scores(words, asked)
            undecided = self._candidates.gains(scores) > -_SETTLED
            best, _ = self._potentials.solve(scores, undecided)
            everything = np.arange(len(words))
            found = self._spans.read(best, np.exp(scores), words, everything)
            findings += [
                Finding(
                    tokens.starts[begin + first], tokens.ends[begin + last - 1], label, sure, _RULE
                )
                for first, last, label, sure in found
            ]
        return findings

    def scores(
        self, words: Sequence[str], wanted: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """Log probabilities of tags, shape (words, tags); certainty of no name where not asked."""
        result = np.full((len(words), len(self.tags)), _NEVER, dtype=np.float32)
        result[:, 0] = 0
        windows = self._windows(words, wanted)
        order = sorted(range(len(windows)), key=lambda k: len(windows[k].ids))
        for part in _batches([windows[k] for k in order]):
            for window, scores in zip(part, self._run(part), strict=True):
                places = [p for p, word in enumerate(window.words) if word >= window.first]
                result[[window.words[p] for p in places]] = scores[places]
        result -= result.max(axis=1, keepdims=True)
        result -= np.log(np.exp(result).sum(axis=1, keepdims=True))
        return result

    def _windows(
        self, words: Sequence[str], wanted: NDArray[np.bool_] | None
    ) -> list[subwords.Window]:
        """What the model sees: runs of wanted words, each after a few words of context."""
        if wanted is None:
            return list(subwords.windows(subwords.pieces(words, self.tokenizer), _LENGTH, _CONTEXT))
        windows: list[subwords.Window] = []
        for first, end in _runs(wanted):
            start = max(0, first - _CONTEXT)
            of = subwords.pieces(words[start:end], self.tokenizer)
            windows += [
                w.moved(start) for w in subwords.windows(of, _LENGTH, _CONTEXT, first - start)
            ]
        return windows

    def _run(self, windows: Sequence[subwords.Window]) -> Any:
        width = max(len(window.ids) for window in windows)
        inputs = np.zeros((3, len(windows), width), dtype=np.int64)
        for k, window in enumerate(windows):
            count = len(window.ids)
            inputs[0, k, :count] = window.ids
            inputs[1, k, :count] = 1
            inputs[2, k, :count] = window.cases
        feed = dict(zip(("pieces", "mask", "cases"), inputs, strict=True))
        return self.session.run(["scores"], feed)[0]


def _runs(wanted: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Runs of wanted words; two with little between them are one."""
    edges = np.diff(wanted, prepend=False, append=False).nonzero()[0].tolist()
    runs: list[tuple[int, int]] = []
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        if runs and start - runs[-1][1] <= _CONTEXT:
            runs[-1] = runs[-1][0], end
        else:
            runs.append((start, end))
    return runs


def _batches(windows: Sequence[subwords.Window]) -> Iterator[Sequence[subwords.Window]]:
    """Windows of like length together: padding costs as much as text."""
    begin = 0
    for k in range(1, len(windows) + 1):
        if (
            k == len(windows)
            or k - begin == _BATCH
            or 4 * len(windows[begin].ids) < 3 * len(windows[k].ids)
        ):
            yield windows[begin:k]
            begin = k


def load(onnx: bytes | None = None, description: bytes | None = None) -> TransformerTagger:
    """Read the model; by default the shipped one.

    Args:
        onnx: the model.
        description: JSON with `tags`, `vocabulary` and `confidence`.
    """
    if onnx is None or description is None:
        onnx, description = map(assets.asset_bytes, (assets.TRANSFORMER, "transformer.json"))
    document = json.loads(description)
    options = onnxruntime.SessionOptions()
    # One thread a call: callers run many at once, and a thread that spins takes their cores.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    vocabulary = {piece: k for k, piece in enumerate(document["vocabulary"])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    confidence: dict[str, tuple[Sequence[float], Sequence[float]]] = {
        label: (tuple(known), tuple(values))
        for label, (known, values) in document.get("confidence", {}).items()
    }
    return TransformerTagger(session, tokenizer, tuple(document["tags"]), confidence)
