"""Every architecture on the page docs/architectures.md, against a loop that shares no code.

The page's table is made here: `WRITE_ARCHITECTURES=1 pytest <this file>` writes each row as its
test passes, and without the variable a row that differs from what was found fails its test.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from privacy_finetuner.training.engine import Clip, ClippedGradient, make_gradient
from privacy_finetuner.training.lora import peft_warnings_settled

Batch = dict[str, Tensor]
PAGE = Path(__file__).resolve().parents[4] / "docs" / "architectures.md"
ORDINARY = {"matrix", "look-up", "affine"}
IGNORED = -100
LENGTHS = (9, 4, 7, 2)

BASE = {
    "vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "initializer_range": 0.2,
}  # fmt: skip
PLAIN = {**BASE, "intermediate_size": 24}
GATED = {**PLAIN, "num_key_value_heads": 2, "tie_word_embeddings": False}
TIED = {**GATED, "tie_word_embeddings": True}
SMALL_HEADS = {**TIED, "head_dim": 4}
WINDOW = {**SMALL_HEADS, "sliding_window": 4}
TWO_OF_FOUR = {"num_experts_per_tok": 2, "moe_intermediate_size": 12}
MIXTURE = {**GATED, "num_local_experts": 4, "num_experts_per_tok": 2}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
READER = {**PLAIN, **NO_DROPOUT, "num_labels": 3}
RELATIVE = {**READER, "relative_attention": True, "pos_att_type": ["c2p", "p2c"],
            "pooler_dropout": 0.0, "pooler_hidden_size": 16}  # fmt: skip
GPT = {
    "vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 64,
    "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "initializer_range": 0.2,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
UNTIED_GPT = {**GPT, "tie_word_embeddings": False}
T5 = {
    "vocab_size": 40, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4,
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 16,
    "dropout_rate": 0.0, "pad_token_id": 0, "decoder_start_token_id": 0,
}  # fmt: skip
BART = {
    "vocab_size": 40, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24, "max_position_embeddings": 64, "dropout": 0.0, "init_std": 0.2,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
}  # fmt: skip
IMAGES = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24,
    "image_size": 8, "patch_size": 4, "num_channels": 2, "initializer_range": 0.2,
    "num_labels": 3, **NO_DROPOUT,
}  # fmt: skip

LM, CLASSES, PAIRS, PICTURES = (
    "ForCausalLM", "ForSequenceClassification", "ForConditionalGeneration",
    "ForImageClassification",
)  # fmt: skip

# Each: name on the page, prefix and end of the classes in transformers, options.
NAMED: list[tuple[str, str, str, dict[str, Any]]] = [
    ("GPT-2", "GPT2", "LMHeadModel", UNTIED_GPT),
    ("GPT-2, tied", "GPT2", "LMHeadModel", GPT),
    ("GPT-NeoX, Pythia", "GPTNeoX", LM, {**PLAIN, "hidden_dropout": 0.0}),
    ("GPT-J", "GPTJ", LM, {**UNTIED_GPT, "rotary_dim": 2}),
    ("OPT", "OPT", LM, {**BASE, "ffn_dim": 24, "word_embed_proj_dim": 8, "dropout": 0.0}),
    ("Llama, SmolLM", "Llama", LM, GATED),
    ("Llama 3.2, tied", "Llama", LM, TIED),
    ("Mistral", "Mistral", LM, {**GATED, "sliding_window": 4}),
    ("Qwen2, Qwen2.5", "Qwen2", LM, GATED),
    ("Qwen3", "Qwen3", LM, SMALL_HEADS),
    ("Gemma", "Gemma", LM, SMALL_HEADS),
    ("Gemma 2", "Gemma2", LM, WINDOW),
    ("Gemma 3", "Gemma3", LM, WINDOW),
    ("Phi", "Phi", LM, {**PLAIN, "qk_layernorm": True, "tie_word_embeddings": False}),
    ("Phi-3", "Phi3", LM, GATED),
    ("Mixtral", "Mixtral", LM, MIXTURE),
    ("Qwen3 MoE", "Qwen3Moe", LM, {**SMALL_HEADS, **TWO_OF_FOUR, "num_experts": 4}),
    ("GPT-OSS", "GptOss", LM, {**MIXTURE, "head_dim": 4}),
    ("Falcon", "Falcon", LM, {**BASE, "new_decoder_architecture": True, "num_kv_heads": 2}),
    ("Bloom", "Bloom", LM, {"vocab_size": 40, "hidden_size": 16, "n_layer": 2, "n_head": 4,
                            "initializer_range": 0.2, "pad_token_id": 0}),
    ("MPT", "Mpt", LM, {"vocab_size": 40, "d_model": 16, "n_heads": 4, "n_layers": 2,
                        "max_seq_len": 64, "initializer_range": 0.2, "pad_token_id": 0}),
    ("StableLM", "StableLm", LM, {**GATED, "qk_layernorm": True}),
    ("Cohere", "Cohere", LM, {**TIED, "use_qk_norm": True}),
    ("OLMo 2", "Olmo2", LM, GATED),
    ("BERT", "Bert", CLASSES, READER),
    ("RoBERTa", "Roberta", CLASSES, READER),
    ("DeBERTa", "Deberta", CLASSES, {**RELATIVE, "max_relative_positions": -1}),
    ("DeBERTa-v2, DeBERTa-v3", "DebertaV2", CLASSES,
     {**RELATIVE, "share_att_key": True, "position_buckets": 8, "norm_rel_ebd": "layer_norm"}),
    ("DistilBERT", "DistilBert", CLASSES,
     {"vocab_size": 40, "dim": 16, "n_layers": 2, "n_heads": 4, "hidden_dim": 24,
      "max_position_embeddings": 64, "dropout": 0.0, "attention_dropout": 0.0,
      "seq_classif_dropout": 0.0, "initializer_range": 0.2, "pad_token_id": 0, "num_labels": 3}),
    ("ELECTRA", "Electra", CLASSES, {**READER, "embedding_size": 8}),
    ("ALBERT", "Albert", CLASSES, {**READER, "embedding_size": 8, "classifier_dropout_prob": 0.0}),
    ("ModernBERT", "ModernBert", CLASSES,
     {**PLAIN, "local_attention": 4, "global_attn_every_n_layers": 2, "cls_token_id": 1,
      "sep_token_id": 2, "num_labels": 3}),
    ("T5, Flan-T5", "T5", PAIRS, T5),
    ("BART", "Bart", PAIRS, {**BART, "scale_embedding": True}),
    ("ViT", "ViT", PICTURES, IMAGES),
]  # fmt: skip
FURTHER: list[tuple[str, str, str, dict[str, Any]]] = [
    ("GPT-Neo", "GPTNeo", LM, {
        "vocab_size": 40, "hidden_size": 16, "num_layers": 2, "num_heads": 4,
        "attention_types": [[["global", "local"], 1]], "max_position_embeddings": 64,
        "intermediate_size": 24, "resid_dropout": 0.0, "embed_dropout": 0.0,
        "attention_dropout": 0.0, "initializer_range": 0.2, "pad_token_id": 0}),
    ("CodeGen", "CodeGen", LM, {**UNTIED_GPT, "rotary_dim": 2}),
    ("GPT-BigCode, StarCoder", "GPTBigCode", LM, {**GPT, "multi_query": True}),
    ("Falcon, multi-query, ALiBi", "Falcon", LM,
     {**BASE, "multi_query": True, "alibi": True, "parallel_attn": False, "bias": True}),
    ("StarCoder2", "Starcoder2", LM, {**GATED, "residual_dropout": 0.0, "embedding_dropout": 0.0}),
    ("Cohere 2", "Cohere2", LM, TIED),
    ("OLMo", "Olmo", LM, GATED),
    ("OLMo 3", "Olmo3", LM, GATED),
    ("SmolLM3", "SmolLM3", LM, GATED),
    ("Granite", "Granite", LM, GATED),
    ("GLM-4", "Glm4", LM, {**GATED, "head_dim": 4}),
    ("Nemotron", "Nemotron", LM, GATED),
    ("Qwen2 MoE", "Qwen2Moe", LM, {**GATED, **TWO_OF_FOUR, "num_experts": 4,
                                   "shared_expert_intermediate_size": 12}),
    ("OLMoE", "Olmoe", LM, {**GATED, "num_experts": 4, "num_experts_per_tok": 2}),
    ("DeepSeek-V3", "DeepseekV3", LM, {
        **GATED, **TWO_OF_FOUR, "num_key_value_heads": 4, "n_routed_experts": 4, "n_group": 2,
        "topk_group": 1, "first_k_dense_replace": 1, "q_lora_rank": 8, "kv_lora_rank": 8,
        "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 4}),
    ("Granite MoE", "GraniteMoe", LM, MIXTURE),
    ("Phi-3.5 MoE", "Phimoe", LM, MIXTURE),
    ("XLM-RoBERTa", "XLMRoberta", CLASSES, READER),
    ("CamemBERT", "Camembert", CLASSES, READER),
    ("MPNet", "MPNet", CLASSES, READER),
    ("DeBERTa-v2 with a convolution", "DebertaV2", CLASSES,
     {**RELATIVE, "position_buckets": 8, "conv_kernel_size": 3, "conv_act": "gelu"}),
    ("T5 1.1, gated", "T5", PAIRS,
     {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    ("UMT5", "UMT5", PAIRS, T5),
    ("mBART", "MBart", PAIRS, BART),
    ("Pegasus", "Pegasus", PAIRS, BART),
    ("DeiT", "DeiT", PICTURES, IMAGES),
    ("DINOv2", "Dinov2", PICTURES, {**IMAGES, "mlp_ratio": 2}),
    ("BEiT", "Beit", PICTURES,
     {**IMAGES, "drop_path_rate": 0.0, "use_relative_position_bias": True}),
]  # fmt: skip


def made(prefix: str, end: str, options: dict[str, Any]) -> Any:
    """A tiny model with seeded weights, none of them zero: a zero would hide a gradient."""
    import transformers as hf

    name = "Gemma3TextConfig" if prefix == "Gemma3" else f"{prefix}Config"
    torch.manual_seed(0)  # noqa: TID251 -- weights of a test model
    model = getattr(hf, prefix + end)(getattr(hf, name)(**options))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim < 2 or not parameter.std() > 0.05:
                parameter.normal_(0.3, 0.1, generator=generator)
    return model.eval()


def batch_for(end: str) -> Batch:
    generator = torch.Generator().manual_seed(1)
    mask = torch.stack([(torch.arange(max(LENGTHS)) < n).long() for n in LENGTHS])
    ids = torch.randint(3, 40, mask.shape, generator=generator) * mask
    if end == PICTURES:
        pixels = torch.zeros(len(LENGTHS), 2, 8, 8).normal_(generator=generator)
        return {"pixel_values": pixels, "labels": torch.tensor([0, 1, 2, 1])}
    labels = torch.tensor([0, 1, 2, 1]) if end == CLASSES else ids.masked_fill(mask == 0, IGNORED)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def loss(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    inputs = {name: values for name, values in batch.items() if name != "labels"}
    labels = batch["labels"]
    if labels.ndim == 1:
        losses_B = cross_entropy(model(**inputs).logits, labels, reduction="none")
        return losses_B, torch.zeros(len(losses_B))
    if getattr(model.config, "is_encoder_decoder", False):
        start = torch.full_like(labels[:, :1], model.config.decoder_start_token_id or 2)
        inputs["decoder_input_ids"] = torch.cat([start, labels[:, :-1]], dim=1).clamp(min=0)
        targets = labels
    else:
        targets = pad(labels[:, 1:], (0, 1), value=IGNORED)
    # A soft prompt stands in front of the tokens; its own positions have no target.
    logits = model(**inputs, use_cache=False).logits[:, -labels.shape[1] :]
    losses_BT = cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none"
    ).view_as(targets)
    losses_B = losses_BT.sum(dim=1) / (targets != IGNORED).sum(dim=1).clamp(min=1)
    return losses_B, torch.zeros(len(losses_B))


def rows(batch: Batch, at: list[int]) -> Batch:
    return {name: values[at] for name, values in batch.items()}


def alone(batch: Batch, i: int) -> Batch:
    """Example i without the padding that its batch gave it, and so without a mask."""
    single = rows(batch, [i])
    if "input_ids" not in single:
        return single
    n = int(single.pop("attention_mask").sum())
    return {name: v[:, :n] if v.ndim == 2 else v for name, v in single.items()}


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([t.detach().double().flatten() for t in tensors])


def lone_gradients(model: Any, batch: Batch) -> list[Tensor]:
    trained = [p for p in model.parameters() if p.requires_grad]
    found = []
    for i in range(len(batch["labels"])):
        losses_B, _ = loss(model, alone(batch, i))
        grads = torch.autograd.grad(losses_B.sum(), trained, allow_unused=True)
        parts = [
            torch.zeros_like(p) if g is None else g for p, g in zip(trained, grads, strict=True)
        ]
        found.append(flat(parts))
    return found


def clipped_sum(singles: list[Tensor], bound: float) -> Tensor:
    return torch.stack([g * min(1.0, bound / float(g.norm())) for g in singles]).sum(dim=0)


def error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def summed(engine: Any, batches: list[Batch], clip: Clip) -> Tensor:
    for batch in batches:
        engine.add(batch, clip)
    return flat(engine.take(clip).tensors)


def prove(model: Any, batch: Batch) -> tuple[Any, Tensor, Clip]:
    """Norms, sums and sensitivity of the engine that `make_gradient` chooses; returns it open."""
    count = len(batch["labels"])
    singles = lone_gradients(model, batch)
    norms = torch.stack([g.norm() for g in singles])
    bound = float(norms.median())  # some examples are clipped, some are not
    assert bound > 0
    clip = Clip(bound)
    engine, story = make_gradient(model, loss, rows(batch, [2, 1, 3]))
    assert ("slow" in story) != isinstance(engine, ClippedGradient)
    record = engine.add(batch, clip)
    whole = flat(engine.take(clip).tensors)
    assert torch.allclose(record.norms_B.double(), norms, rtol=1e-5), story
    assert error(whole, clipped_sum(singles, bound)) <= 1e-5, story
    # A batch of one, then the others; and nothing at all.
    parts = [rows(batch, [0]), rows(batch, list(range(1, count)))]
    assert error(summed(engine, parts, clip), whole) <= 1e-5
    assert not flat(engine.take(clip).tensors).any()
    for i in range(count):
        rest = summed(engine, [rows(batch, [j for j in range(count) if j != i])], clip)
        assert float((whole - rest).norm()) <= 1.001 * bound
    return engine, whole, clip


def settle(table: str, row: list[str]) -> None:
    """Compare one row of a table on the page with what was found, or write it."""
    line = f"| {' | '.join(row)} |"
    before, mark, rest = PAGE.read_text().partition(f"<!-- table: {table} -->\n")
    assert mark
    body, end, after = rest.partition("<!-- end -->")
    lines = body.splitlines()
    if os.environ.get("WRITE_ARCHITECTURES"):
        kept = [x for x in lines if not x.startswith(f"| {row[0]} |")]
        PAGE.write_text(before + mark + "\n".join([*kept, line]) + "\n" + end + after)
    else:
        assert line in lines, f"docs/architectures.md differs; found: {line}"


@pytest.mark.parametrize(
    ("name", "prefix", "end", "options"),
    [pytest.param(*family, id=family[0]) for family in NAMED]
    + [pytest.param(*family, id=family[0], marks=pytest.mark.slow) for family in FURTHER],
)
def test_an_architecture_is_exact(
    name: str, prefix: str, end: str, options: dict[str, Any]
) -> None:
    model = made(prefix, end, options)
    batch = batch_for(end)
    engine, whole, clip = prove(model, batch)
    engine.close()
    is_fast = isinstance(engine, ClippedGradient)
    checkpointing = "not in transformers"
    if is_fast and model.supports_gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
        model.train()
        again = ClippedGradient(model, loss)
        assert error(summed(again, [batch], clip), whole) <= 1e-5
        again.close()
        checkpointing = "exact"
    rules = sorted(set(engine.kinds.values()) - ORDINARY) if is_fast else []
    row = [name, f"`{prefix}{end}`", "one pass" if is_fast else "exact, slow",
           ", ".join(rules) or "-", checkpointing if is_fast else "not tried"]  # fmt: skip
    settle("architectures", row)


def wrapped(model: Any, config: Any) -> Any:
    """The peft model around a model, with adapters that do something: as made, half are zero."""
    import peft

    with peft_warnings_settled():
        adapted = peft.get_peft_model(model, config)
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.zeros_like(parameter).normal_(0, 0.1, generator=generator))
    return adapted.eval()


LLAMA = "Llama, SmolLM"


def adapters() -> dict[str, tuple[str, Any]]:
    import peft

    def config(kind: str, **options: Any) -> Any:
        return lambda model: wrapped(model, getattr(peft, kind)(**options, task_type="CAUSAL_LM"))

    def only(wanted: str) -> Any:
        def freeze(model: Any) -> Any:
            for parameter_name, parameter in model.named_parameters():
                parameter.requires_grad_(wanted in parameter_name)
            return model

        return freeze

    every = {"r": 3, "target_modules": "all-linear"}
    qv = {"target_modules": ["q_proj", "v_proj"]}
    ia3 = {"target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]}
    return {
        "LoRA": (LLAMA, config("LoraConfig", **every)),
        "LoRA, rank-stabilised": (LLAMA, config("LoraConfig", **every, use_rslora=True)),
        "LoRA on the embedding": (
            LLAMA, config("LoraConfig", r=3, target_modules=["embed_tokens"])
        ),
        "DoRA": (LLAMA, config("LoraConfig", **every, use_dora=True)),
        "IA3": (LLAMA, config("IA3Config", **ia3)),
        "VeRA": (LLAMA, config("VeraConfig", r=4, **qv)),
        "AdaLoRA": (LLAMA, config("AdaLoraConfig", init_r=4, target_r=2, total_step=10, **qv)),
        "prompt tuning": (LLAMA, config("PromptTuningConfig", num_virtual_tokens=3)),
        "P-tuning": (LLAMA, config("PromptEncoderConfig", num_virtual_tokens=3,
                                     encoder_hidden_size=8)),
        "prefix tuning": (LLAMA, config("PrefixTuningConfig", num_virtual_tokens=3)),
        "biases only (BiTFiT)": ("GPT-NeoX, Pythia", only("bias")),
        "head only": (LLAMA, only("lm_head")),
        "last layer only": (LLAMA, only("layers.1.")),
        "norms only": (LLAMA, only("norm")),
    }  # fmt: skip


ADAPTERS = (
    "LoRA", "LoRA, rank-stabilised", "LoRA on the embedding", "DoRA", "IA3", "VeRA", "AdaLoRA",
    "prompt tuning", "P-tuning", "prefix tuning", "biases only (BiTFiT)", "head only",
    "last layer only", "norms only",
)  # fmt: skip


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_is_exact(name: str) -> None:
    base, adapt = adapters()[name]
    model = adapt(made(*next(family[1:] for family in NAMED if family[0] == base)))
    engine, _, _ = prove(model.eval(), batch_for(LM))
    rules = sorted(set(engine.kinds.values()) - ORDINARY)
    engine.close()
    is_fast = isinstance(engine, ClippedGradient)
    settle("adapters", [name, "one pass" if is_fast else "exact, slow", ", ".join(rules) or "-"])


LORA = ("GPT-2, tied", "GPT-NeoX, Pythia", "OPT", "Falcon", "Bloom", "Mixtral", "Gemma 3", "Phi-3",
        "BERT", "DeBERTa-v2, DeBERTa-v3", "DistilBERT", "T5, Flan-T5", "BART", "ViT")  # fmt: skip


@pytest.mark.parametrize("name", LORA)
def test_adapters_on_every_kind_of_model_are_exact(name: str) -> None:
    import peft

    end, model = next((f[2], made(*f[1:])) for f in NAMED if f[0] == name)
    linear = [
        n for n, m in model.named_modules() if type(m).__name__.endswith(("Linear", "Conv1D"))
    ]
    inside = [n for n in linear if "head" not in n and "classifier" not in n]
    options = {"r": 3, "target_modules": inside, "fan_in_fan_out": "GPT-2" in name}
    engine, _, _ = prove(wrapped(model, peft.LoraConfig(**options)), batch_for(end))
    assert isinstance(engine, ClippedGradient)
    engine.close()


def test_the_page_lists_what_was_tested_and_nothing_else() -> None:
    for table, names in (
        ("architectures", [family[0] for family in [*NAMED, *FURTHER]]),
        ("adapters", list(ADAPTERS)),
    ):
        body = PAGE.read_text().partition(f"<!-- table: {table} -->\n")[2].partition("<!-- end -->")
        listed = [line.split(" | ")[0].removeprefix("| ") for line in body[0].splitlines()[2:]]
        assert sorted(listed) == sorted(names)


# What autocast may lose: products in bfloat16 have 8 bits. The per-example loop runs in bfloat16
# too, but rounds elsewhere, so equality is to the format and not to float32.
BFLOAT16 = 0.02


@pytest.mark.parametrize("name", ["GPT-2, tied", "Llama, SmolLM", "Mixtral", "BERT", "T5, Flan-T5"])
def test_bfloat16_autocast_keeps_the_bound_and_comes_near_the_sum(name: str) -> None:
    end, model = next((f[2], made(*f[1:])) for f in NAMED if f[0] == name)
    batch = batch_for(end)

    def half(net: nn.Module, part: Batch) -> tuple[Tensor, Tensor]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses_B, accuracies_B = loss(net, part)
        return losses_B.float(), accuracies_B

    singles = lone_gradients(model, batch)
    bound = float(torch.stack([g.norm() for g in singles]).median())
    engine = ClippedGradient(model, half)
    for i in range(len(LENGTHS)):  # whatever rounding did to it, one example stays in its bound
        assert float(summed(engine, [rows(batch, [i])], Clip(bound)).norm()) <= bound * 1.0001
    assert error(summed(engine, [batch], Clip(bound)), clipped_sum(singles, bound)) <= BFLOAT16
    engine.close()
