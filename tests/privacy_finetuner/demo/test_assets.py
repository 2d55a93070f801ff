"""The sample that ships with the demo: records that belong to nobody, and a model that loads."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
ASSETS = ROOT / "src/privacy_finetuner/demo/assets"
SCRIPT = ROOT / "scripts/sample_records.py"
MODEL = ASSETS / "model"


def read(name: str, folder: Path = ASSETS) -> list[dict[str, str]]:
    lines = (folder / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def generate(*options: str) -> str:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *options],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return pytest.importorskip("transformers").AutoTokenizer.from_pretrained(MODEL)


@pytest.mark.slow
def test_the_script_reproduces_the_shipped_records_byte_for_byte(tmp_path: Path) -> None:
    generate("--output", str(tmp_path))
    for name in ("records.jsonl", "heldout.jsonl"):
        assert (tmp_path / name).read_bytes() == (ASSETS / name).read_bytes()


def test_another_seed_gives_other_records_and_count_is_kept(tmp_path: Path) -> None:
    generate("--output", str(tmp_path), "--count", "25", "--seed", "7")
    rows = read("records.jsonl", tmp_path)
    assert len(rows) == 25
    assert len(read("heldout.jsonl", tmp_path)) == 5
    assert rows != read("records.jsonl")[:25]


def test_held_out_patients_are_not_in_the_training_records() -> None:
    train, held_out = read("records.jsonl"), read("heldout.jsonl")
    assert (len(train), len(held_out)) == (2000, 400)
    assert not {r["user_id"] for r in train} & {r["user_id"] for r in held_out}
    assert not {r["text"] for r in train} & {r["text"] for r in held_out}
    record_numbers = [set(re.findall(r"ZZ-\d{6}", json.dumps(rows))) for rows in (train, held_out)]
    assert not record_numbers[0] & record_numbers[1]


def test_a_patient_owns_one_to_four_records_and_some_own_several() -> None:
    owned = Counter(row["user_id"] for row in read("records.jsonl"))
    assert set(owned.values()) == {1, 2, 3, 4}


def test_every_telephone_and_record_number_belongs_to_nobody() -> None:
    text = "\n".join(row["text"] for row in read("records.jsonl") + read("heldout.jsonl"))
    assert re.search(r"\([2-8]9\d\) 555-01\d\d", text)
    assert not re.search(r"555-(?!01\d\d)", text)
    assert not re.search(r"\(\d{3}\) (?!555-01)", text)
    assert not re.search(r"(?<!ZZ-)(?<!\d)\d{6}(?!\d)", text)
    assert "@" not in text


def test_no_slot_or_choice_is_left_unfilled() -> None:
    for row in read("records.jsonl") + read("heldout.jsonl"):
        assert set(row) == {"text", "user_id"}
        assert not re.search(r"[{}\[\]|]", row["text"]), row["user_id"]


def test_body_mass_index_agrees_with_weight_and_height() -> None:
    pattern = re.compile(r"wt (\d+) kg, ht (\d+) cm, BMI ([\d.]+)")
    found = [m for row in read("records.jsonl") for m in pattern.findall(row["text"])]
    assert len(found) > 50
    for weight, height, index in found:
        assert float(index) == pytest.approx(int(weight) / (int(height) / 100) ** 2, abs=0.051)


def test_the_files_are_small() -> None:
    assert sum((ASSETS / n).stat().st_size for n in ("records.jsonl", "heldout.jsonl")) < 1_500_000
    assert sum(path.stat().st_size for path in MODEL.iterdir()) < 2_100_000
    assert (MODEL / "model.safetensors").stat().st_size < 2_000_000


def test_general_texts_have_nothing_of_the_clinic() -> None:
    text = generate("--public", "400", "--seed", "3")
    assert len(text) > 50_000
    assert not re.search(r"ZZ-|LFC|NKDA \d|RV \d/|555-01|^(DR|PT):", text, re.MULTILINE)


def test_the_tokenizer_loses_nothing_and_splits_digits(tokenizer: Any) -> None:
    hard = "Café 37.5 °C\n\tZZ-104417  two  spaces, £5, 日本, \U0001f600"
    for text in [hard, *(row["text"] for row in read("heldout.jsonl"))]:
        ids = tokenizer(text)["input_ids"]
        assert ids[0] == tokenizer.bos_token_id
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert len(tokenizer.tokenize("4821")) == 4


def test_records_fit_the_context_and_are_short(tokenizer: Any) -> None:
    lengths = sorted(
        len(i) for i in tokenizer([r["text"] for r in read("records.jsonl")])["input_ids"]
    )
    assert lengths[-1] <= 160
    assert lengths[int(0.94 * len(lengths))] <= 128


def test_the_model_loads_offline_and_is_a_small_llama_with_grouped_queries(tokenizer: Any) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(MODEL, local_files_only=True)
    assert model.config.model_type == "llama"
    assert model.config.num_key_value_heads < model.config.num_attention_heads
    assert model.dtype == torch.float32
    prompt = tokenizer("Once upon a time", return_tensors="pt")
    with torch.no_grad():
        assert model(**prompt).logits.isfinite().all()
