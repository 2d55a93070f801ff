"""A model behind an inference server of the institution's own as a node's backend.

The node keeps what carries the promise: which record has which slot, the clipping of every slot's
difference, the ledger. A server's answer for a slot, whatever it is, moves a sum by at most the
clip: an error, a wrong form, numbers that are none, or nothing in time make that slot an empty one.

**What is believed of the server:** it answers each request from that request alone. One that mixes
requests (a bug, an adaptive system prompt, rounding that depends on who else is in a batch) could
let one record move several slots, and no clip at the node sees that. So slots are asked one after
another unless `parallel` says otherwise, which is for servers that promise results that do not
depend on the batch (vLLM: `VLLM_BATCH_INVARIANT=1`).

Every slot has the same number of tokens, filled up where a record is shorter, so a server takes the
same time for each, but for what its caches remember.

Log-probabilities stand for logits; they differ by a constant of the position, which clipping sees.
So these nodes make a federation of their own: their digest is another one than that of a node that
computes logits itself, and names the served model, which a node cannot check. Where a server gives
its likeliest tokens only (`openai`), at most those are candidates, and a candidate that a record
made unlikely counts as the least likely one that was returned.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Self

import httpx2
import numpy as np

from federated_dp_llm.node.backend import UNKNOWN, Continuation, FloatArray, IntArray
from federated_dp_llm.node.dialects import (
    DIALECTS,
    NAMED_MAX,
    TOP,
    Dialect,
    Known,
    path_of,
    question,
    read,
)
from federated_dp_llm.node.prompts import PromptForm
from federated_dp_llm.node.refusals import Refused
from federated_dp_llm.node.weights import tokenizer_digest
from privacy_core.errors import InvalidParameter
from privacy_runtime.files import reason_of
from privacy_runtime.secret import Secret

ANSWER_MAX: Final = 1 << 20
_FILLER: Final = "\n"


class ServedModel:
    """A causal language model behind HTTP. Implements `backend.Backend`.

    Args:
        url: of the server, without `/v1`.
        name: of the model there.
        tokenizer: of the served model, as `transformers` reads it.
        form: of prompts.
        tokenizer_sha256: its digest.
        context_length: positions that the server takes.
        end_tokens: that end an answer.
        dialect: one of `dialects.DIALECTS`.
        record_tokens: the width of a record; None: half of the context.
        key: sent as a bearer token.
        limit_s: for one request; later, the slot is empty at that position.
        parallel: slots that are asked at once; see the module before it is more than 1.
        client: None: the network, no proxy of the environment.

    Raises:
        InvalidParameter: no such dialect, or no room for a record.
    """

    modes: tuple[str, ...] = ("logits", "votes", "public")

    def __init__(  # noqa: PLR0913 -- a server has this many sides
        self,
        url: str,
        name: str,
        tokenizer: Any,
        form: PromptForm,
        *,
        tokenizer_sha256: str,
        context_length: int,
        end_tokens: tuple[int, ...],
        dialect: Dialect = "openai",
        record_tokens: int | None = None,
        key: Secret | None = None,
        limit_s: float = 30.0,
        parallel: int = 1,
        client: httpx2.Client | None = None,
    ) -> None:
        if dialect not in DIALECTS:
            raise InvalidParameter("dialect", found=dialect, expected=f"one of {DIALECTS}")
        if not url.startswith(("http://", "https://")):
            raise InvalidParameter("backend", found=f"{len(url)} characters", expected="http(s)://")
        self._name, self._dialect, self._tokenizer, self._form = name, dialect, tokenizer, form
        self.tokenizer = tokenizer_sha256
        self.vocabulary, self.context_length = len(tokenizer), context_length
        self.end_tokens = end_tokens
        self.candidates_most = TOP if dialect == "openai" else NAMED_MAX
        self.record_tokens = context_length // 2 if record_tokens is None else record_tokens
        said = {"served": name, "dialect": dialect == "openai", "form": repr(form)}
        said["tokenizer"] = tokenizer_sha256
        self.weights = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
        self._start = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
        self._start += self._encoded(form.head, is_plain=False)
        self._tail = self._encoded(form.tail, is_plain=False)
        self._filler = (self._encoded(_FILLER) or [1 % self.vocabulary])[0]
        least = len(self._shared("")) + 1 + len(self._start)
        if not 0 < self.record_tokens <= context_length - least:
            raise InvalidParameter(
                "record_tokens", found=self.record_tokens, expected=f"1 to {context_length - least}"
            )
        headers = {} if key is None else {"authorization": f"Bearer {key.reveal()}"}
        self._client = client or httpx2.Client(trust_env=False, follow_redirects=False)
        self._url, self._headers = url.rstrip("/") + path_of(dialect), headers
        self._limit_s = limit_s
        self._pool = ThreadPoolExecutor(max_workers=parallel, thread_name_prefix="slots")
        self._ids: Mapping[str, int] | None = None

    @classmethod
    def load(cls, url: str, name: str, folder: Path | str, **options: Any) -> Self:
        """Read the tokenizer and the context length of the served model from a folder.

        Args:
            url: of the server.
            name: of the model there.
            folder: with config.json and tokenizer.json; its weights are not looked at.
            options: see the class; `form` too.

        Raises:
            InvalidParameter: the folder holds no such files, or see the class.
        """
        from transformers import AutoTokenizer  # noqa: PLC0415

        path = Path(folder)
        try:
            config = json.loads((path / "config.json").read_bytes())
            tokenizer = AutoTokenizer.from_pretrained(
                path, local_files_only=True, trust_remote_code=False, use_fast=True
            )
            digest = tokenizer_digest(path)
        except (OSError, ValueError) as error:
            raise InvalidParameter(
                "model",
                found=reason_of(error) if isinstance(error, OSError) else type(error).__name__,
                expected="a folder with config.json and tokenizer.json",
            ) from None
        length = config.get("max_position_embeddings")
        if not isinstance(length, int) or length < 8:
            raise InvalidParameter("model", found="no context length", expected="a bounded context")
        ends = config.get("eos_token_id", tokenizer.eos_token_id)
        ends = [] if ends is None else ends if isinstance(ends, list) else [ends]
        form = options.pop("form", None) or PromptForm()
        return cls(
            url,
            name,
            tokenizer,
            form,
            tokenizer_sha256=digest,
            context_length=length,
            end_tokens=tuple(sorted({int(one) for one in ends})),
            **options,
        )

    def room(self, prompt: str) -> int:
        """How many tokens may follow the prompt beside the longest record; may be negative."""
        return (
            self.context_length - len(self._start) - self.record_tokens - len(self._shared(prompt))
        )

    def contexts(self, prompt: str, records: Sequence[str | None]) -> ServedContexts:
        """Make B slots ready. Nothing is sent yet."""
        return ServedContexts(
            self, [self.slot(record) + self._shared(prompt) for record in records]
        )

    def continuation(self, prompt: str, released: Sequence[int], draft: int) -> Continuation:
        """Continue without a record, greedily, up to `draft` tokens or an end token.

        Raises:
            Refused: prompt_too_long; unavailable: the server does not answer, to a question that
                no record is in.
        """
        shared = [*self._start, *self._shared(prompt), *released]
        if len(shared) + draft > self.context_length:
            raise Refused("prompt_too_long", f"the context holds {self.context_length} tokens")
        tokens: list[int] = []
        rows = [self._likeliest(shared)]
        while len(tokens) < draft and (not tokens or tokens[-1] not in self.end_tokens):
            tokens.append(int(rows[-1].argmax()))
            rows.append(self._likeliest([*shared, *tokens]))
        text = str(self._tokenizer.decode(tokens, skip_special_tokens=True))
        return Continuation(tuple(tokens), np.stack(rows), text)

    def choices(
        self, question_: str, records: Sequence[str | None], options: Sequence[str]
    ) -> IntArray:
        """The option [B] of the largest log-probability; the first, where a slot knows none.

        Raises:
            Refused: prompt_too_long.
        """
        shared = self._shared(question_)
        encoded = [self._encoded(self._form.option + option) for option in options]
        longest = max(map(len, encoded))
        if not all(encoded) or self.room(question_) < longest:
            raise Refused("prompt_too_long", "question and options leave no room in the context")
        contexts = [self.slot(record) + shared for record in records]
        scores = np.zeros((len(records), len(options)))
        for column, option in enumerate(encoded):
            for place, token in enumerate(option):
                told = [[*context, *option[:place]] for context in contexts]
                scores[:, column] += self.rows(told, [token])[:, 0]
        chosen: IntArray = np.nan_to_num(scores, nan=-np.inf).argmax(axis=1).astype(np.int64)
        return chosen

    def slot(self, record: str | None) -> list[int]:
        """What stands before the shared part of a slot; always of one length."""
        ids: list[int] = []
        if record is not None:
            ids = self._encoded(self._form.with_record(record))
            if len(ids) > self.record_tokens:
                end = self._encoded(self._form.after_record())[: self.record_tokens]
                ids = ids[: self.record_tokens - len(end)] + end
        return [*self._start, *[self._filler] * (self.record_tokens - len(ids)), *ids]

    def rows(self, told: Sequence[Sequence[int]], candidates: Sequence[int]) -> FloatArray:
        """Log-probabilities [B, K] of candidates after each context; NaN where nothing is known."""
        named = list(candidates)
        found = list(self._pool.map(lambda tokens: self._asked(tokens, named), told))
        rows = [_row(known, named) for known in found]
        return np.array(rows, dtype=np.float32).reshape(len(told), len(named))

    def _likeliest(self, tokens: Sequence[int]) -> FloatArray:
        known = self._asked(tokens, None)
        if known is None:
            raise Refused("unavailable", "the model's server does not answer")
        row = np.full(self.vocabulary, UNKNOWN, dtype=np.float32)
        for token, value in known.items():
            if 0 <= token < self.vocabulary:
                row[token] = value
        if (row == UNKNOWN).all():
            raise Refused("unavailable", "the model's server names tokens of another vocabulary")
        return row

    def _asked(self, tokens: Sequence[int], named: Sequence[int] | None) -> Known | None:
        """One answer as numbers; None for everything else. Raises nothing: that would tell."""
        body = question(self._dialect, model=self._name, tokens=tokens, named=named)
        try:
            with self._client.stream(
                "POST", self._url, json=body, headers=self._headers, timeout=self._limit_s
            ) as answer:
                content = bytearray()
                for part in answer.iter_bytes():
                    content += part
                    if len(content) > ANSWER_MAX:
                        return None
                status = answer.status_code
            document = json.loads(content) if status == 200 else None
        except (httpx2.HTTPError, OSError, ValueError, RecursionError):
            return None
        return read(self._dialect, document, is_named=named is not None, id_of=self._id_of)

    def _id_of(self, text: str) -> int | None:
        if self._ids is None:
            self._ids = _single_tokens(self._tokenizer, self.vocabulary)
        return self._ids.get(text)

    def _shared(self, prompt: str) -> list[int]:
        return self._encoded(self._form.with_prompt(prompt)) + self._tail

    def _encoded(self, text: str, *, is_plain: bool = True) -> list[int]:
        if not text:
            return []
        ids = self._tokenizer(text, add_special_tokens=False, split_special_tokens=is_plain)
        return list(ids["input_ids"])


class ServedContexts:
    """The slots of one session. Implements `backend.Contexts`."""

    def __init__(self, model: ServedModel, slots: Sequence[list[int]]) -> None:
        self._model, self._slots = model, list(slots)

    def score(
        self, released: Sequence[int], draft: Sequence[int], candidates: Sequence[Sequence[int]]
    ) -> list[FloatArray]:
        """Log-probabilities [B, K] of the candidates; NaN where a slot's answer was none."""
        return [
            self._model.rows(
                [[*slot, *released, *draft[:place]] for slot in self._slots], list(ids)
            )
            for place, ids in enumerate(candidates)
        ]

    def close(self) -> None:
        """Forget the records."""
        self._slots = []


def _row(known: Known | None, named: Sequence[int]) -> list[float]:
    """A slot's numbers: what is not known counts as the least that is."""
    if known is None:
        return [math.nan] * len(named)
    least = min(known.values())
    return [known.get(token, least) for token in named]


def _single_tokens(tokenizer: Any, vocabulary: int) -> dict[str, int]:
    """Texts that one token alone stands for."""
    found: dict[str, int] = {}
    twice: set[str] = set()
    for token in range(vocabulary):
        text = str(tokenizer.decode([token]))
        if text in found:
            twice.add(text)
        found[text] = token
    return {text: token for text, token in found.items() if text not in twice}
