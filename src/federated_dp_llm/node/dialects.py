"""How inference servers are asked for log-probabilities, and how their answers are read.

============  ==================================  ==========================================
dialect       asked at                            gives
============  ==================================  ==========================================
`openai`      `/v1/completions`, `logprobs`       the likeliest tokens, as texts: those whose
                                                  text is one token's alone are known
`vllm`        the same, `logprob_token_ids`       the tokens that were named, by id; drafts:
                                                  the likeliest, by id
`sglang`      `/generate`, `token_ids_logprob`    likewise
============  ==================================  ==========================================

Reading is total: whatever a server says becomes a mapping of token ids to numbers from -1e6 to 0,
or None. What a record made it say ends in that record's own slot.

Source: vLLM's and SGLang's servers of 2026; the completions API of OpenAI.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

Dialect = str
DIALECTS: Final = ("openai", "vllm", "sglang")
TOP: Final = 20
"""Likeliest tokens that are asked for: what common servers give at most."""
NAMED_MAX: Final = 128
"""Tokens that may be named to a vLLM server in one request."""
_LEAST: Final = -1e6
"""No float32 overflows at it: a warning about one slot would tell of its record."""
_BY_ID: Final = "token_id:"
Known = Mapping[int, float]


def path_of(dialect: Dialect) -> str:
    """Where a server is asked."""
    return "/generate" if dialect == "sglang" else "/v1/completions"


def question(
    dialect: Dialect, *, model: str, tokens: Sequence[int], named: Sequence[int] | None
) -> dict[str, Any]:
    """Ask for the next token after `tokens`; `named`: whose log-probabilities are wanted besides.

    Args:
        dialect: one of `DIALECTS`.
        model: the server's name of it.
        tokens: ids.
        named: None: the likeliest.
    """
    if dialect == "sglang":
        body: dict[str, Any] = {
            "input_ids": list(tokens),
            "sampling_params": {"max_new_tokens": 1, "temperature": 1.0},
            "return_logprob": True,
            "top_logprobs_num": TOP,
        }
        return body if named is None else {**body, "token_ids_logprob": list(named)}
    body = {
        "model": model,
        "prompt": list(tokens),
        "max_tokens": 1,
        "temperature": 1.0,
        "logprobs": TOP,
    }
    if dialect == "vllm":
        body["return_tokens_as_token_ids"] = True
        if named is not None:
            body["logprob_token_ids"] = list(named)
    return body


def read(
    dialect: Dialect, answer: object, *, is_named: bool, id_of: Callable[[str], int | None]
) -> Known | None:
    """Log-probabilities by token id; None: the answer is none.

    Args:
        dialect: one of `DIALECTS`.
        answer: decoded JSON of anything.
        is_named: whether tokens were named.
        id_of: the token that a text is, if it is one alone.
    """
    try:
        found = _generated(answer, is_named) if dialect == "sglang" else _completed(answer, id_of)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError):
        return None
    known = {token: value for token, value in found.items() if math.isfinite(value)}
    return {token: min(max(value, _LEAST), 0.0) for token, value in known.items()} or None


def _completed(answer: Any, id_of: Callable[[str], int | None]) -> dict[int, float]:
    top = answer["choices"][0]["logprobs"]["top_logprobs"][0]
    found: dict[int, float] = {}
    for text, value in top.items():
        token = int(text[len(_BY_ID) :]) if text.startswith(_BY_ID) else id_of(text)
        if token is not None:
            found[token] = float(value)
    return found


def _generated(answer: Any, is_named: bool) -> dict[int, float]:
    meta = answer["meta_info"]
    rows = meta["output_token_ids_logprobs" if is_named else "output_top_logprobs"][0]
    return {int(row[1]): float(row[0]) for row in rows}
