"""Text from a model: greedy by default, sampled from a seed when a temperature is given.

This is plain generation. Its output is as private as the model is; it adds nothing to a guarantee
and takes nothing from it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.training.encoding import Encoder
from privacy_finetuner.training.models import LoadedModel

__all__ = ["generate"]

_BATCH = 16


def generate(
    loaded: LoadedModel,
    prompts: str | Sequence[str],
    *,
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int | None = None,
) -> list[str]:
    """Continue each prompt; returns only what is new, in the order of the prompts.

    A prompt is encoded as it is before a completion in training. The model's mode (train or eval)
    is as before afterwards.

    Args:
        loaded: a `causal_lm` model.
        prompts: one prompt or several.
        max_new_tokens: at most this many tokens each; at least 1.
        temperature: 0 takes the likeliest token; above 0 samples.
        top_p: sample among the likeliest tokens of this total probability; 0 < top_p <= 1.
        seed: where the sampling starts; needed when `temperature` is above 0.

    Raises:
        ConfigurationError: a number is out of range, `temperature` without `seed`, a prompt that
            leaves no room in the model's context, or a model that does not generate.
    """
    _check(loaded, max_new_tokens, temperature, top_p, seed)
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    encoder = Encoder(loaded.tokenizer)
    ids = [encoder.prompt(text) or [encoder.pad_id] for text in texts]
    limit = loaded.context_length
    longest = max((len(prompt) for prompt in ids), default=0)
    if limit is not None and longest + max_new_tokens > limit:
        raise ConfigurationError(
            f"a prompt has {longest} tokens; with max_new_tokens {max_new_tokens} it exceeds the "
            f"model's context of {limit}"
        )
    processors = LogitsProcessorList()
    if temperature > 0 and seed is not None:
        processors.append(TemperatureLogitsWarper(temperature))
        if top_p < 1:
            processors.append(TopPLogitsWarper(top_p))
        processors.append(_GumbelSampler(seed, loaded.device))
    was_training = loaded.model.training
    loaded.model.eval()
    try:
        return [
            text
            for start in range(0, len(ids), _BATCH)
            for text in _continue(
                loaded, ids[start : start + _BATCH], encoder.pad_id, max_new_tokens, processors
            )
        ]
    finally:
        loaded.model.train(was_training)


class _GumbelSampler(LogitsProcessor):  # type: ignore[misc]  # transformers is not typed here
    """Adds Gumbel noise, so that the likeliest token is a sample of the distribution.

    Hugging Face samples from torch's global generator; this draws from its own.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._generator = torch.Generator(device=device).manual_seed(seed)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        wait = torch.empty_like(scores, dtype=torch.float32)
        return scores.float() - wait.exponential_(generator=self._generator).log()


def _check(
    loaded: LoadedModel, max_new_tokens: int, temperature: float, top_p: float, seed: int | None
) -> None:
    if loaded.task != "causal_lm":
        raise ConfigurationError(f"a {loaded.task} model does not generate text")
    if max_new_tokens < 1:
        raise ConfigurationError(f"max_new_tokens is {max_new_tokens}, expected at least 1")
    if not 0 <= temperature < float("inf"):
        raise ConfigurationError(f"temperature is {temperature}, expected 0 or more")
    if not 0 < top_p <= 1:
        raise ConfigurationError(f"top_p is {top_p}, expected 0 < top_p <= 1")
    if temperature > 0 and seed is None:
        raise ConfigurationError("sampling at a temperature above 0 needs a seed")


def _continue(
    loaded: LoadedModel,
    prompts: Sequence[list[int]],
    pad_id: int,
    max_new_tokens: int,
    processors: LogitsProcessorList,
) -> list[str]:
    """Generate for one batch, padded on the left so that new tokens follow their prompt."""
    width = max(len(prompt) for prompt in prompts)
    ids_BT = torch.tensor([[pad_id] * (width - len(p)) + p for p in prompts])
    mask_BT = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    eos = getattr(loaded.model.generation_config, "eos_token_id", None)
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=pad_id,
        eos_token_id=loaded.tokenizer.eos_token_id if eos is None else eos,
    )
    out_BT = loaded.model.generate(
        input_ids=ids_BT.to(loaded.device),
        attention_mask=mask_BT.to(loaded.device),
        generation_config=config,
        logits_processor=processors,
    )
    news = out_BT[:, width:].tolist()
    return [
        _new_text(loaded.tokenizer, prompt, new) for prompt, new in zip(prompts, news, strict=True)
    ]


def _new_text(tokenizer: object, prompt: list[int], new: list[int]) -> str:
    """The text of the new tokens as it reads after the prompt (a first space included)."""
    decode = tokenizer.decode  # type: ignore[attr-defined]  # a Hugging Face tokenizer
    before = str(decode(prompt, skip_special_tokens=True))
    whole = str(decode([*prompt, *new], skip_special_tokens=True))
    if whole.startswith(before):
        return whole[len(before) :]
    return str(decode(new, skip_special_tokens=True))
