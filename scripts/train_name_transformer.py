"""Train the name model of the level `high`, and export it.

MiniLM-L6 (Apache-2.0; the folder of `model.safetensors` and `tokenizer.json` is `--base`) as a
classifier of words: word embeddings frozen, the token-type embedding used for how a word is written
(small letters, Title, CAPITALS, ...), which an uncased model cannot see otherwise.

    python scripts/train_name_transformer.py train --base FOLDER --data FOLDER --out FOLDER
    python scripts/train_name_transformer.py export --base FOLDER --out FOLDER --assets FOLDER

Training writes a checkpoint every 200 steps and goes on from it. Export needs onnx and onnxruntime.
"""

# ruff: noqa: S311 -- orders from a fixed seed

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import name_corpus
import name_scores
import torch
from name_sets import LABELS
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from privacy_core.redaction import subwords, tokens
from privacy_runtime.names import transformer

TAGS = ["O", *(f"{kind}-{label}" for label in LABELS for kind in "BIES")]
LENGTH = 96
BATCH = 32
SAVE_EVERY = 200


class NameModel(nn.Module):
    """Scores of tags for each piece of a word."""

    def __init__(self, base: Path, attention: str = "eager") -> None:
        super().__init__()
        config = BertConfig.from_pretrained(base)
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
        config.type_vocab_size = len(subwords.CASES)
        config._attn_implementation = attention
        self.body = BertModel(config, add_pooling_layer=False)
        weights = load_file(base / "model.safetensors")
        kind = "embeddings.token_type_embeddings.weight"
        weights[kind] = weights[kind][:1].repeat(len(subwords.CASES), 1)
        missing = self.body.load_state_dict(weights, strict=False).missing_keys
        if [name for name in missing if "position_ids" not in name]:
            raise ValueError(f"{base}: weights are missing: {missing}")
        self.body.embeddings.word_embeddings.weight.requires_grad_(requires_grad=False)
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(config.hidden_size, len(TAGS))

    def forward(self, pieces_BT: Tensor, mask_BT: Tensor, cases_BT: Tensor) -> Tensor:
        """Scores, (B, T, tags)."""
        hidden = self.body(
            input_ids=pieces_BT, attention_mask=mask_BT, token_type_ids=cases_BT
        ).last_hidden_state
        return self.head(self.dropout(hidden))


def sequences(documents: list[Any], tokenizer: Tokenizer) -> list[tuple[list[int], ...]]:
    """Windows of pieces, cases and tags (-100 where a piece does not begin a word)."""
    made = []
    for document in documents:
        words = tokens.tokenize(document.text)
        tags = tokens.encode(words, document.spans)
        pieces = subwords.pieces(words.words, tokenizer)
        for window in subwords.windows(pieces, LENGTH):
            targets = [-100 if word < 0 else TAGS.index(tags[word]) for word in window.words]
            made.append((window.ids, window.cases, targets))
    return made


def train(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = subwords.plain(Tokenizer.from_file(str(Path(arguments.base) / "tokenizer.json")))
    rows = sequences(name_corpus.training(Path(arguments.data), arguments.seed), tokenizer)
    batches = _batches(rows, arguments.epochs, arguments.seed)[: arguments.steps]
    print(len(rows), "windows,", len(batches), "steps", flush=True)
    model = NameModel(Path(arguments.base))
    body = [p for p in model.body.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        [{"params": body, "lr": 2e-4}, {"params": model.head.parameters(), "lr": 1e-3}],
        weight_decay=0.01,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda k: min((k + 1) / 100, max(0.02, 1 - k / len(batches)))
    )
    begin = _resume(out, model, optimizer, schedule)
    started, total = time.monotonic(), 0.0
    model.train()
    for k in range(begin, len(batches)):
        loss = _loss(model, [rows[i] for i in batches[k]])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        total += loss.item()
        if (k + 1) % 50 == 0:
            pace = (time.monotonic() - started) / (k + 1 - begin)
            print(
                f"{k + 1} loss {total / 50:.4f} left {pace * (len(batches) - k) / 60:.1f} min",
                flush=True,
            )
            total = 0.0
        if (k + 1) % SAVE_EVERY == 0 or k + 1 == len(batches):
            _save(out, k + 1, model, optimizer, schedule)


def _batches(rows: list[tuple[list[int], ...]], epochs: int, seed: int) -> list[list[int]]:
    """Rows of like length together, batches in random order: little is padded."""
    chance = random.Random(seed)
    batches = []
    for _ in range(epochs):
        order = sorted(range(len(rows)), key=lambda i: (len(rows[i][0]), chance.random()))
        size = BATCH * LENGTH
        epoch: list[list[int]] = [[]]
        for i in order:
            if (len(epoch[-1]) + 1) * len(rows[i][0]) > size:
                epoch.append([])
            epoch[-1].append(i)
        chance.shuffle(epoch)
        batches += epoch
    return batches


def _loss(model: NameModel, rows: list[tuple[list[int], ...]]) -> Tensor:
    width = max(len(row[0]) for row in rows)
    padded = [
        torch.tensor([row[k] + [fill] * (width - len(row[k])) for row in rows])
        for k, fill in ((0, 0), (1, 0), (2, -100))
    ]
    mask = torch.tensor([[1] * len(row[0]) + [0] * (width - len(row[0])) for row in rows])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = model(padded[0], mask, padded[1])
    return nn.functional.cross_entropy(scores.float().flatten(0, 1), padded[2].flatten())


def _save(out: Path, step: int, model: Any, optimizer: Any, schedule: Any) -> None:
    state = {
        "step": step,
        "model": {k: v for k, v in model.state_dict().items() if "word_embeddings" not in k},
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
    }
    torch.save(state, out / "checkpoint.tmp")
    (out / "checkpoint.tmp").replace(out / "checkpoint.pt")


def _resume(out: Path, model: Any, optimizer: Any = None, schedule: Any = None) -> int:
    path = out / "checkpoint.pt"
    if not path.is_file():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"], strict=False)
    if optimizer is not None:
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
    return int(state["step"])


def export(arguments: argparse.Namespace) -> None:
    """Write `transformer.onnx` (int8) and `transformer.json` (vocabulary and tags)."""
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415

    out, assets = Path(arguments.out), Path(arguments.assets)
    model = NameModel(Path(arguments.base)).eval()
    step = _resume(out, model)
    ones = torch.ones(2, 8, dtype=torch.int64)
    axes = {name: {0: "batch", 1: "length"} for name in ("pieces", "mask", "cases", "scores")}
    torch.onnx.export(
        model,
        (ones, ones, ones),
        str(out / "model.onnx"),
        input_names=["pieces", "mask", "cases"],
        output_names=["scores"],
        dynamic_axes=axes,
        opset_version=17,
        dynamo=False,
    )
    quantize_dynamic(
        out / "model.onnx",
        assets / "transformer.onnx",
        weight_type=QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=["MatMul", "Gather"],
    )
    vocabulary = (Path(arguments.base) / "vocab.txt").read_text(encoding="utf-8").splitlines()
    document = {"tags": TAGS, "steps": step, "vocabulary": vocabulary}
    description = assets / "transformer.json"
    _write_json(description, document)
    held = name_scores.fair(name_corpus.held_out(Path(arguments.data)))
    document["confidence"] = name_scores.confidence_tables(_loaded(assets), held)
    _write_json(description, document)
    print("step", step, (assets / "transformer.onnx").stat().st_size / 1e6, "MB")
    name_scores.report(_loaded(assets), held)


def _loaded(assets: Path) -> transformer.TransformerTagger:
    files = (assets / name for name in ("transformer.onnx", "transformer.json"))
    return transformer.load(*(file.read_bytes() for file in files))


def _write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("act", choices=("train", "export"))
    parser.add_argument("--base", required=True)
    parser.add_argument("--data", default="../shared/data/redaction")
    parser.add_argument("--out", required=True)
    parser.add_argument("--assets", default="src/privacy_runtime/names/assets")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--steps", type=int, help="stop after so many, with the rate at its end")
    arguments = parser.parse_args()
    {"train": train, "export": export}[arguments.act](arguments)


if __name__ == "__main__":
    main()
