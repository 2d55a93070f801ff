"""A Hugging Face causal language model as a node's backend, from a local folder.

Notes on what is chosen here and why:

- Only safetensors and a fast tokenizer are read; no code of a model runs; nothing is downloaded.
- float32: logits of two nodes are subtracted, and bfloat16 would leave two digits of the
  difference.
- Every slot has the same width, so time tells nothing of a record's length, nor whether there is
  one. A longer record is cut.
- Public contexts are kept for the next call. A prompt that was asked before is answered sooner: the
  router, which is the only caller, sends answers on a public grid of time.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from federated_dp_llm.node.backend import Continuation, FloatArray, IntArray
from federated_dp_llm.node.prompts import PromptForm
from federated_dp_llm.node.refusals import Refused
from federated_dp_llm.node.rows import Rows
from federated_dp_llm.node.weights import require_folder, tokenizer_digest, weights_digest
from privacy_core.decoding.terms import CANDIDATES_MAX
from privacy_core.errors import InvalidParameter

AGREEMENT: Final = 1e-3
"""How far, relative to the largest logit, cached and padded rows may be from a plain pass."""
_PUBLIC_KEPT: Final = 16
_LOADING_ERRORS = (OSError, ValueError, ImportError, KeyError, RuntimeError, SafetensorError)


class HfModel:
    """A causal language model. Implements `backend.Backend`; threads, and nodes, take turns.

    Args:
        model: in memory, in eval mode, float32.
        tokenizer: a fast one.
        form: of prompts.
        weights, tokenizer_sha256: the digests.
        record_tokens: the width of a record; longer ones are cut. None: half of the context.
        rows_most: slots that are computed at once; bounds memory.

    Raises:
        InvalidParameter: the model has no context length, no room for a record, or cannot be
            computed in padded rows with a cache: its logits differ from those of a plain pass.
    """

    modes: tuple[str, ...] = ("logits", "votes", "public")
    candidates_most = CANDIDATES_MAX

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        form: PromptForm,
        *,
        weights: str,
        tokenizer_sha256: str,
        record_tokens: int | None = None,
        rows_most: int = 64,
    ) -> None:
        self._model, self._tokenizer, self._form = model, tokenizer, form
        self.weights, self.tokenizer = weights, tokenizer_sha256
        self.vocabulary = min(len(tokenizer), model.get_output_embeddings().weight.shape[0])
        length = getattr(model.config, "max_position_embeddings", None)
        if not isinstance(length, int) or length < 8:
            raise InvalidParameter("model", found="no context length", expected="a bounded context")
        self.context_length = length
        self.end_tokens = _end_tokens(model, tokenizer)
        self.record_tokens = length // 2 if record_tokens is None else record_tokens
        self._start = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
        self._start += self._encoded(form.head, is_plain=False)
        self._tail = self._encoded(form.tail, is_plain=False)
        self._width = len(self._start) + self.record_tokens
        self._pad = self._start[0] if self._start else 0
        self._rows_most = rows_most
        self._publics: OrderedDict[str, Rows] = OrderedDict()
        self._turn = threading.RLock()
        least = len(self._shared("")) + 1
        if not self.record_tokens > 0 or self._width + least > length:
            raise InvalidParameter(
                "record_tokens", found=self.record_tokens, expected=f"less than {length - least}"
            )
        self._require_agreement()

    @classmethod
    def load(
        cls,
        folder: Path | str,
        *,
        form: PromptForm | None = None,
        device: str = "cpu",
        record_tokens: int | None = None,
        rows_most: int = 64,
    ) -> Self:
        """Read a model's folder.

        Args:
            folder: with config.json, tokenizer.json and weights in safetensors.
            form: of prompts; None: a plain record, question and answer.
            device: of torch.
            record_tokens: see the class.
            rows_most: see the class.

        Raises:
            InvalidParameter: see the class; or the folder holds no such model.
        """
        path = require_folder(folder)
        form = form or PromptForm()
        bars = transformers_logging.is_progress_bar_enabled()
        transformers_logging.disable_progress_bar()
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                path, local_files_only=True, trust_remote_code=False, use_fast=True
            )
            model, info = AutoModelForCausalLM.from_pretrained(
                path,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
            model.to(device)
        except _LOADING_ERRORS as error:
            kind = type(error).__name__
            raise InvalidParameter(
                "model", found=f"{path}: {kind}", expected="a causal language model"
            ) from error
        finally:
            if bars:
                transformers_logging.enable_progress_bar()
        if info["missing_keys"]:
            raise InvalidParameter(
                "model",
                found=f"{len(info['missing_keys'])} tensors missing",
                expected="all weights: missing ones would be random",
            )
        return cls(
            model.eval().requires_grad_(False),
            tokenizer,
            form,
            weights=weights_digest(path, form),
            tokenizer_sha256=tokenizer_digest(path),
            record_tokens=record_tokens,
            rows_most=rows_most,
        )

    def room(self, prompt: str) -> int:
        """How many tokens may follow the prompt beside the longest record; may be negative."""
        with self._turn:
            return self.context_length - self._width - len(self._shared(prompt))

    def contexts(self, prompt: str, records: Sequence[str | None]) -> HfContexts:
        """Make B slots ready: prefixes and the shared part are computed here."""
        with self._turn:
            return HfContexts(
                self._rows(records), self._shared(prompt), self.vocabulary, self._turn
            )

    def continuation(self, prompt: str, released: Sequence[int], draft: int) -> Continuation:
        """Continue without a record, greedily, up to `draft` tokens or an end token.

        Raises:
            Refused: prompt_too_long: it leaves no room in the context.
        """
        with self._turn:
            return self._continued(prompt, released, draft)

    def _continued(self, prompt: str, released: Sequence[int], draft: int) -> Continuation:
        shared = [*self._shared(prompt), *released]
        if len(self._start) + len(shared) + draft > self.context_length:
            raise Refused(
                "prompt_too_long", f"the context holds {self.context_length} tokens in all"
            )
        rows = self._public_rows(prompt)
        tokens: list[int] = []
        found = [rows.logits(shared, 1)[0, 0, : self.vocabulary]]
        while len(tokens) < draft and (not tokens or tokens[-1] not in self.end_tokens):
            tokens.append(int(found[-1].argmax()))
            found.append(rows.logits([*shared, *tokens], 1)[0, 0, : self.vocabulary])
        logits: FloatArray = torch.stack(found).cpu().numpy()
        return Continuation(tuple(tokens), logits, self._text(released, tokens))

    def choices(
        self, question: str, records: Sequence[str | None], options: Sequence[str]
    ) -> IntArray:
        """The option [B] of the largest probability behind the question, of each slot.

        A slot whose numbers are not finite takes the first option: it counts like any other.

        Raises:
            Refused: prompt_too_long: question and options leave no room.
        """
        with self._turn:
            return self._chosen(question, records, options)

    def _chosen(
        self, question: str, records: Sequence[str | None], options: Sequence[str]
    ) -> IntArray:
        shared = self._shared(question)
        encoded = [self._encoded(self._form.option + option) for option in options]
        longest = max(map(len, encoded))
        if not all(encoded) or self._width + len(shared) + longest > self.context_length:
            raise Refused("prompt_too_long", "question and options leave no room in the context")
        return np.concatenate(
            [_likeliest(rows, shared, encoded) for rows in self._rows(records)]
        ).astype(np.int64)

    def _rows(self, records: Sequence[str | None]) -> list[Rows]:
        prefixes = [self._prefix(record) for record in records]
        return [
            Rows(
                self._model,
                prefixes[at : at + self._rows_most],
                width=self._width,
                pad=self._pad,
            )
            for at in range(0, len(prefixes), self._rows_most)
        ]

    def _public_rows(self, prompt: str) -> Rows:
        rows = self._publics.pop(prompt, None)
        if rows is None:
            # One row at least as wide as one token: a model is never fed nothing.
            rows = Rows(self._model, [self._start], width=len(self._start), pad=self._pad)
        self._publics[prompt] = rows
        if len(self._publics) > _PUBLIC_KEPT:
            self._publics.popitem(last=False)
        return rows

    def _prefix(self, record: str | None) -> list[int]:
        if record is None:
            return self._start
        ids = self._encoded(self._form.with_record(record))
        if len(ids) > self.record_tokens:
            end = self._encoded(self._form.after_record())[: self.record_tokens]
            ids = ids[: self.record_tokens - len(end)] + end
        return self._start + ids

    def _shared(self, prompt: str) -> list[int]:
        return self._encoded(self._form.with_prompt(prompt)) + self._tail

    def _encoded(self, text: str, *, is_plain: bool = True) -> list[int]:
        if not text:
            return []
        return list(
            self._tokenizer(text, add_special_tokens=False, split_special_tokens=is_plain)[
                "input_ids"
            ]
        )

    def _text(self, released: Sequence[int], new: Sequence[int]) -> str:
        """The new tokens as they read behind the released ones."""
        before = str(self._tokenizer.decode(list(released), skip_special_tokens=True))
        whole = str(self._tokenizer.decode([*released, *new], skip_special_tokens=True))
        if whole.startswith(before):
            return whole[len(before) :]
        return str(self._tokenizer.decode(list(new), skip_special_tokens=True))

    @torch.inference_mode()
    def _require_agreement(self) -> None:
        """Compare padded, cached and cut rows with plain passes, once: families differ in this."""
        token = 1 % self.vocabulary
        prefixes = [[token] * n for n in (1, 2)]
        rows = Rows(self._model, prefixes, width=3, pad=self._pad)
        rows.logits([token, token, token], 1)  # a draft that is left
        got = rows.logits([token, 0, token], 2)
        for row, prefix in zip(got, prefixes, strict=True):
            ids = torch.tensor([[*prefix, token, 0, token]], device=self._model.device)
            plain = self._model(input_ids=ids).logits[0, -2:].float()
            off = (row - plain).abs().max() / plain.abs().max().clamp(min=1.0)
            if not off <= AGREEMENT:
                raise InvalidParameter(
                    "model",
                    found=f"{self._model.config.model_type}: padded rows differ by {off:.2g}",
                    expected="a family whose logits do not depend on padding and cache",
                )


class HfContexts:
    """The slots of one session. Implements `backend.Contexts`."""

    def __init__(
        self,
        chunks: list[Rows],
        shared: list[int],
        vocabulary: int,
        turn: AbstractContextManager[bool],
    ) -> None:
        self._chunks, self._shared, self._vocabulary = chunks, shared, vocabulary
        self._turn = turn
        for rows in chunks:
            rows.logits(shared, 1)

    def score(
        self, released: Sequence[int], draft: Sequence[int], candidates: Sequence[Sequence[int]]
    ) -> list[FloatArray]:
        """Logits [B, K] of the candidates at each position of the draft and after it."""
        tokens = [*self._shared, *released, *draft]
        with self._turn:
            found = [rows.logits(tokens, len(draft) + 1) for rows in self._chunks]
        return [
            torch.cat([chunk[:, place, list(ids)] for chunk in found]).cpu().numpy()
            for place, ids in enumerate(candidates)
        ]

    def close(self) -> None:
        """Free the caches."""
        self._chunks = []


def _likeliest(rows: Rows, shared: list[int], options: Sequence[Sequence[int]]) -> IntArray:
    """For each row the option whose tokens are the likeliest behind what is shared."""
    scores = []
    for option in options:
        logits_BTV = rows.logits([*shared, *option[:-1]], len(option))
        ids_T = torch.tensor(list(option), device=logits_BTV.device)
        logs_BT = logits_BTV.log_softmax(dim=-1)[:, torch.arange(len(option)), ids_T]
        scores.append(logs_BT.sum(dim=1))
    whole = torch.stack(scores, dim=1).nan_to_num(nan=-torch.inf)
    chosen: IntArray = whole.argmax(dim=1).cpu().numpy()
    return chosen


def _end_tokens(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """The tokens that end an answer."""
    named = getattr(model.generation_config, "eos_token_id", None)
    named = tokenizer.eos_token_id if named is None else named
    if named is None:
        return ()
    return tuple(sorted({int(token) for token in (named if isinstance(named, list) else [named])}))
