"""Detection of personal data by patterns: ours and Presidio's default recognisers, in one run.

    python benchmarks/redaction.py [--peer PYTHON] [--prose FILE] [--quality FILE] [--level medium] [--json]

Make the peer's environment once, apart from ours, and name its interpreter:

    python -m venv presidio && presidio/bin/pip install presidio-analyzer==2.2.366
    python benchmarks/redaction.py --peer presidio/bin/python

Presidio runs its default registry on a blank spaCy model (no download), threshold 0.4, conflicts
resolved by score. Documents have about 1,024 characters: `dense` holds four to five values each,
`prose` is `--prose FILE`, or the repository's documentation without code (83 documents: too few to
warm an automaton up, a cold start is what they show). A third of them warms both up; every other
document is timed once, so nothing is read twice. Times are CPU seconds of one process: on a machine
that does other things wall clock measures those. `--quality` scores both on JSON lines of
{"text", "spans": [[start, end, label]]}: typed, intersection over union at least a half, labels
that the file marks only.
"""

# ruff: noqa: E501 -- one value of the documents a line

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

START = time.perf_counter()
from privacy_core.redaction.detection import PatternDetector  # noqa: E402 -- its import is timed

IMPORT_S = time.perf_counter() - START

from privacy_core.redaction.findings import Finding  # noqa: E402
from privacy_finetuner.context.label_schemes import BROADER, canonical  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
SIZE, COUNT = 1024, 1500
Span = tuple[int, int, str]
ADVERSARIAL = {
    "4 KB of dots": "." * 4_000,
    "16 KB of `a:`": "a:" * 8_000,
    "20 KB of `1:`": "1:" * 10_000,
    "20 KB of `A1`": "A1" * 10_000,
    "20 KB of `GB12 `": "GB12 " * 4_000,
}
LARGE = {
    "100 KB of `2004 `": "2004 " * 20_000,
    "100 KB of `A1`": "A1" * 50_000,
    "100 KB of `1 `": "1 " * 50_000,
    "100 KB of cards": "4111 1111 1111 1111 " * 5_000,
}


def prose(path: Path | None = None) -> list[str]:
    """Texts of a file, or the documentation's paragraphs, cut into documents."""
    if path is not None:
        rows = path.read_text(encoding="utf-8").splitlines()
        return [json.loads(row)["text"] for row in rows][:COUNT]
    paragraphs = []
    for page in sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]):
        blocks = page.read_text(encoding="utf-8").split("```")[::2]
        paragraphs += [
            p for b in blocks for p in b.split("\n\n") if p.count(" ") > 12 and "|" not in p
        ]
    text = " ".join(" ".join(p.split()) for p in paragraphs)
    return [text[k : k + SIZE] for k in range(0, len(text) - SIZE, SIZE)][:COUNT]


def dense(fill: Sequence[str]) -> list[str]:
    """Documents of prose with four or five values each."""
    rng = np.random.default_rng(11)
    sentences = " ".join(fill).split(". ")
    values: tuple[Callable[[], str], ...] = (
        lambda: (
            f"Call +44 20 7946 0{rng.integers(100, 999)} or write to u{rng.integers(999)}@example.org"
        ),
        lambda: (
            f"Card 4111 1111 1111 1111 was charged on {rng.integers(1, 28)}/0{rng.integers(1, 9)}/2019"
        ),
        lambda: (
            f"Her SSN is {rng.integers(100, 660)}-{rng.integers(10, 99)}-{rng.integers(1000, 9999)}"
        ),
        lambda: (
            f"Login from 192.168.{rng.integers(255)}.{rng.integers(255)} on March {rng.integers(1, 28)}, 2021"
        ),
        lambda: f"Wire to GB29 NWBK 6016 1331 9268 19, ref {rng.integers(1000, 9999)}",
        lambda: f"See https://example.com/u/{rng.integers(9999)} for the record",
    )
    made = []
    for _ in range(COUNT):
        parts = [values[k]() for k in rng.permutation(len(values))[:3]]
        while len(". ".join(parts)) < SIZE:
            parts.append(sentences[rng.integers(len(sentences))])
        made.append(". ".join(parts[k] for k in rng.permutation(len(parts)))[: SIZE + 40])
    return made


def speed(find: Callable[[str], object], texts: Sequence[str]) -> list[float]:
    """Seconds of each document after the first tenth."""
    for text in texts[: len(texts) // 3]:
        find(text)
    timed = []
    for text in texts[len(texts) // 3 :]:
        start = time.process_time()
        find(text)
        timed.append(time.process_time() - start)
    return timed


def summary(texts: Sequence[str], seconds: Sequence[float]) -> dict[str, float]:
    read = sum(len(t.encode()) for t in texts[len(texts) // 3 :])
    return {
        "megabytes_per_s": read / sum(seconds) / 1e6,
        "p50_ms": float(np.percentile(seconds, 50)) * 1e3,
        "p99_ms": float(np.percentile(seconds, 99)) * 1e3,
    }


def load(path: Path) -> list[tuple[str, list[Span]]]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    named = []
    for row in rows:
        marks = [(s[0], s[1], canonical(s[2])) for s in row["spans"]]
        named.append((row["text"], [(a, b, label) for a, b, label in marks if label]))
    return named


def meant(label: str, marked: set[str]) -> str | None:
    """The marked label that a finding's label stands for; None: the file does not mark it."""
    if label in marked:
        return label
    return next((broad for broad in BROADER.get(label, ()) if broad in marked), None)


def quality(texts: list[tuple[str, list[Span]]], found: Sequence[Sequence[Span]]) -> dict[str, Any]:
    """Per label and together: precision, recall, F1, n."""
    marked = {label for _, gold in texts for *_, label in gold}
    right: Counter[str] = Counter()
    gold_n: Counter[str] = Counter()
    found_n: Counter[str] = Counter()
    for (_, gold), spans in zip(texts, found, strict=True):
        mine = [(a, b, m) for a, b, label in spans if (m := meant(label, marked))]
        found_n.update(label for *_, label in mine)
        gold_n.update(label for *_, label in gold)
        for a, b, label in gold:
            for span in mine:
                shared = min(b, span[1]) - max(a, span[0])
                if span[2] == label and 2 * shared >= max(b, span[1]) - min(a, span[0]):
                    right[label] += 1
                    mine.remove(span)
                    break

    def row(r: int, f: int, n: int) -> dict[str, float]:
        return {
            "precision": r / f if f else 0.0,
            "recall": r / n if n else 0.0,
            "f1": 2 * r / (f + n) if f + n else 0.0,
            "n": n,
        }

    entities = {k: row(right[k], found_n[k], gold_n[k]) for k in sorted(gold_n)}
    return {"micro": row(right.total(), found_n.total(), gold_n.total()), "entities": entities}


def peer_label(label: str) -> str:
    try:
        return canonical(label) or label
    except ValueError:
        return label


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    detector = PatternDetector()
    detector.detect("warm up")
    fill = prose(arguments.prose)
    sets = {"dense": dense(fill), "prose": fill}
    graded = load(arguments.quality) if arguments.quality else []

    def find(text: str) -> tuple[Finding, ...]:
        return detector.detect(text, level=arguments.level)

    ours: dict[str, Any] = {n: summary(t, speed(find, t)) for n, t in sets.items()}
    ours["import_s"] = IMPORT_S
    ours["adversarial_s"] = {n: sum(speed(find, [t])) for n, t in {**ADVERSARIAL, **LARGE}.items()}
    ours["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    report: dict[str, Any] = {"ours": ours, "documents": {n: len(t) for n, t in sets.items()}}
    if graded:
        high = [
            [(f.start, f.end, f.label) for f in detector.detect(t, level="high")] for t, _ in graded
        ]
        ours["quality"] = quality(graded, high)
    if arguments.peer:
        job = {"speed": sets, "quality": [t for t, _ in graded], "adversarial": ADVERSARIAL}
        script = Path(__file__).with_name("redaction_peer.py")
        done = subprocess.run(
            [arguments.peer, str(script)],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            check=True,
        )
        answer = json.loads(done.stdout)
        peer: dict[str, Any] = {n: summary(t, answer["seconds"][n]) for n, t in sets.items()}
        peer["adversarial_s"] = answer["adversarial"]
        if graded:
            spans = [[(a, b, peer_label(n)) for a, b, n in each] for each in answer["spans"]]
            peer["quality"] = quality(graded, spans)
        report["presidio"] = peer
        report["times_faster"] = {
            n: ours[n]["megabytes_per_s"] / peer[n]["megabytes_per_s"] for n in sets
        }
    return report


def shown(report: dict[str, Any]) -> None:
    for who in ("ours", "presidio"):
        for name in report["documents"] if who in report else ():
            s = report[who][name]
            print(
                f"| {who} | {name} | {s['megabytes_per_s']:.2f} | {s['p50_ms']:.3f} | {s['p99_ms']:.3f} |"
            )
    for name, times in report.get("times_faster", {}).items():
        print(f"{name}: {times:.1f} times as fast")
    for who in ("ours", "presidio"):
        for name, seconds in report.get(who, {}).get("adversarial_s", {}).items():
            print(f"| {who} | {name} | {seconds:.3f} s |")
        graded = report.get(who, {}).get("quality")
        for label, q in {**graded["entities"], "MICRO": graded["micro"]}.items() if graded else ():
            row = f"{q['precision']:.3f} | {q['recall']:.3f} | {q['f1']:.3f} | {q['n']}"
            print(f"| {who} | {label} | {row} |")
    print(
        f"import {report['ours']['import_s']:.2f} s, peak {report['ours']['peak_memory_mb']:.0f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="interpreter of an environment with presidio-analyzer")
    parser.add_argument(
        "--quality", type=Path, help="JSON lines of text and spans to score both on"
    )
    parser.add_argument("--prose", type=Path, help="JSON lines of {text} to read as prose")
    parser.add_argument("--level", default="medium", choices=("low", "medium", "high"))
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    arguments = parser.parse_args()
    report = measure(arguments)
    if arguments.json:
        json.dump(report, sys.stdout, indent=2)
    else:
        shown(report)


if __name__ == "__main__":
    main()
