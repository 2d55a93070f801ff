"""What the records would answer without privacy: the demonstration's other end of the scale."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from federated_dp_llm.demo.sample import patients
from federated_dp_llm.routing.vocabulary import TokenizerFile

if TYPE_CHECKING:
    from federated_dp_llm.node.hf import HfModel

_TOKENS: Final = 64
_SLOTS: Final = 48


class Baseline:
    """Greedy answers from the mean of records' logits, neither clipped nor drawn.

    No guarantee of any kind: each answer may be one patient's. The model is loaded at the first.

    Args:
        folder: of the model.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def answer(self, question: str, cohort: str) -> str:
        """What the first records of a cohort say together."""
        texts = [patient.text for patient in patients()[cohort][:_SLOTS]]
        contexts = self._model.contexts(question, texts)
        every = tuple(range(self._model.vocabulary))
        tokens: list[int] = []
        try:
            while len(tokens) < _TOKENS:
                (logits,) = contexts.score(tokens, (), (every,))
                token = int(np.nanmean(logits, axis=0).argmax())
                if token in self._model.end_tokens:
                    break
                tokens.append(token)
        finally:
            contexts.close()
        return TokenizerFile(self._folder / "tokenizer.json").text(tokens)

    @cached_property
    def _model(self) -> HfModel:
        from federated_dp_llm.node.hf import HfModel  # noqa: PLC0415 -- loads torch

        return HfModel.load(self._folder)
