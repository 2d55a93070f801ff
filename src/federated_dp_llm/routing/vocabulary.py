"""From released tokens to text, at the router: the tokenizer's file, without the model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from tokenizers import Tokenizer

from federated_dp_llm.core.query import Piece
from privacy_core.errors import InvalidParameter

_FILE: Final = "tokenizer.json"
_CUT: Final = "\N{REPLACEMENT CHARACTER}"


class Vocabulary(Protocol):
    """Turns tokens into text."""

    @property
    def digest(self) -> str:
        """SHA-256 of the tokenizer, as nodes' cards name it; empty: not known, not compared."""
        ...

    def text(self, tokens: Sequence[int]) -> str:
        """The text of these tokens; special ones have none."""
        ...

    def count(self, text: str) -> int:
        """How many tokens a text has."""
        ...


class TokenizerFile:
    """The vocabulary of a `tokenizer.json`."""

    def __init__(self, path: Path) -> None:
        content = path.read_bytes()
        self._tokenizer = Tokenizer.from_buffer(content)
        self.digest = hashlib.sha256(content).hexdigest()

    def text(self, tokens: Sequence[int]) -> str:
        """The text of these tokens; special ones have none."""
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=True))

    def count(self, text: str) -> int:
        """How many tokens a text has."""
        return len(self._tokenizer.encode(text).ids)


class Writing:
    """The text of an answer while it grows.

    A character whose bytes are spread over tokens is shown when its last token is there.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._shown = ""
        self._tokens = 0

    def more(self, tokens: Sequence[int]) -> Piece | None:
        """What of the text of all tokens so far was not shown yet."""
        return self._piece(self._vocabulary.text(tokens).rstrip(_CUT), len(tokens))

    def rest(self, whole: str, tokens: int) -> Piece | None:
        """What of the whole text was not shown yet."""
        return self._piece(whole, tokens)

    def _piece(self, ready: str, tokens: int) -> Piece | None:
        if len(ready) <= len(self._shown) or not ready.startswith(self._shown):
            return None  # a tokenizer may rewrite what stands; the whole answer has it right
        piece = Piece(ready[len(self._shown) :], tokens - self._tokens)
        self._shown, self._tokens = ready, tokens
        return piece


def open_vocabulary(path: Path | str) -> TokenizerFile:
    """The vocabulary of a model's folder, or of its `tokenizer.json`.

    Raises:
        InvalidParameter: there is none.
    """
    path = Path(path)
    file = path / _FILE if path.is_dir() else path
    if not file.is_file():
        raise InvalidParameter("tokenizer", found=str(path), expected=f"a {_FILE}")
    return TokenizerFile(file)
