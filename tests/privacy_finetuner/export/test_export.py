"""An export is put in place only when it answers as its source does, and says so for ever."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
)

import privacy_finetuner.demo
from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.export.artefact import MANIFEST, check_export, export_model
from privacy_finetuner.export.comparison import compare, probe_of
from privacy_finetuner.export.errors import ExportDamaged, ExportError, ExportRejected
from privacy_finetuner.export.forms import Format, Quantization
from privacy_finetuner.training.lora import peft_warnings_settled

SAMPLE = Path(privacy_finetuner.demo.__file__).parent / "assets" / "model"


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exports") / "int8"
    export_model(SAMPLE, folder, quantization=Quantization.INT8)
    return folder


def copy_of(folder: Path, place: Path) -> Path:
    place.mkdir()
    for file in folder.iterdir():
        (place / file.name).write_bytes(file.read_bytes())
    return place


def test_eight_bits_are_smaller_load_elsewhere_and_answer_the_same(packed: Path) -> None:
    made = check_export(packed)
    model = AutoModelForCausalLM.from_pretrained(packed)
    source = AutoModelForCausalLM.from_pretrained(SAMPLE)
    ids = torch.from_numpy(probe_of(source.eval()))

    with torch.no_grad():
        same = model(ids).logits.argmax(-1) == source(ids).logits.argmax(-1)

    assert float(same.float().mean()) == pytest.approx(made.comparison.agreement)
    assert made.comparison.agreement > 0.98
    assert made.files["model.safetensors"][1] < 0.65 * made.source_bytes
    assert AutoTokenizer.from_pretrained(packed)("a")["input_ids"]


def test_the_manifest_names_the_source_as_a_certificate_does(packed: Path) -> None:
    import hashlib

    digest = hashlib.sha256((SAMPLE / "model.safetensors").read_bytes()).hexdigest()

    assert check_export(packed).source == {"model.safetensors": digest}


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_changed_file_is_named_and_nothing_is_loaded(
    packed: Path, tmp_path: Path, name: str
) -> None:
    damaged = copy_of(packed, tmp_path / "damaged")
    content = bytearray((damaged / name).read_bytes())
    content[len(content) // 2] ^= 1
    (damaged / name).write_bytes(content)

    with pytest.raises(ExportDamaged, match=name.replace(".", r"\.")):
        check_export(damaged)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", ExportDamaged),
        ('{"version": 99}', ExportError),
        ('{"version": 1, "format": "onnx"}', ExportDamaged),
    ],
)
def test_a_broken_manifest_is_refused(
    packed: Path, tmp_path: Path, text: str, error: type[ExportError]
) -> None:
    broken = copy_of(packed, tmp_path / "broken")
    (broken / MANIFEST).write_text(text)

    with pytest.raises(error):
        check_export(broken)


def test_an_export_that_answers_otherwise_than_it_did_is_rejected(
    packed: Path, tmp_path: Path
) -> None:
    changed = copy_of(packed, tmp_path / "changed")
    manifest = json.loads((changed / MANIFEST).read_text())
    answers = np.asarray(manifest["probe"]["answers"])
    answers[: len(answers) // 2] += 1
    manifest["probe"]["answers"] = answers.tolist()
    (changed / MANIFEST).write_text(json.dumps(manifest))

    with pytest.raises(ExportRejected):
        check_export(changed)


def test_what_answers_too_differently_leaves_the_earlier_export(
    packed: Path, tmp_path: Path
) -> None:
    place = copy_of(packed, tmp_path / "live")
    before = {file.name: file.read_bytes() for file in place.iterdir()}

    with pytest.raises(ExportRejected, match="an earlier export there is intact"):
        export_model(SAMPLE, place, quantization=Quantization.INT4, least_agreement=0.999)

    assert {file.name: file.read_bytes() for file in place.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["live"]


def test_a_new_export_takes_the_place_of_the_old(packed: Path, tmp_path: Path) -> None:
    place = copy_of(packed, tmp_path / "live")

    export_model(SAMPLE, place)

    assert check_export(place).quantization is Quantization.NONE
    assert [path.name for path in tmp_path.iterdir()] == ["live"]


def test_a_folder_with_other_files_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")

    with pytest.raises(ConfigurationError, match="nothing was written"):
        export_model(SAMPLE, tmp_path)

    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_an_adapter_is_folded_into_its_base(tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(SAMPLE)
    settings = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    with peft_warnings_settled():
        adapted = get_peft_model(base, settings)
    adapted.save_pretrained(tmp_path / "adapter")
    AutoTokenizer.from_pretrained(SAMPLE).save_pretrained(tmp_path / "adapter")
    config = tmp_path / "adapter" / "adapter_config.json"
    named = json.loads(config.read_text()) | {"base_model_name_or_path": str(SAMPLE)}
    config.write_text(json.dumps(named))

    made = export_model(tmp_path / "adapter", tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    ids = torch.arange(40)[None]

    with torch.no_grad():
        torch.testing.assert_close(
            merged(ids).logits, adapted.eval()(ids).logits, rtol=1e-4, atol=1e-4
        )
    assert set(made.source) == {"adapter_model.safetensors"}


def saved(model: torch.nn.Module, place: Path) -> Path:
    model.save_pretrained(place)
    AutoTokenizer.from_pretrained(SAMPLE).save_pretrained(place)
    return place


def test_a_classifier_is_compared_by_its_classes(tmp_path: Path) -> None:
    config = BertConfig(
        vocab_size=2048, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=32, num_labels=3,
    )  # fmt: skip
    source = saved(BertForSequenceClassification(config), tmp_path / "source")

    made = export_model(
        source, tmp_path / "made", quantization=Quantization.INT8, least_agreement=0.5
    )

    assert made.is_classifier
    assert made.comparison.positions == 16
    assert made.comparison.perplexity_ratio is None
    assert check_export(tmp_path / "made").is_classifier


def gpt2(place: Path) -> Path:
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    config = GPT2Config(vocab_size=2048, n_positions=32, n_embd=32, n_layer=1, n_head=2, **ends)
    return saved(GPT2LMHeadModel(config), place)


def test_a_model_without_linear_layers_is_not_called_quantized(tmp_path: Path) -> None:
    source = gpt2(tmp_path / "source")

    with pytest.raises(ExportError, match="nothing to quantize"):
        export_model(source, tmp_path / "made", quantization=Quantization.INT8)

    assert not (tmp_path / "made").exists()


@pytest.mark.slow
def test_gpt2_is_quantized_for_onnx_runtime(tmp_path: Path) -> None:
    made = export_model(
        gpt2(tmp_path / "source"),
        tmp_path / "made",
        form=Format.ONNX,
        quantization=Quantization.INT8,
        least_agreement=0.5,
    )

    assert made.comparison.agreement > 0.9
    assert b"MatMulNBits" in (tmp_path / "made" / "model.onnx").read_bytes()


@pytest.mark.parametrize(
    "quantization",
    [
        pytest.param(Quantization.NONE, marks=pytest.mark.slow),
        pytest.param(Quantization.INT8, marks=pytest.mark.slow),
        pytest.param(Quantization.INT4, marks=pytest.mark.slow),
    ],
)
def test_onnx_runtime_answers_any_batch_and_length(
    tmp_path: Path, quantization: Quantization
) -> None:
    import onnxruntime

    made = export_model(SAMPLE, tmp_path / "made", form=Format.ONNX, quantization=quantization)
    session = onnxruntime.InferenceSession(str(tmp_path / "made" / "model.onnx"))
    source = AutoModelForCausalLM.from_pretrained(SAMPLE).eval()
    least = {Quantization.NONE: 1.0, Quantization.INT8: 0.97, Quantization.INT4: 0.75}[quantization]

    for shape in [(1, 5), (3, 17)]:
        ids = torch.randint(0, 2048, shape, generator=torch.Generator().manual_seed(3))
        given = {"input_ids": ids.numpy(), "attention_mask": np.ones_like(ids.numpy())}
        [logits] = session.run(None, given)
        with torch.no_grad():
            expected = source(ids).logits.numpy()
        assert logits.shape == expected.shape
        if quantization is Quantization.NONE:
            np.testing.assert_allclose(logits, expected, atol=1e-3)
    assert made.comparison.agreement >= least
    assert check_export(tmp_path / "made").format is Format.ONNX


def test_the_probe_is_always_the_same() -> None:
    model = AutoModelForCausalLM.from_pretrained(SAMPLE).eval()

    assert (probe_of(model) == probe_of(model)).all()
    assert len(np.unique(probe_of(model))) > 100


def test_figures_of_a_comparison_are_those_of_the_definition() -> None:
    chance = torch.Generator().manual_seed(0)
    a = (torch.randint(0, 100, (2, 3, 5), generator=chance) / 25).numpy()
    b = (torch.randint(0, 100, (2, 3, 5), generator=chance) / 25).numpy()
    ids = torch.randint(0, 5, (2, 3), generator=chance).numpy()
    found = compare(a, b, ids)

    divergences, losses, same = [], {"a": [], "b": []}, 0
    for row in range(2):
        for position in range(3):
            p = np.exp(a[row, position].astype(float))
            q = np.exp(b[row, position].astype(float))
            p, q = p / p.sum(), q / q.sum()
            divergences.append(float(sum(p[k] * np.log(p[k] / q[k]) for k in range(5))))
            same += int(p.argmax() == q.argmax())
            if position < 2:
                losses["a"].append(-np.log(p[ids[row, position + 1]]))
                losses["b"].append(-np.log(q[ids[row, position + 1]]))
    assert found.positions == 6
    assert found.agreement == pytest.approx(same / 6)
    assert found.divergence_mean_nats == pytest.approx(np.mean(divergences))
    assert found.divergence_most_nats == pytest.approx(max(divergences))
    ratio = np.exp(np.mean(losses["b"]) - np.mean(losses["a"]))
    assert found.perplexity_ratio == pytest.approx(ratio)


def test_a_nan_agrees_with_nothing() -> None:
    logits = np.zeros((1, 2, 3), dtype=np.float32)
    broken = logits.copy()
    broken[0, 1, 2] = np.nan

    assert compare(logits, broken, np.zeros((1, 2), dtype=np.int64)).agreement == 0.5


@pytest.mark.parametrize("least", [-0.1, 1.5, float("nan")])
def test_a_share_outside_its_range_is_refused(tmp_path: Path, least: float) -> None:
    with pytest.raises(ConfigurationError, match="least_agreement"):
        export_model(SAMPLE, tmp_path / "made", least_agreement=least)
