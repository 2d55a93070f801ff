"""From one record to its tokens and which of them are learned.

Every record becomes segments of text, each learned or not. The segments are encoded joined, as
the tokenizer would meet them in running text, provided that each segment boundary falls between
two tokens; where one would swallow a boundary, the segments are encoded one by one. So what comes
before a learned segment is always encoded exactly as a prompt is at generation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, TypeAlias

from jinja2 import TemplateError

from privacy_finetuner.errors import DatasetError, ModelLoadError
from privacy_finetuner.training.records import RecordKind

__all__ = ["Encoder"]

Segment: TypeAlias = tuple[str, bool]  # a text, and whether it is learned
Encoded: TypeAlias = tuple[list[int], list[bool]]  # tokens, and which of them are learned

_CHUNK = 1024  # texts a call of the tokenizer


class Encoder:
    """Encodes records with one tokenizer; `frame` tells what the tokenizer puts around a text."""

    def __init__(self, tokenizer: Any, *, classification: bool = False) -> None:
        self._tokenizer = tokenizer
        self._classification = classification
        self._before, self._after = self._frame()
        self._end = [] if classification else [self._eos()]
        pad = tokenizer.pad_token_id
        if pad is None:
            pad = tokenizer.eos_token_id
        if pad is None:
            raise ModelLoadError(
                "the tokenizer has neither a pad nor an end-of-text token; set "
                "tokenizer.pad_token to one of its tokens"
            )
        self.pad_id = int(pad)

    def encode(self, rows: Sequence[Mapping[str, object]], kind: RecordKind) -> list[Encoded]:
        """Tokens and learned positions of each record, not yet cut.

        Raises:
            DatasetError: the chat template refuses a conversation or hides its turns.
        """
        if kind == "chat" and self._tokenizer.chat_template is not None:
            if "{% generation" in self._template() or "{%- generation" in self._template():
                return [self._masked_by_template(_turns(row), k) for k, row in enumerate(rows, 1)]
            segments = [self._rendered(_turns(row), k) for k, row in enumerate(rows, 1)]
            return self._join(segments)
        segments = [_segments(row, kind) for row in rows]
        framed = []
        for ids, learned in self._join(segments):
            after = self._after if self._classification else self._end
            is_last_learned = learned[-1] if learned else not self._classification
            marks = [False] * len(self._before) + learned + [is_last_learned] * len(after)
            # A tokenizer may know none of a text's characters; a model needs one token at least.
            framed.append(([*self._before, *ids, *after] or [self.pad_id], marks or [False]))
        return framed

    @property
    def frame(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What stands before and after a text in training, the end of text aside."""
        return tuple(self._before), tuple(self._after)

    def prompt(self, text: str) -> list[int]:
        """A prompt as it is before a completion in training: its end is open."""
        return [*self._before, *self._ids([text])[0]]

    def cut(self, ids: list[int], learned: list[bool], max_length: int) -> Encoded:
        """The first `max_length` tokens; a classification keeps the frame at its end."""
        if len(ids) <= max_length:
            return ids, learned
        kept = max_length - len(self._after) if self._classification else max_length
        if self._classification and kept > 0:
            return [*ids[:kept], *self._after], learned[:max_length]
        return ids[:max_length], learned[:max_length]

    def _frame(self) -> tuple[list[int], list[int]]:
        """What the tokenizer puts before and after a text, found by asking it."""
        probe = "a"
        framed = list(self._tokenizer(probe, verbose=False)["input_ids"])
        bare = self._ids([probe])[0]
        for start in range(len(framed) - len(bare) + 1):
            if bare and framed[start : start + len(bare)] == bare:
                return framed[:start], framed[start + len(bare) :]
        raise ModelLoadError("the tokenizer's special tokens cannot be told apart from the text")

    def _eos(self) -> int:
        eos = self._tokenizer.eos_token_id
        if eos is None:
            raise ModelLoadError(
                "the tokenizer has no end-of-text token, so a model could not learn to stop; set "
                "tokenizer.eos_token to one of its tokens"
            )
        return int(eos)

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of each text without special tokens added."""
        ids: list[list[int]] = []
        for start in range(0, len(texts), _CHUNK):
            chunk = list(texts[start : start + _CHUNK])
            ids += self._tokenizer(chunk, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    def _join(self, records: Sequence[Sequence[Segment]]) -> list[Encoded]:
        """Encode each record's segments joined, or apart where a token crosses a boundary."""
        prefixes = [list(accumulate(text for text, _ in segments)) for segments in records]
        ids = iter(self._ids([prefix for record in prefixes for prefix in record]))
        joined = []
        for segments in records:
            steps = [next(ids) for _ in segments]
            whole = steps[-1]
            if all(whole[: len(step)] == step for step in steps):
                lengths = [len(step) for step in steps]
            else:
                parts = self._ids([text for text, _ in segments])
                whole = [token for part in parts for token in part]
                lengths = list(accumulate(len(part) for part in parts))
            learned: list[bool] = []
            for length, (_, is_learned) in zip(lengths, segments, strict=True):
                learned += [is_learned] * (length - len(learned))
            joined.append((whole, learned))
        return joined

    def _template(self) -> str:
        return str(self._tokenizer.get_chat_template())

    def _render(
        self, turns: Sequence[Mapping[str, str]], number: int, *, reply_follows: bool = False
    ) -> str:
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    list(turns), tokenize=False, add_generation_prompt=reply_follows
                )
            )
        except (TemplateError, ValueError, IndexError, KeyError, TypeError) as error:
            reason = type(error).__name__  # a template may quote the conversation in its error
        raise DatasetError(f"the chat template refuses conversation {number} ({reason})")

    def _rendered(self, turns: Sequence[Mapping[str, str]], number: int) -> list[Segment]:
        """The rendered conversation, cut where the assistant's turns begin and end."""
        whole = self._render(turns, number)
        segments: list[Segment] = []
        done = ""
        for k, turn in enumerate(turns):
            if turn["role"] != "assistant":
                continue
            before = self._render(turns[:k], number, reply_follows=True) if k else ""
            after = self._render(turns[: k + 1], number)
            nested = before.startswith(done) and after.startswith(before)
            if not nested or not whole.startswith(after):
                raise DatasetError(
                    f"the chat template does not show where the assistant speaks in conversation "
                    f"{number}; mark it with {{% generation %}}, or give prompt and completion"
                )
            segments += [(before[len(done) :], False), (after[len(before) :], True)]
            done = after
        segments.append((whole[len(done) :], False))
        return [segment for segment in segments if segment[0]]

    def _masked_by_template(self, turns: Sequence[Mapping[str, str]], number: int) -> Encoded:
        """Tokens and mask from a template that marks the assistant's words itself."""
        try:
            out = self._tokenizer.apply_chat_template(
                list(turns), tokenize=True, return_dict=True, return_assistant_tokens_mask=True
            )
        except (TemplateError, ValueError, IndexError, KeyError, TypeError) as error:
            reason = type(error).__name__
        else:
            return list(out["input_ids"]), [bool(mark) for mark in out["assistant_masks"]]
        raise DatasetError(f"the chat template refuses conversation {number} ({reason})")


def _turns(row: Mapping[str, object]) -> Sequence[Mapping[str, str]]:
    turns = row["messages"]
    if not isinstance(turns, list):
        raise DatasetError(f"messages is {type(turns).__name__}, expected a list")
    return turns


def _segments(row: Mapping[str, object], kind: RecordKind) -> list[Segment]:
    """The segments of a record that needs no chat template."""
    if kind == "completion":
        segments = [(str(row["prompt"]), False), (str(row["completion"]), True)]
        return [segment for segment in segments if segment[0]]
    if kind == "chat":
        return [
            segment
            for turn in _turns(row)
            for segment in (
                (f"{turn['role']}: ", False),
                (f"{turn['content']}\n", turn["role"] == "assistant"),
            )
        ]
    return [(str(row["text"]), True)]
