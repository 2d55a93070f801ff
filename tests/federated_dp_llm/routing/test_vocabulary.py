"""From released tokens to text, piece by piece."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from federated_dp_llm.routing.vocabulary import Writing, open_vocabulary
from privacy_core.errors import InvalidParameter


class Bytes:
    """One token a byte."""

    digest = ""

    def text(self, tokens: Sequence[int]) -> str:
        return bytes(tokens).decode(errors="replace")

    def count(self, text: str) -> int:
        return len(text.encode())


def test_a_character_is_shown_when_its_last_byte_is_there() -> None:
    whole = "fièvre 39 °C".encode()
    writing = Writing(Bytes())
    pieces = [writing.more(whole[: place + 1]) for place in range(len(whole))]
    shown = [piece for piece in pieces if piece is not None]

    assert "".join(piece.text for piece in shown) == whole.decode()
    assert sum(piece.tokens for piece in shown) == len(whole)
    assert not any("\N{REPLACEMENT CHARACTER}" in piece.text for piece in shown)
    assert writing.rest(whole.decode(), len(whole)) is None


def test_what_stays_broken_comes_with_the_rest() -> None:
    writing = Writing(Bytes())
    writing.more(b"ab\xc3")
    rest = writing.rest("ab\N{REPLACEMENT CHARACTER}", 3)

    assert rest is not None
    assert (rest.text, rest.tokens) == ("\N{REPLACEMENT CHARACTER}", 0)


def test_a_models_folder_gives_its_tokenizer_and_the_digest_of_its_file(
    tmp_path: Path, byte_tokenizer: Any
) -> None:
    byte_tokenizer.save_pretrained(tmp_path)
    vocabulary = open_vocabulary(tmp_path)
    ids = byte_tokenizer("cough").input_ids

    assert vocabulary.text(ids) == byte_tokenizer.decode(ids, skip_special_tokens=True)
    assert vocabulary.count("cough") == len(ids)
    content = (tmp_path / "tokenizer.json").read_bytes()
    assert vocabulary.digest == hashlib.sha256(content).hexdigest()
    with pytest.raises(InvalidParameter, match="tokenizer"):
        open_vocabulary(tmp_path / "nowhere")
