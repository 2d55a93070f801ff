from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from privacy_finetuner.errors import (
    CheckpointError,
    CheckpointNotWritten,
    ConfigurationError,
    ModelLoadError,
)
from privacy_finetuner.training.datasets import tokenize
from privacy_finetuner.training.generation import generate
from privacy_finetuner.training.models import (
    LoadedModel,
    LoraSettings,
    adopt_model,
    apply_lora,
    choose_device,
    count_parameters,
    load_model,
    load_tokenizer,
    save_model,
)
from privacy_finetuner.training.records import read_records

VOCABULARY = 259
ALL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
LABELS = ("card", "loan", "other")


def byte_tokenizer(special: dict[str, str] | None = None) -> Any:
    vocab = {token: k for k, token in enumerate(["<pad>", "<s>", "</s>"])}
    for char in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocab[char] = len(vocab)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **(ALL if special is None else special)
    )


def llama_config(**options: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=1,
        eos_token_id=2,
        **options,
    )


def gpt2_config(**options: Any) -> GPT2Config:
    return GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=64,
        bos_token_id=1,
        eos_token_id=2,
        **options,
    )


def bert_config(**options: Any) -> BertConfig:
    return BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
        **options,
    )


@pytest.fixture(scope="module")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(LlamaForCausalLM(llama_config()), tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(BertModel(bert_config()), tmp_path_factory.mktemp("bert"))


def saved(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def trainable_names(model: Any) -> list[str]:
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def logits(loaded: LoadedModel) -> torch.Tensor:
    ids = torch.arange(3, 23).reshape(2, 10)
    loaded.model.eval()
    with torch.no_grad():
        return loaded.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits


def test_a_folder_loads_ready_for_full_training(llama_folder: Path) -> None:
    loaded = load_model(llama_folder, device="cpu")

    assert loaded.model.training
    assert all(p.requires_grad and p.dtype == torch.float32 for p in loaded.model.parameters())
    assert (loaded.device.type, loaded.context_length, loaded.is_adapter) == ("cpu", 64, False)
    assert Path(loaded.base_name) == llama_folder
    assert loaded.notes == ()


def test_a_model_in_memory_is_adopted() -> None:
    loaded = adopt_model(GPT2LMHeadModel(gpt2_config()), byte_tokenizer(), device="cpu")

    assert loaded.base_name == ""
    assert loaded.context_length == 64


def test_a_missing_pad_token_becomes_the_end_token_without_new_embeddings() -> None:
    model = GPT2LMHeadModel(gpt2_config())
    tokenizer = byte_tokenizer({"eos_token": "</s>"})
    loaded = adopt_model(model, tokenizer, device="cpu")

    assert tokenizer.pad_token_id == tokenizer.eos_token_id == loaded.model.config.pad_token_id
    assert model.get_input_embeddings().weight.shape[0] == VOCABULARY
    assert "pad token" in loaded.notes[0]


def test_without_pad_and_end_token_a_model_is_refused() -> None:
    with pytest.raises(ModelLoadError, match=r"tokenizer\.pad_token"):
        adopt_model(GPT2LMHeadModel(gpt2_config()), byte_tokenizer({}), device="cpu")


def test_a_tokenizer_of_another_model_is_refused() -> None:
    small = LlamaForCausalLM(llama_config(pad_token_id=0))
    small.resize_token_embeddings(100)

    with pytest.raises(ModelLoadError, match="259 tokens and the model embeds 100"):
        adopt_model(small, byte_tokenizer(), device="cpu")


def test_a_model_that_reads_both_ways_is_no_causal_model(tmp_path: Path) -> None:
    saved(BertForMaskedLM(bert_config()), tmp_path)

    with pytest.raises(ModelLoadError, match="both directions"):
        load_model(tmp_path, device="cpu")


def test_a_new_head_has_the_classes_asked_for_and_is_noted(bert_folder: Path) -> None:
    loaded = load_model(
        bert_folder, task="sequence_classification", label_names=LABELS, device="cpu"
    )

    assert loaded.label_names == LABELS
    assert loaded.model.classifier.weight.shape == (3, 32)
    assert "classifier.weight" in loaded.notes[0]


def test_a_head_of_unstated_size_is_refused(bert_folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="num_labels"):
        load_model(bert_folder, task="sequence_classification", device="cpu")


def test_a_trained_head_needs_no_number_of_classes(tmp_path: Path) -> None:
    saved(BertForSequenceClassification(bert_config(num_labels=4)), tmp_path)

    assert len(load_model(tmp_path, task="sequence_classification", device="cpu").label_names) == 4
    with pytest.raises(ModelLoadError):
        load_model(tmp_path, task="sequence_classification", num_labels=3, device="cpu")


def test_a_checkpoint_with_missing_weights_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    saved(LlamaForCausalLM(llama_config()), tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(ModelLoadError, match=r"lack 1 parameters.*up_proj"):
        load_model(tmp_path, device="cpu")
    with pytest.raises(ModelLoadError, match=r"lack 1 parameters.*up_proj"):
        load_model(tmp_path, task="sequence_classification", num_labels=2, device="cpu")


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    saved(LlamaForCausalLM(llama_config()), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 40)

    with pytest.raises(ModelLoadError, match="cannot be loaded"):
        load_model(tmp_path, device="cpu")


@pytest.mark.parametrize("name", ["./absent", "/absent/model", "a/b/c", Path("absent")])
def test_a_missing_folder_is_named(name: str | Path) -> None:
    with pytest.raises(ModelLoadError, match="no model folder"):
        load_model(name, device="cpu")
    with pytest.raises(ModelLoadError, match="no model folder"):
        load_tokenizer(name)


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(ModelLoadError, match="empty"):
        load_model("", device="cpu")


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"config\.json"):
        load_model(tmp_path, device="cpu")


@pytest.mark.slow
def test_a_hub_name_without_a_network_says_what_to_do() -> None:
    program = (
        "from privacy_finetuner.training.models import *\n"
        "try: load_model('nobody-here/no-such-model')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.startswith("ModelLoadError")
    assert "give its folder" in done.stdout


@pytest.mark.parametrize(
    "options",
    [
        {"task": "translation"},
        {"device": "abacus"},
        {"device": "xpu"},
        {"dtype": "float16"},
        {"num_labels": 3},
        {"task": "sequence_classification", "num_labels": 1},
        {"task": "sequence_classification", "num_labels": 2, "label_names": LABELS},
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    llama_folder: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError):
        load_model(llama_folder, **options)


def test_an_absent_device_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")

    with pytest.raises(ConfigurationError, match="not on this machine"):
        choose_device("cuda")
    assert choose_device("auto").type in {"cpu", "mps"}


def test_bfloat16_is_taken_when_asked_for(llama_folder: Path) -> None:
    loaded = load_model(llama_folder, dtype="bfloat16", lora=LoraSettings(rank=2), device="cpu")

    frozen = {p.dtype for p in loaded.model.parameters() if not p.requires_grad}
    trained = {p.dtype for p in loaded.model.parameters() if p.requires_grad}
    assert (frozen, trained) == ({torch.bfloat16}, {torch.float32})


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_adapters_sit_on_every_linear_layer_and_change_nothing_yet(kind: str) -> None:
    make = {
        "llama": lambda: LlamaForCausalLM(llama_config()),
        "gpt2": lambda: GPT2LMHeadModel(gpt2_config()),
    }[kind]
    plain = adopt_model(make(), byte_tokenizer(), device="cpu")
    before = logits(plain)
    adapted = adopt_model(plain.model, byte_tokenizer(), device="cpu", lora=LoraSettings(rank=3))

    names = trainable_names(adapted.model)
    assert names
    assert all(".lora_A." in name or ".lora_B." in name for name in names)
    assert not any("lm_head" in name for name in names)
    assert len(names) == 2 * {"llama": 7, "gpt2": 4}[kind] * 2
    assert torch.equal(logits(adapted), before)
    assert adapted.is_adapter


@pytest.mark.parametrize(
    ("make", "head"),
    [
        (lambda: BertForSequenceClassification(bert_config(num_labels=3)), "classifier"),
        (lambda: GPT2ForSequenceClassification(gpt2_config(num_labels=3)), "score"),
    ],
)
def test_the_head_is_trained_beside_the_adapters(make: Any, head: str) -> None:
    model = apply_lora(make(), LoraSettings(rank=2), "sequence_classification")
    names = [name for name in trainable_names(model) if ".lora_" not in name]
    seen: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and head in name:
            module.register_forward_hook(lambda *_, name=name: seen.append(name))
    model.config.pad_token_id = 0
    ids = torch.tensor([[5, 6, 7]])
    model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.sum().backward()

    assert names
    assert all(f"{head}.modules_to_save." in name for name in names)
    assert len(seen) == 1
    assert "modules_to_save" in seen[0]
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_every_layer_of_a_deep_head_is_trained() -> None:
    config = ModernBertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=48,
        num_labels=3,
        **dict.fromkeys(("pad_token_id", "bos_token_id", "cls_token_id"), 0),
        **dict.fromkeys(("eos_token_id", "sep_token_id"), 2),
    )
    model = apply_lora(
        ModernBertForSequenceClassification(config),
        LoraSettings(rank=2),
        "sequence_classification",
    )

    names = [name for name in trainable_names(model) if ".lora_" not in name]
    assert {name.split(".")[2] for name in names} == {"classifier", "head"}


def test_adapters_go_where_they_are_sent() -> None:
    model = apply_lora(
        LlamaForCausalLM(llama_config()),
        LoraSettings(rank=2, target_modules=("q_proj", "model.layers.1.mlp.up_proj")),
        "causal_lm",
    )

    names = [name for name in trainable_names(model) if "lora_A" in name]
    assert len(names) == 3
    assert sum("q_proj" in name for name in names) == 2


@pytest.mark.parametrize("target", ["q_prj", "lm_head", "norm"])
def test_an_unknown_target_is_refused_with_the_candidates(target: str) -> None:
    settings = LoraSettings(rank=2, target_modules=("q_proj", target))

    with pytest.raises(ConfigurationError, match=r"'down_proj'.*'q_proj'"):
        apply_lora(LlamaForCausalLM(llama_config()), settings, "causal_lm")


@pytest.mark.parametrize(
    "options",
    [
        {"rank": 0},
        {"rank": 2, "alpha": 0},
        {"rank": 2, "alpha": float("nan")},
        {"rank": 2, "dropout": 1.0},
        {"rank": 2, "target_modules": ()},
    ],
)
def test_lora_numbers_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        LoraSettings(**options)


def test_alpha_is_twice_the_rank_unless_given() -> None:
    assert LoraSettings(rank=4).scale == 2
    assert LoraSettings(rank=4, alpha=4).scale == 1


def disturb(loaded: LoadedModel) -> LoadedModel:
    """Move what is trained, so that a round trip that forgot it would show."""
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05)
    return loaded


def test_a_saved_model_loads_the_same(llama_folder: Path, tmp_path: Path) -> None:
    loaded = disturb(load_model(llama_folder, device="cpu"))
    save_model(loaded, tmp_path / "out")

    assert torch.equal(logits(load_model(tmp_path / "out", device="cpu")), logits(loaded))
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_saved_adapter_loads_on_its_base_and_goes_on_training(
    llama_folder: Path, tmp_path: Path
) -> None:
    loaded = disturb(load_model(llama_folder, lora=LoraSettings(rank=2), device="cpu"))
    again = load_model(save_model(loaded, tmp_path / "out"), device="cpu")

    assert torch.equal(logits(again), logits(loaded))
    assert trainable_names(again.model) == trainable_names(loaded.model)
    assert not (tmp_path / "out" / "model.safetensors").exists()
    with pytest.raises(ConfigurationError, match="adapter already"):
        load_model(tmp_path / "out", lora=LoraSettings(rank=2), device="cpu")


def test_a_saved_classifier_adapter_keeps_its_head_and_classes(
    bert_folder: Path, tmp_path: Path
) -> None:
    loaded = disturb(
        load_model(
            bert_folder,
            task="sequence_classification",
            label_names=LABELS,
            lora=LoraSettings(rank=2),
            device="cpu",
        )
    )
    again = load_model(
        save_model(loaded, tmp_path / "out"), task="sequence_classification", device="cpu"
    )

    assert torch.equal(logits(again), logits(loaded))
    assert again.label_names == LABELS
    assert again.notes == ()


def test_a_merged_adapter_is_a_plain_model(llama_folder: Path, tmp_path: Path) -> None:
    loaded = disturb(load_model(llama_folder, lora=LoraSettings(rank=2), device="cpu"))
    merged = load_model(save_model(loaded, tmp_path / "out", merge=True), device="cpu")

    assert loaded.is_adapter
    assert not merged.is_adapter
    torch.testing.assert_close(logits(merged), logits(loaded))
    with pytest.raises(ConfigurationError, match="merge"):
        save_model(merged, tmp_path / "again", merge=True)


def test_an_adapter_of_a_nameless_base_says_so(tmp_path: Path) -> None:
    loaded = adopt_model(
        LlamaForCausalLM(llama_config()),
        byte_tokenizer(),
        lora=LoraSettings(rank=2),
        device="cpu",
    )

    with pytest.raises(ModelLoadError, match="merge=True"):
        load_model(save_model(loaded, tmp_path / "out"), device="cpu")


def test_a_failed_save_leaves_what_was_there(llama_folder: Path, tmp_path: Path) -> None:
    class BrokenTokenizer:
        def save_pretrained(self, folder: Path) -> None:
            raise OSError(28, "No space left on device")

    loaded = load_model(llama_folder, device="cpu")
    broken = LoadedModel(
        model=disturb(loaded).model,
        tokenizer=BrokenTokenizer(),
        device=loaded.device,
        task="causal_lm",
        base_name="",
    )
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.safetensors").write_text("old")

    with pytest.raises(CheckpointError, match="No space left"):
        save_model(broken, tmp_path / "out")

    assert (tmp_path / "out" / "model.safetensors").read_text() == "old"
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "model.safetensors"]


def test_a_disk_that_refuses_the_tokenizer_is_a_checkpoint_not_written(
    llama_folder: Path, tmp_path: Path
) -> None:
    """tokenizers raises a plain `Exception` with the system's number in its text."""
    loaded = load_model(llama_folder, device="cpu")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def refused(folder: Path) -> None:
        # From here on no file of this process may grow beyond 100 bytes.
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
        try:
            loaded.tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    saved = replace(loaded, tokenizer=_SavedBy(refused))

    with pytest.raises(CheckpointNotWritten, match="File too large"):
        save_model(saved, tmp_path / "out")
    assert not (tmp_path / "out").exists()


class _SavedBy:
    def __init__(self, save: Callable[[Path], None]) -> None:
        self.save_pretrained = save


def test_tied_weights_count_once() -> None:
    tied = GPT2LMHeadModel(gpt2_config())
    untied = GPT2LMHeadModel(gpt2_config(tie_word_embeddings=False))

    assert count_parameters(untied)[1] - count_parameters(tied)[1] == VOCABULARY * 32
    tied.transformer.wte.weight.requires_grad_(False)
    trainable, total = count_parameters(tied)
    assert total - trainable == VOCABULARY * 32


def test_the_repr_is_short() -> None:
    loaded = adopt_model(LlamaForCausalLM(llama_config()), byte_tokenizer(), device="cpu")

    assert len(repr(loaded)) < 200


def taught(text: str) -> LoadedModel:
    """A model that has learned one text by heart, without privacy."""
    generator = torch.Generator().manual_seed(1)
    loaded = adopt_model(
        LlamaForCausalLM(llama_config(pad_token_id=0)), byte_tokenizer(), device="cpu"
    )
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.02, generator=generator)
    data = tokenize(read_records([text]), loaded.tokenizer, max_length=64, task="causal_lm")
    optimizer = torch.optim.AdamW(loaded.model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = loaded.model(**data.batch([0])).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loaded


def test_a_prompt_is_continued_and_stopped_as_it_was_learned() -> None:
    loaded = taught("the cat sat on the mat")
    was_training = loaded.model.training

    assert generate(loaded, "the cat", max_new_tokens=40) == [" sat on the mat"]
    assert generate(loaded, ["the cat sat on", "the cat"], max_new_tokens=40) == [
        " the mat",
        " sat on the mat",
    ]
    assert loaded.model.training is was_training
    assert generate(loaded, [], max_new_tokens=4) == []


def test_sampling_follows_its_seed_and_not_torch() -> None:
    loaded = adopt_model(LlamaForCausalLM(llama_config()), byte_tokenizer(), device="cpu")

    def sample(seed: int) -> list[str]:
        return generate(loaded, "the", max_new_tokens=12, temperature=1.0, top_p=0.9, seed=seed)

    first = sample(1)
    torch.empty(5).normal_()
    assert sample(1) == first
    assert sample(2) != first


def test_sampling_has_the_right_frequencies() -> None:
    # One biased step: the next token is "a" with probability 0.7 and "b" with 0.3. Over 2,000 draws
    # the count of "a" has standard deviation 20.5; 103 is five of them: false alarm below 1e-6.
    from privacy_finetuner.training.generation import _GumbelSampler

    sampler = _GumbelSampler(3, torch.device("cpu"))
    scores = torch.tensor([[0.7, 0.3]]).log().expand(2000, 2)
    count = int((sampler(torch.zeros(1, 1), scores).argmax(-1) == 0).sum())

    assert abs(count - 1400) < 103


@pytest.mark.parametrize(
    "options",
    [
        {"max_new_tokens": 0},
        {"max_new_tokens": 62},
        {"temperature": -1.0},
        {"temperature": 1.0},
        {"top_p": 0.0},
    ],
)
def test_generation_that_cannot_be_done_is_refused(options: dict[str, Any]) -> None:
    loaded = adopt_model(LlamaForCausalLM(llama_config()), byte_tokenizer(), device="cpu")

    with pytest.raises(ConfigurationError):
        generate(loaded, "the", **options)


def test_a_classifier_does_not_generate() -> None:
    model = BertForSequenceClassification(bert_config(num_labels=2))
    loaded = adopt_model(model, byte_tokenizer(), task="sequence_classification", device="cpu")

    with pytest.raises(ConfigurationError, match="does not generate"):
        generate(loaded, "the")


def test_padding_does_not_change_what_the_model_says() -> None:
    loaded = adopt_model(LlamaForCausalLM(llama_config()), byte_tokenizer(), device="cpu")
    data = tokenize(
        read_records(["short", "a much longer text"]),
        loaded.tokenizer,
        max_length=64,
        task="causal_lm",
    )
    loaded.model.eval()

    def said(indices: list[int]) -> torch.Tensor:
        batch = data.batch(indices)
        with torch.no_grad():
            out = loaded.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        return out.logits[0, : data.lengths[0]]

    torch.testing.assert_close(said([0]), said([0, 1]))


def test_padding_does_not_change_the_class_that_a_causal_model_reads() -> None:
    model = GPT2ForSequenceClassification(gpt2_config(num_labels=2, pad_token_id=2))
    loaded = adopt_model(model, byte_tokenizer(), task="sequence_classification", device="cpu")
    rows = [{"text": "short", "label": 0}, {"text": "a much longer text", "label": 1}]
    data = tokenize(
        read_records(rows), loaded.tokenizer, max_length=64, task="sequence_classification"
    )
    loaded.model.eval()

    def said(indices: list[int]) -> torch.Tensor:
        batch = data.batch(indices)
        with torch.no_grad():
            out = loaded.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        return out.logits[0]

    torch.testing.assert_close(said([0]), said([0, 1]))


def test_positions_that_a_model_skips_are_not_context() -> None:
    config = RobertaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=20,
        pad_token_id=1,
        num_labels=2,
    )
    model = RobertaForSequenceClassification(config)
    loaded = adopt_model(model, byte_tokenizer(), task="sequence_classification", device="cpu")

    assert loaded.context_length == 18
    for length, fits in ((18, True), (19, False)):
        ids = torch.full((1, length), 5)
        if fits:
            assert loaded.model(input_ids=ids).logits.shape == (1, 2)
        else:
            with pytest.raises((IndexError, RuntimeError)):
                loaded.model(input_ids=ids)


def test_a_pretrained_model_tells_a_story(shared_data: Path) -> None:
    loaded = load_model(shared_data / "models/stories260k/hf", device="cpu")

    (story,) = generate(loaded, "Once upon a time", max_new_tokens=20)

    assert "there was a little girl" in story


def test_the_adapter_names_the_base_it_needs(llama_folder: Path, tmp_path: Path) -> None:
    save_model(load_model(llama_folder, lora=LoraSettings(rank=2), device="cpu"), tmp_path)
    settings = json.loads((tmp_path / "adapter_config.json").read_text())

    assert Path(settings["base_model_name_or_path"]) == llama_folder
