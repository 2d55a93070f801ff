"""Does the model write out what it was trained on?

A training text is cut into a prefix, which the attacker has, and a suffix, which he wants. Whether
greedy decoding writes the suffix, and with what probability sampling does, follows exactly from one
reading of the text: nothing is generated and nothing is left to luck.

That a model completes a sentence shows no leak as long as a model that never saw it does so too.
So the rates come with their *excess*: over the base model on the same texts, and over texts that
nobody trained on. Outside every guarantee.

Sources: Carlini et al. 2021 (arXiv:2012.07805) and 2023 (arXiv:2202.07646) for discoverable
extraction; Hayes et al. 2024 (arXiv:2410.19482) for (n, p) extraction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from privacy_core.auditing import Interval, clopper_pearson, difference_of_shares
from privacy_finetuner.assessment.likelihoods import (
    Continuation,
    Progress,
    context_length,
    continuations,
    require_match,
)
from privacy_finetuner.errors import ConfigurationError, DatasetError
from privacy_finetuner.training.encoding import Encoder

__all__ = ["ExtractionResult", "Sampling", "extraction"]

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the attacker samples, and when a suffix counts as extracted.

    Args:
        attempts: n, numbers of samples that are asked about.
        probability: p: a suffix counts when n samples contain it with at least this probability.
        temperature: > 0.
        top_k: sample from the k likeliest tokens only; `None`: from all.
    """

    attempts: tuple[int, ...] = (1, 10, 100, 1000)
    probability: float = 0.5
    temperature: float = 1.0
    top_k: int | None = 40

    def __post_init__(self) -> None:
        if not self.attempts or min(self.attempts) < 1:
            raise ConfigurationError(f"attempts is {self.attempts}, expected numbers of at least 1")
        if not 0 < self.probability <= 1 or not 0 < self.temperature < math.inf:
            raise ConfigurationError(
                f"probability is {self.probability} and temperature {self.temperature}, expected "
                "0 < probability <= 1 and a finite temperature > 0"
            )
        if self.top_k is not None and self.top_k < 1:
            raise ConfigurationError(f"top_k is {self.top_k}, expected at least 1")

    def extracts(self, log_prob: float, attempts: int) -> bool:
        """Whether `attempts` samples contain the suffix with the asked probability.

        1 - (1 - q)^n >= p, in logarithms: a q of 1e-20 is not rounded away.
        """
        if log_prob == -math.inf:
            return False
        if log_prob >= 0:
            return True
        missing = attempts * math.log1p(-math.exp(log_prob))
        return -math.expm1(missing) >= self.probability


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractionResult:
    """How many suffixes come out, and how many more than without training on them.

    Attributes:
        rates: by attack (`greedy`, `n=10`, ...) the share of training suffixes that come out.
        over_base: the same minus the base model's rate on the same texts; empty without a base.
        over_unseen: the same minus the rate on unseen texts; empty without them.
        texts: training texts that were long enough.
        unseen: unseen texts that were long enough.
        too_short: texts left out for having too few tokens.
        prefix_tokens: what the attacker had.
        suffix_tokens: what was asked for.
        sampling: how it was sampled.
    """

    rates: Mapping[str, Interval]
    over_base: Mapping[str, Interval]
    over_unseen: Mapping[str, Interval]
    texts: int
    unseen: int
    too_short: int
    prefix_tokens: int
    suffix_tokens: int
    sampling: Sampling
    outside_guarantee: bool = field(default=True, init=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready data, without any text."""

        def plain(rates: Mapping[str, Interval]) -> dict[str, dict[str, float]]:
            return {
                k: {"estimate": v.estimate, "low": v.low, "high": v.high} for k, v in rates.items()
            }

        return {
            "outside_guarantee": True,
            "rates": plain(self.rates),
            "excess_over_base": plain(self.over_base),
            "excess_over_unseen": plain(self.over_unseen),
            "texts": self.texts,
            "unseen": self.unseen,
            "too_short": self.too_short,
            "prefix_tokens": self.prefix_tokens,
            "suffix_tokens": self.suffix_tokens,
            "probability": self.sampling.probability,
            "temperature": self.sampling.temperature,
            "top_k": self.sampling.top_k,
        }

    def __str__(self) -> str:
        lines = [
            f"extraction of {self.suffix_tokens} tokens after {self.prefix_tokens}, "
            f"{self.texts} training texts, outside the guarantee"
        ]
        for name, rate in self.rates.items():
            beside = [
                f"{label} {_signed(table[name])}"
                for label, table in (
                    ("over base", self.over_base),
                    ("over unseen", self.over_unseen),
                )
                if name in table
            ]
            lines.append("  ".join([f"  {name:<8} {rate}", *beside]))
        return "\n".join(lines)


def extraction(  # noqa: PLR0913 -- what an attacker may have, each by name
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    base: Any = None,
    unseen: Sequence[str] = (),
    prefix_tokens: int = 16,
    suffix_tokens: int = 16,
    sampling: Sampling | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> ExtractionResult:
    """Try to extract training suffixes, by greedy decoding and by sampling.

    Args:
        model: a causal language model, of Hugging Face or peft.
        tokenizer: its tokenizer, and the base model's.
        texts: training texts; those with fewer tokens than prefix and suffix are left out.
        base: the model before training. `None`: a model with adapters is its own base.
        unseen: texts of the same source that nobody trained on.
        prefix_tokens: tokens of each text that the attacker has, beside what the tokenizer puts
            before a text; at least 1.
        suffix_tokens: tokens that he wants; at least 1.
        sampling: how he samples; default `Sampling()`.
        seed: of the bootstrap.
        progress: called with what is being done, how many texts are done, and of how many.

    Raises:
        ModelLoadError: model and tokenizer do not belong together.
        DatasetError: fewer than two texts are long enough.
        ConfigurationError: a number is out of range, or both together exceed the model's context.
    """
    how = Sampling() if sampling is None else sampling
    limit = context_length(model)
    if (
        prefix_tokens < 1
        or suffix_tokens < 1
        or prefix_tokens + suffix_tokens > (limit or math.inf)
    ):
        raise ConfigurationError(
            f"prefix_tokens is {prefix_tokens} and suffix_tokens {suffix_tokens}, expected at "
            f"least 1 each and together at most the model's context of {limit}"
        )
    for candidate in (model, base):
        if candidate is not None:
            require_match(candidate, tokenizer)
    pairs = _pairs(tokenizer, texts, prefix_tokens, suffix_tokens)
    others = _pairs(tokenizer, unseen, prefix_tokens, suffix_tokens)
    if len(pairs) < 2 or (unseen and len(others) < 2):
        raise DatasetError(
            f"{len(pairs)} of {len(texts)} training texts and {len(others)} of {len(unseen)} "
            f"unseen ones have {prefix_tokens + suffix_tokens} tokens, expected at least 2; "
            "nothing was computed. Ask for shorter prefixes or suffixes"
        )

    def read(reader: Any, given: list[_Pair], stage: str) -> dict[str, Vector]:
        found = continuations(
            reader,
            given,
            Encoder(tokenizer).pad_id,
            temperature=how.temperature,
            top_k=how.top_k,
            stage=stage,
            progress=progress,
        )
        return _hits(found, how)

    hits = read(model, pairs, "the attacked model")
    base_hits: dict[str, Vector] = {}
    switched_off = base is None and hasattr(model, "disable_adapter")
    if base is not None or switched_off:
        with model.disable_adapter() if switched_off else nullcontext():
            base_hits = read(model if switched_off else base, pairs, "the base model")
    unseen_hits = read(model, others, "unseen texts") if others else {}
    return ExtractionResult(
        rates={name: clopper_pearson(int(row.sum()), len(row)) for name, row in hits.items()},
        over_base={
            name: difference_of_shares(hits[name], row, paired=True, seed=seed)
            for name, row in base_hits.items()
        },
        over_unseen={
            name: difference_of_shares(hits[name], row, paired=False, seed=seed)
            for name, row in unseen_hits.items()
        },
        texts=len(pairs),
        unseen=len(others),
        too_short=len(texts) - len(pairs),
        prefix_tokens=prefix_tokens,
        suffix_tokens=suffix_tokens,
        sampling=how,
    )


_Pair = tuple[list[int], list[int]]


def _pairs(tokenizer: Any, texts: Sequence[str], prefix: int, suffix: int) -> list[_Pair]:
    """Prefix and suffix of each text that has both, in tokens."""
    encoder = Encoder(tokenizer)
    before, _ = encoder.frame
    found = []
    for text in texts:
        ids = encoder.prompt(text)
        start = len(before) + prefix
        if len(ids) >= start + suffix:
            found.append((ids[:start], ids[start : start + suffix]))
    return found


def _hits(found: Sequence[Continuation], sampling: Sampling) -> dict[str, Vector]:
    hits = {"greedy": np.array([float(one.is_greedy) for one in found])}
    for attempts in sampling.attempts:
        hits[f"n={attempts}"] = np.array(
            [float(sampling.extracts(one.log_prob, attempts)) for one in found]
        )
    return hits


def _signed(interval: Interval) -> str:
    return f"{interval.estimate:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"
