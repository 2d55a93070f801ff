"""Quality and throughput of the shipped name models, and of the whole default tier with patterns.

    python benchmarks/names.py [--data FOLDER] [--level medium|high] [--quality] [--peer PYTHON]

Throughput: 1 KB documents of two kinds (dense: names in every sentence; prose: LifeBench slices),
one thread, processor time and wall time, after 100 documents that warm the memory of words. With
`--peer PYTHON`, an interpreter that has presidio-analyzer (see redaction.py), its default
recognisers run on the same documents in the same run, with a blank spaCy pipeline.

Quality (`--quality`): the parts of the development sets that no model was trained on
(scripts/name_corpus.py), F1 at an intersection over union of one half.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

SIZE = 1000
WARM, COUNT = 100, 300


def slices(folder: Path) -> dict[str, list[str]]:
    """Documents of about a thousand characters."""
    prose = ""
    with gzip.open(folder / "lifebench" / "yuxiaowei.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            prose += json.loads(line)["data_to_answer"] + "\n"
            if len(prose) > (WARM + COUNT) * SIZE:
                break
    dense = ""
    with (folder / "presidio_synth" / "dev.jsonl").open(encoding="utf-8") as file:
        for line in file:
            dense += json.loads(line)["text"] + "\n"
    dense *= 1 + (WARM + COUNT) * SIZE // len(dense)
    return {
        name: [text[k * SIZE : (k + 1) * SIZE] for k in range(WARM + COUNT)]
        for name, text in (("dense", dense), ("prose", prose))
    }


def timed(act: Callable[[str], object], documents: Sequence[str]) -> dict[str, float]:
    """Throughput and latencies of one call a document."""
    for document in documents[:WARM]:
        act(document)
    walls = []
    cpu = time.process_time()
    for document in documents[WARM:]:
        began = time.perf_counter()
        act(document)
        walls.append(1000 * (time.perf_counter() - began))
    cpu = time.process_time() - cpu
    return {
        "kb_per_s_cpu": len(walls) * SIZE / 1000 / cpu,
        "kb_per_s_wall": len(walls) * SIZE / sum(walls),
        "p50_ms": statistics.median(walls),
        "p99_ms": statistics.quantiles(walls, n=100)[98],
    }


def peer(python: str, documents: dict[str, list[str]]) -> dict[str, dict[str, float]]:
    """Presidio's patterns, in its own environment."""
    done = subprocess.run(
        [python, __file__, "--as-peer"],
        input=json.dumps(documents),
        capture_output=True,
        text=True,
        check=True,
    )
    result: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return result


def be_peer() -> None:
    """What `peer` runs: documents on standard input, figures on standard output."""
    import logging

    import spacy
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import SpacyNlpEngine

    logging.disable(logging.CRITICAL)

    class Blank(SpacyNlpEngine):
        def __init__(self) -> None:
            super().__init__()
            self.nlp = {"en": spacy.blank("en")}

    engine = AnalyzerEngine(nlp_engine=Blank())
    documents = json.load(sys.stdin)
    rows = {
        k: timed(lambda text: engine.analyze(text, language="en"), documents[k]) for k in documents
    }
    print(json.dumps(rows))


def throughput(folder: Path, level: str, python: str | None) -> dict[str, Any]:
    """Figures for each engine and kind of document."""
    from privacy_core.redaction.detection import PatternDetector
    from privacy_runtime.names import shipped

    # Each with its own memory of words: what one has seen, the other has not.
    names, whole, patterns = shipped(level), PatternDetector(shipped(level)), PatternDetector()
    engines: dict[str, Callable[[str], object]] = {
        "patterns": lambda text: patterns.detect(text, level=level),
        "names": names.tag,
        "patterns + names": lambda text: whole.detect(text, level=level),
    }
    documents = slices(folder)
    rows = {
        kind: {name: timed(act, documents[kind]) for name, act in engines.items()}
        for kind in documents
    }
    for kind, figures in (peer(python, documents) if python else {}).items():
        rows[kind]["presidio patterns"] = figures
    return rows


def quality(folder: Path, level: str) -> dict[str, Any]:
    """F1 by set and label, of the name models alone."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
    import name_scores
    import name_sets

    from privacy_core.redaction.scoring import characters, typed
    from privacy_runtime.names import shipped

    held = [d for d in name_sets.documents(folder) if d.held_out]
    result: dict[str, Any] = {}
    for source in sorted({d.source for d in held}):
        texts = name_scores.marked(shipped(level), [d for d in held if d.source == source])
        scores = typed(texts)
        result[source] = {
            "micro_f1": scores.micro.f1,
            "character_recall": characters(texts).recall,
            **{label: (score.f1, score.n) for label, score in scores.entities.items()},
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/redaction"))
    parser.add_argument("--level", default="medium")
    parser.add_argument("--quality", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--peer", metavar="PYTHON")
    parser.add_argument("--as-peer", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.as_peer:
        be_peer()
        return
    rows = (
        quality(arguments.data, arguments.level)
        if arguments.quality
        else throughput(arguments.data, arguments.level, arguments.peer)
    )
    document = {"level": arguments.level, **rows}
    if arguments.json:
        print(json.dumps(document, indent=1))
        return
    for kind, rows in document.items():
        print(kind, rows if not isinstance(rows, dict) else "")
        if isinstance(rows, dict):
            for name, values in rows.items():
                print(f"  {name:18}", _line(values))


def _line(values: Any) -> str:
    if isinstance(values, dict):
        return "  ".join(f"{key} {value:8.2f}" for key, value in values.items())
    return f"{values[0]:.3f} (n {values[1]})" if isinstance(values, tuple) else f"{values:.3f}"


if __name__ == "__main__":
    main()
