"""Count how often each detection rule is right on development data, and write the table.

    python scripts/calibrate_redaction.py DATA [--write]

DATA is the folder of redaction sets (`structured_synthetic`, `presidio_synth`, `tab`, `meddocan`,
`lifebench`), development parts only. A finding is right when at least half of its characters lie in
a mark whose label means the same, or something broader (`label_schemes`). A set speaks only for the
labels that it marks. `--write` replaces `privacy_core/redaction/precision_table.py`; without it
the counts are printed.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from privacy_core.redaction.calibration import RULES, posterior
from privacy_core.redaction.detection import PatternDetector
from privacy_core.redaction.entities import ENTITIES
from privacy_core.redaction.policies import Policy
from privacy_finetuner.context.label_schemes import BROADER, canonical

Mark = tuple[int, int, str]
TABLE = Path(__file__).resolve().parents[1] / "src/privacy_core/redaction/precision_table.py"
SETS = {
    "structured_synthetic": ("structured_synthetic/dev.jsonl",),
    "presidio_synth": ("presidio_synth/dev.jsonl",),
    "tab": ("tab/train.jsonl",),
    "meddocan": ("meddocan/train.jsonl.gz", "meddocan/dev.jsonl.gz"),
    "lifebench": ("lifebench/*.jsonl.gz",),
}


def documents(folder: Path, patterns: tuple[str, ...]) -> Iterator[tuple[str, list[Mark]]]:
    """Texts with their marks, labels as the set spells them."""
    for pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            opener = gzip.open if path.suffix == ".gz" else open
            with opener(path, "rt", encoding="utf-8") as lines:
                for line in lines:
                    row = json.loads(line)
                    if "pii_spans" in row:
                        marks = [(m["start"], m["end"], m["type"]) for m in row["pii_spans"]]
                        yield row["data_to_answer"], marks
                    else:
                        yield row["text"], [(m[0], m[1], m[2]) for m in row["spans"]]


def means(label: str, gold: str) -> bool:
    """Whether a finding's label is the mark's, or a kind of it."""
    return label == gold or gold in BROADER.get(label, ()) or label in BROADER.get(gold, ())


def count(folder: Path) -> tuple[dict[str, tuple[int, int]], dict[str, int]]:
    """(right, seen) for each rule, and the number of texts of each set."""
    detector = PatternDetector()
    everything = Policy("high", frozenset(ENTITIES), 0.0, False)
    right: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    texts: Counter[str] = Counter()
    for name, patterns in SETS.items():
        loaded = list(documents(folder, patterns))
        marked = {canonical(m[2]) for _, marks in loaded for m in marks} - {None}
        for text, marks in loaded:
            texts[name] += 1
            gold = [(a, b, canonical(label)) for a, b, label in marks]
            for f in detector.detect_under(everything, text):
                if f.label == "TIME" or not any(means(f.label, g) for g in marked if g):
                    continue
                seen[f.rule] += 1
                right[f.rule] += any(
                    g is not None
                    and means(f.label, g)
                    and 2 * (min(b, f.end) - max(a, f.start)) >= f.end - f.start
                    for a, b, g in gold
                )
    return {rule: (right[rule], seen[rule]) for rule in sorted(seen)}, dict(texts)


def written(counts: dict[str, tuple[int, int]], texts: dict[str, int]) -> str:
    """The module's source."""
    sets = ", ".join(f"{name} ({n})" for name, n in texts.items())
    rows = "\n".join(
        f'        "{rule}": ({right}, {seen}),' for rule, (right, seen) in counts.items()
    )
    head = '"""How often each rule was right on development data: (right, seen).'
    return f'''{head}

Written by `scripts/calibrate_redaction.py`; do not edit. Sets, with the number of texts:
{sets}.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

COUNTS: Final[Mapping[str, tuple[int, int]]] = MappingProxyType(
    {{
{rows}
    }}
)
'''


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of redaction sets")
    parser.add_argument("--write", action="store_true", help="replace the table")
    arguments = parser.parse_args()
    counts, texts = count(arguments.data)
    for rule, (right, seen) in counts.items():
        print(f"{rule:32} {right:6} of {seen:6}  {posterior(RULES[rule].prior, right, seen):.3f}")
    if arguments.write:
        TABLE.write_text(written(counts, texts), encoding="utf-8")


if __name__ == "__main__":
    main()
