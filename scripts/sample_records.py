"""Write the sample records of the demo: clinical notes and talks about people who do not exist.

The same seed and count give the same bytes. `--public N` prints N general texts instead, the kind
the sample model is pre-trained on.

Example:
    python scripts/sample_records.py --output src/privacy_finetuner/demo/assets
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from random import Random

from sample_text.clinic import kind_of, record_text
from sample_text.patients import Patient, patient
from sample_text.public import public_text

SEED = 20260
COUNT = 2000
HELD_OUT_PART = 5
ASSETS = Path(__file__).resolve().parent.parent / "src/privacy_finetuner/demo/assets"
_RECORDS_PER_PATIENT = {1: 4, 2: 3, 3: 2, 4: 1}
_TRIES = 30
_SHORTEST, _LONGEST = 50, 120  # in the units of `_weight`, close to tokens


def records(*, count: int, seed: int, first_patient: int = 1) -> list[dict[str, str]]:
    """`count` distinct records, each patient owning one to four, in shuffled order."""
    rng = Random(f"records {seed} {first_patient}")  # noqa: S311 - reproducible text
    found: dict[str, str] = {}
    number = first_patient
    while len(found) < count:
        who = patient(rng, number)
        number += 1
        owned = rng.choices(list(_RECORDS_PER_PATIENT), list(_RECORDS_PER_PATIENT.values()))[0]
        for _ in range(min(owned, count - len(found))):
            text = _new_text(rng, who, found)
            found[text] = who.user_id
    rows = [{"text": text, "user_id": user} for text, user in found.items()]
    rng.shuffle(rows)
    return rows


def public_texts(*, count: int, seed: int, kind: str = "") -> Iterator[str]:
    """`count` general texts with nothing private in them, of one kind if `kind` names it."""
    rng = Random(f"public {kind}{seed}")  # noqa: S311 - reproducible text
    for _ in range(count):
        yield public_text(rng, kind)


def write(folder: Path, *, count: int, seed: int) -> None:
    """Write `records.jsonl` and, of other patients, `heldout.jsonl` with a fifth as many."""
    folder.mkdir(parents=True, exist_ok=True)
    sets = {
        "records.jsonl": records(count=count, seed=seed),
        "heldout.jsonl": records(count=count // HELD_OUT_PART, seed=seed, first_patient=count + 1),
    }
    for name, rows in sets.items():
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / name).write_text(lines, encoding="utf-8", newline="\n")


def _new_text(rng: Random, who: Patient, taken: Container[str]) -> str:
    """A record of the right length not in `taken`; a form that keeps failing gives way."""
    while True:
        kind = kind_of(rng, who)
        for _ in range(_TRIES):
            text = record_text(rng, who, kind)
            if _SHORTEST <= _weight(text) <= _LONGEST and text not in taken:
                return text


def _weight(text: str) -> float:
    """Roughly the tokens of `text`: one a digit or mark, some parts a word."""
    marks = sum(not (c.isalpha() or c == " ") for c in text)
    part = 1.45 if "\nPT: " in text or "\nMUM: " in text else 1.9  # the shorthand splits more
    return marks + part * len(re.findall(r"[A-Za-z]+", text))


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the options and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=ASSETS, help="folder for the two files")
    parser.add_argument("--count", type=int, default=COUNT, help="training records (2000)")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of every draw")
    parser.add_argument("--public", type=int, metavar="N", help="print N general texts instead")
    options = parser.parse_args(arguments)
    if options.count < 1:
        parser.error(f"--count must be at least 1, found {options.count}")
    if options.public is None:
        write(options.output, count=options.count, seed=options.seed)
        return
    for text in public_texts(count=options.public, seed=options.seed):
        sys.stdout.write(text + "\n\n")


if __name__ == "__main__":
    main()
