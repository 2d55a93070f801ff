"""Prompts that leave rewritten: every token drawn anew under local differential privacy.

Off by default. What protects a prompt is its redaction; this adds a proof about the rest, whose
epsilon is printed in every answer and is large wherever the words can still be read. Tokens that
stand for redacted values stay; how many tokens a prompt has, and where those stand, is seen.

A request that is tried again under its id leaves in the same words, so that it costs no more.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer

from privacy_core.decoding.rewriting import Rewriting
from privacy_core.decoding.terms import CANDIDATES_MAX
from privacy_core.errors import InvalidParameter
from privacy_runtime.world import Entropy

_WEIGHTS, _WORDS = "model.safetensors", "tokenizer.json"
_EMBEDDINGS: Final = re.compile(r"(^|\.)(embed_tokens|wte|word_embeddings)\.weight$")
_PLACEHOLDER: Final = re.compile(r"(\[[A-Z][A-Z_]*_[0-9A-Z]+\])")
_KEY_BYTES: Final = 32
_CUT: Final = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A prompt as it leaves.

    Attributes:
        text: of drawn tokens.
        tokens: how many were drawn.
        epsilon_per_token: of each.
        epsilon: of the whole prompt: their sum.
    """

    text: str = field(repr=False)
    tokens: int
    epsilon_per_token: float
    epsilon: float


class PromptRewriter:
    """Rewrites prompts with the public words and embeddings of a model.

    Args:
        model: folder with `tokenizer.json` and `model.safetensors`.
        epsilon_per_token: see `Rewriting`.
        entropy: makes the key of this process, from which each request's draws follow.

    Raises:
        InvalidParameter: the folder has no such files, or no embeddings in float32 or float16.
    """

    def __init__(self, model: Path, *, epsilon_per_token: float, entropy: Entropy) -> None:
        if not (model / _WORDS).is_file() or not (model / _WEIGHTS).is_file():
            raise InvalidParameter(
                "federation.rewrite_model", found=str(model), expected=f"{_WORDS} and {_WEIGHTS}"
            )
        self._words = Tokenizer.from_file(str(model / _WORDS))
        rows = _embeddings(model / _WEIGHTS)
        shown = range(min(len(rows), self._words.get_vocab_size()))
        public = [token for token in shown if _is_word(self._words.decode([token]).strip())]
        self.rewriting = Rewriting(
            rows, public[:CANDIDATES_MAX], epsilon_per_token=epsilon_per_token
        )
        self._key = entropy.token_bytes(_KEY_BYTES)

    def rewritten(self, prompt: str, request: str) -> Rewritten:
        """The prompt of a request as it leaves: the same for the same request and prompt."""
        stream = _Stream(self._key, f"{request}\0{prompt}".encode())
        pieces, count = [], 0
        for place, part in enumerate(_PLACEHOLDER.split(prompt)):
            if place % 2:
                pieces.append(part)
                continue
            tokens = self._words.encode(part, add_special_tokens=False).ids
            drawn = [self.rewriting.draw(token, stream) for token in tokens]
            count += len(drawn)
            pieces.append(str(self._words.decode(drawn)))
        text = " ".join(piece.strip() for piece in pieces if piece.strip())
        each = self.rewriting.epsilon_per_token
        return Rewritten(text, count, each, self.rewriting.epsilon(count))


class _Stream:
    """Bytes that nobody without the key can tell from chance: BLAKE2b of a name and a counter."""

    def __init__(self, key: bytes, name: bytes) -> None:
        self._key = hashlib.blake2b(name, key=key, digest_size=_KEY_BYTES).digest()
        self._count = 0

    def token_bytes(self, size: int) -> bytes:
        """The next bytes."""
        found = b""
        while len(found) < size:
            number = self._count.to_bytes(8, "big")
            found += hashlib.blake2b(number, key=self._key).digest()
            self._count += 1
        return found[:size]


def _is_word(text: str) -> bool:
    """Whether a token can stand in a text by itself: not half a character, not a blank."""
    return bool(text) and text.isprintable() and _CUT not in text


def _embeddings(file: Path) -> Any:
    """The rows of a model's words."""
    try:
        with safe_open(file, framework="numpy") as weights:
            names = [name for name in weights.keys() if _EMBEDDINGS.search(name)]  # noqa: SIM118  no mapping
            return weights.get_tensor(names[0])
    except (SafetensorError, IndexError, TypeError, ValueError) as error:
        raise InvalidParameter(
            "federation.rewrite_model",
            found=type(error).__name__,
            expected="embeddings of words in float32 or float16; nothing was started",
        ) from error
