"""How often signs of injection are right and wrong, and what a look costs.

    python benchmarks/injection.py --data DIR [--repeat 5]

DIR holds `injection/crs_vectors.jsonl` (regression vectors of the OWASP Core Rule Set),
`mts_dialog`, `banking77` and `stackexchange_coffee`. The patterns were chosen on one half of the
vectors (by hash); recall is told of the other half. Names, paths and reasons are what people wrote
as such: titles, queries, subjects of commits, paths of files. Prints the tables of
docs/validation.md.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from privacy_runtime.http.injection import Family, InputValidator

ROOT = Path(__file__).resolve().parents[1]
FAMILIES = {
    "sqli": Family.SQL,
    "xss": Family.XSS,
    "path_traversal": Family.PATH,
    "command_injection": Family.COMMAND,
}
Signs = Callable[[str], Sequence[Any]]


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--data", type=Path, required=True)
    asked.add_argument("--repeat", type=int, default=5)
    options = asked.parse_args()
    validator = InputValidator()
    recall(validator.signs, options.data)
    false_alarms(validator.signs, options.data, options.repeat)


def recall(signs: Signs, data: Path) -> None:
    """Of the half that the patterns were not chosen on, each text once."""
    lines = (data / "injection" / "crs_vectors.jsonl").read_text().splitlines()
    rows = {(row["family"], row["text"]): row for row in map(json.loads, lines)}.values()
    print("| Attacks (held-out half) | Texts | Found, as its family | Found, as any |")
    print("|---|---|---|---|")
    total = [0, 0, 0]
    for name, family in FAMILIES.items():
        texts = [
            row["text"]
            for row in rows
            if row["family"] == name and row["label"] == "attack" and is_held_out(row["text"])
        ]
        found = [{sign.family for sign in signs(text)} for text in texts]
        counts = [len(texts), sum(family in each for each in found), sum(map(bool, found))]
        total = [a + b for a, b in zip(total, counts, strict=True)]
        print(f"| {family.value.replace('_', ' ')} | {told(counts)} |")
    print(f"| all | {told(total)} |\n")


def is_held_out(text: str) -> bool:
    return hashlib.sha256(text.encode()).digest()[0] % 2 == 1


def told(counts: list[int]) -> str:
    texts, own, some = counts
    return f"{texts} | {own / texts:.0%} | {some / texts:.0%}"


def false_alarms(signs: Signs, data: Path, repeat: int) -> None:
    """What is no attack, and how long a look takes: the best of some rounds, in CPU time."""
    print("| No attacks | Texts | Characters | False alarms | Microseconds a text |")
    print("|---|---|---|---|---|")
    for name, texts in harmless(data).items():
        wrong = sum(bool(signs(text)) for text in texts)
        best_us = min(timed(signs, texts) for _ in range(repeat))
        length = sum(map(len, texts)) // len(texts)
        share = f"{wrong / len(texts):.2%} ({wrong})"
        print(f"| {name} | {len(texts)} | {length} | {share} | {best_us:.1f} |")


def timed(signs: Signs, texts: Sequence[str]) -> float:
    started = time.process_time()
    for text in texts:
        signs(text)
    return (time.process_time() - started) / len(texts) * 1e6


def harmless(data: Path) -> dict[str, list[str]]:
    banking = [
        row["text"] for part in ("train", "test") for row in table(data, f"banking77/{part}")
    ]
    notes = [row for part in ("train", "validation") for row in table(data, f"mts_dialog/{part}")]
    posts = (data / "stackexchange_coffee" / "posts.jsonl").read_text().splitlines()
    titles = [row["title"] for row in map(json.loads, posts) if row.get("title")]
    sample = ROOT / "src" / "privacy_finetuner" / "demo" / "assets" / "records.jsonl"
    records = [json.loads(line)["text"] for line in sample.read_text().splitlines()]
    sources = sorted((ROOT / "src").rglob("*.py"))
    code = [line.strip() for path in sources for line in path.read_text().splitlines()]
    return {
        "names, paths, reasons: queries of bank customers": banking,
        "names, paths, reasons: titles of questions": titles,
        "names, paths, reasons: paths of files": git("ls-files"),
        "names, paths, reasons: subjects of commits": git("log", "--format=%s"),
        "data: the sample's records": records,
        "data: sections of clinical notes": [row["section_text"] for row in notes],
        "data: dialogues with patients": [row["dialogue"] for row in notes],
        "data: lines of Python": [line for line in code if line],
    }


def table(data: Path, name: str) -> list[dict[str, str]]:
    with (data / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def git(*words: str) -> list[str]:
    command = ["git", *words]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return found.stdout.splitlines()


if __name__ == "__main__":
    main()
