"""What tests of several rooms share: one thread, tiny models made in code, the shared data."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.planted import _every_secret_is_planted, no_secret_is_logged

__all__ = ["_every_secret_is_planted", "no_secret_is_logged"]  # fixtures of every test

# One thread, said before torch is loaded: tiny models, and machines that run other things.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

VOCABULARY = 259
MakeModel = Callable[..., Any]


def pytest_collection() -> None:
    """Thousands of tests are made here and live to the end: nothing to collect meanwhile."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Leave what was made out of every later collection of garbage, which would walk all of it."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _own_keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the keys of whoever runs it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of shared data sets; the test is skipped where it is missing."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("TEST_DATA_DIR", beside))
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}; set TEST_DATA_DIR")
    return folder


@pytest.fixture(scope="session")
def byte_tokenizer() -> Any:
    """One token a byte, with pad, begin and end; needs no file."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocab = {token: k for k, token in enumerate(["<pad>", "<s>", "</s>"])}
    for char in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocab[char] = len(vocab)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


@pytest.fixture(scope="session")
def make_model() -> MakeModel:
    """Build a tiny model of a family with seeded weights: `make_model("llama", tied=True)`."""
    return _make_model


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory, byte_tokenizer: Any) -> Path:
    """A tiny causal model with its tokenizer, as a Hugging Face folder. Read only."""
    folder = tmp_path_factory.mktemp("llama")
    _make_model("llama", vocabulary=VOCABULARY, positions=64).save_pretrained(folder)
    byte_tokenizer.save_pretrained(folder)
    return folder


def _make_model(
    family: str,
    *,
    tied: bool = False,
    vocabulary: int = 40,
    positions: int = 128,
    seed: int = 0,
    hidden: int = 16,
) -> Any:
    import torch
    import transformers as hf

    common: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": positions,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    gated = {
        **common,
        "intermediate_size": 24,
        "num_key_value_heads": 2,
        "tie_word_embeddings": tied,
        "initializer_range": 0.2,
    }
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "num_labels": 3}
    torch.manual_seed(seed)  # noqa: TID251 -- weights of a test model
    match family:
        case "llama":
            return hf.LlamaForCausalLM(hf.LlamaConfig(**gated))
        case "gemma":
            return hf.GemmaForCausalLM(hf.GemmaConfig(**gated, head_dim=4))
        case "gpt2":
            config = hf.GPT2Config(
                vocab_size=vocabulary,
                n_embd=hidden,
                n_layer=2,
                n_head=4,
                n_positions=positions,
                tie_word_embeddings=tied,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                initializer_range=0.2,
                pad_token_id=0,
                bos_token_id=1,
                eos_token_id=2,
            )
            return hf.GPT2LMHeadModel(config)
        case "opt":
            config = hf.OPTConfig(
                **common,
                ffn_dim=24,
                word_embed_proj_dim=hidden,
                dropout=0.0,
                attention_dropout=0.0,
                init_std=0.2,
            )
            return hf.OPTForCausalLM(config)
        case "bert":
            config = hf.BertConfig(
                **common, **no_dropout, intermediate_size=24, initializer_range=0.2
            )
            return hf.BertForSequenceClassification(config)
        case "albert":
            config = hf.AlbertConfig(
                **common,
                **no_dropout,
                intermediate_size=24,
                embedding_size=8,
                classifier_dropout_prob=0.0,
                initializer_range=0.2,
            )
            return hf.AlbertForSequenceClassification(config)
    raise ValueError(family)
