"""What the scripts that pre-train a small model have in common: tokenizer, model, schedule, folder.

The models are of the Llama type, with tied embeddings and grouped-query attention, and load with
`AutoModelForCausalLM.from_pretrained` and no network. Seeds are fixed and one thread computes; that
two runs give the same bytes was not checked.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

PAD, BOS, EOS = "<pad>", "<s>", "</s>"
CONTEXT = 256
_FIRST_RATE = 0.04  # of the warm-up, at the first step


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How large a model is; `init` is the deviation of its first weights."""

    hidden: int
    intermediate: int
    layers: int
    init: float = 0.02
    heads: int = 4
    key_value_heads: int = 2


def begin(seed: int, *, threads: int | None = None) -> None:
    """Seed PyTorch; with `threads`, compute on so many and by methods that repeat."""
    torch.manual_seed(seed)
    if threads is not None:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True)


def train_tokenizer(
    texts: Sequence[str], vocabulary: int, *, digits: int = 1
) -> PreTrainedTokenizerFast:
    """A lossless byte-level BPE over words, numbers of up to `digits` digits, marks and space.

    Encoding starts with the BOS token.
    """
    numbers = r"\p{N}" if digits == 1 else rf"\p{{N}}{{1,{digits}}}"
    pieces = rf" ?\p{{L}}+| ?{numbers}| ?[^\s\p{{L}}\p{{N}}]+|\s+"
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pieces), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=[PAD, BOS, EOS],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    bpe.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A",
        pair=f"{BOS} $A {BOS} $B",
        special_tokens=[(BOS, bpe.token_to_id(BOS))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def new_model(
    tokenizer: PreTrainedTokenizerFast, shape: Shape, *, bytes_max: int
) -> LlamaForCausalLM:
    """An untrained model; the script ends where its weights would be larger than `bytes_max`."""
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=shape.hidden,
            intermediate_size=shape.intermediate,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.key_value_heads,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            initializer_range=shape.init,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    size = 4 * weights_of(model)
    if size > bytes_max:
        sys.exit(f"{size} bytes of weights, at most {bytes_max} wanted")
    return model


def weights_of(model: LlamaForCausalLM) -> int:
    """How many weights a model has."""
    return sum(p.numel() for p in model.parameters())


def schedule(done: float, *, warm_up: float) -> float:
    """The learning-rate factor after the part `done` of a run: warm-up, then a cosine to 0.02."""
    if done < warm_up:
        first = _FIRST_RATE * warm_up
        return (done + first) / (warm_up + first)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (done - warm_up) / (1 - warm_up)))


def write(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a folder that `from_pretrained` reads."""
    model.eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def say(line: str) -> None:
    """Progress, one line at a time."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
