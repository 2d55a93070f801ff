"""What is trained and what is frozen, and that each choice survives a private gradient."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.training.adapters import (
    AdapterSettings,
    Ia3Settings,
    LoraSettings,
    PartSettings,
    PromptSettings,
    adapt,
)
from privacy_finetuner.training.engine import Clip, ClippedGradient, ExampleLoop, make_gradient
from privacy_finetuner.training.models import load_model
from privacy_finetuner.training.objectives import Objective, public_probe
from privacy_finetuner.training.pretrained import quantization

MakeModel = Callable[..., Any]


def trained(model: Any) -> set[str]:
    return {name for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(
    "settings",
    [
        LoraSettings(rank=2, dora=True),
        Ia3Settings(),
        PromptSettings(tokens=3),
        PartSettings(part="head"),
        PartSettings(part="last_layers"),
    ],
    ids=lambda s: type(s).__name__ + str(getattr(s, "part", "")),
)
def test_a_choice_trains_a_part_in_one_pass(
    settings: AdapterSettings, make_model: MakeModel
) -> None:
    before = make_model("llama")
    total = len(trained(before))
    model = adapt(make_model("llama"), settings, "causal_lm")
    assert 0 < len(trained(model)) != total
    objective = Objective("causal_lm", 40)
    probe = public_probe(objective, vocabulary=40, device=torch.device("cpu"))
    engine, story = make_gradient(model, objective, probe)
    assert isinstance(engine, ClippedGradient), story
    engine.add(probe, Clip(0.1))
    assert any(part.any() for part in engine.take(Clip(0.1)).tensors)


def test_dora_trains_magnitudes(make_model: MakeModel) -> None:
    names = trained(adapt(make_model("llama"), LoraSettings(rank=2, dora=True), "causal_lm"))
    assert any("magnitude" in name for name in names)


def test_biases_are_trained_with_the_whole_new_head(make_model: MakeModel) -> None:
    model = adapt(make_model("bert"), PartSettings(part="biases"), "sequence_classification")
    names = trained(model)
    assert "classifier.weight" in names
    assert all(name.endswith("bias") for name in names if not name.startswith("classifier"))


def test_the_last_layers_come_with_the_head(make_model: MakeModel) -> None:
    names = trained(adapt(make_model("llama"), PartSettings(part="last_layers"), "causal_lm"))
    assert "lm_head.weight" in names
    assert all(".layers.1." in name for name in names - {"lm_head.weight"})


@pytest.mark.parametrize(
    ("settings", "task", "said"),
    [
        (PartSettings(part="biases"), "causal_lm", "no biases"),
        (PartSettings(part="last_layers", layers=9), "causal_lm", "2 layers"),
        (PromptSettings(), "sequence_classification", "causal_lm only"),
        (LoraSettings(rank=2, base_bits=4), "causal_lm", "while it is loaded"),
    ],
)
def test_what_a_model_does_not_have_is_refused(
    settings: AdapterSettings, task: str, said: str, make_model: MakeModel
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        adapt(make_model("llama"), settings, task)


@pytest.mark.parametrize(
    "make",
    [
        lambda: PromptSettings(tokens=0),
        lambda: PartSettings(part="middle"),  # type: ignore[arg-type]
        lambda: PartSettings(part="last_layers", layers=0),
        lambda: Ia3Settings(target_modules=("q_proj",)),
        lambda: LoraSettings(rank=2, base_bits=3),
    ],
)
def test_settings_out_of_range_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(ConfigurationError):
        make()


def test_a_quantised_base_without_its_library_is_refused_by_name(llama_folder: Path) -> None:
    if importlib.util.find_spec("bitsandbytes") is not None:
        pytest.skip("bitsandbytes is installed")
    with pytest.raises(ConfigurationError, match="bitsandbytes"):
        load_model(llama_folder, lora=LoraSettings(rank=2, base_bits=4), device="cpu")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("bits", [4, 8])
def test_adapters_on_a_quantised_base(bits: int, tmp_path: Path, make_model: MakeModel) -> None:
    pytest.importorskip("bitsandbytes")
    import transformers as hf

    config = make_model("llama", hidden=64).config
    config.intermediate_size = 128  # on a CPU, 4-bit rows are packed by 32
    hf.LlamaForCausalLM(config).save_pretrained(tmp_path)
    base = hf.AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float32, **quantization(bits)
    )
    model = adapt(base, LoraSettings(rank=2, base_bits=bits), "causal_lm")
    objective = Objective("causal_lm", 40)
    probe = public_probe(objective, vocabulary=40, device=torch.device("cpu"))
    engine, story = make_gradient(model, objective, probe)
    # LLM.int8 picks its outlier columns from the whole batch: that mixes examples.
    assert isinstance(engine, ClippedGradient if bits == 4 else ExampleLoop), story
