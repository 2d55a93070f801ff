"""`docs/security.md` has a line for every requirement, and every test that it names exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = ROOT / "docs" / "security.md"
PLACES = {
    "privacy_runtime/": "tests/privacy_runtime/",
    "api/": "tests/privacy_finetuner/api/",
    "dashboard/": "tests/privacy_finetuner/dashboard/",
}
# How many requirements of levels 1 and 2 each section of ASVS 5.0.0 has; they are numbered from 1.
SECTIONS = {
    "1.1": 2, "1.2": 9, "1.3": 11, "1.4": 3, "1.5": 2, "2.1": 3, "2.2": 3, "2.3": 4, "2.4": 1,
    "3.2": 2, "3.3": 4, "3.4": 6, "3.5": 5, "3.7": 2, "4.1": 3, "4.2": 1, "4.3": 2, "4.4": 4,
    "5.1": 1, "5.2": 3, "5.3": 2, "5.4": 3, "6.1": 3, "6.2": 12, "6.3": 4, "6.4": 4, "6.5": 5,
    "6.6": 3, "6.8": 4, "7.1": 3, "7.2": 4, "7.3": 2, "7.4": 5, "7.5": 2, "7.6": 2, "8.1": 2,
    "8.2": 3, "8.3": 1, "8.4": 1, "9.1": 3, "9.2": 4, "10.1": 2, "10.2": 2, "10.3": 4, "10.4": 11,
    "10.5": 5, "10.6": 2, "10.7": 3, "11.1": 2, "11.2": 3, "11.3": 3, "11.4": 4, "11.5": 1,
    "11.6": 1, "12.1": 3, "12.2": 2, "12.3": 4, "13.1": 1, "13.2": 5, "13.3": 2, "13.4": 5,
    "14.1": 2, "14.2": 4, "14.3": 3, "15.1": 3, "15.2": 3, "15.3": 7, "16.1": 1, "16.2": 5,
    "16.3": 4, "16.4": 3, "16.5": 3, "17.1": 1, "17.2": 4, "17.3": 2,
}  # fmt: skip
ROW = re.compile(
    r"^\| (\d+\.\d+\.\d+) \| (test|reason|none|operator|gap) \| (.+) \|$", re.MULTILINE
)


def test_every_requirement_has_one_line() -> None:
    rows = ROW.findall(DOCUMENT.read_text())
    wanted = [f"{section}.{n}" for section, count in SECTIONS.items() for n in range(1, count + 1)]
    assert len(wanted) == 253
    assert [row[0] for row in rows] == wanted


def test_every_test_that_is_named_exists() -> None:
    text = DOCUMENT.read_text()
    missing = []
    for short, name in re.findall(
        r"`((?:privacy_runtime|api|dashboard)/[\w/]+\.py)(?:::(test_\w+))?`", text
    ):
        root = short.split("/", 1)[0] + "/"
        path = ROOT / (PLACES[root] + short.removeprefix(root))
        if not path.is_file() or (name and f"def {name}(" not in path.read_text()):
            missing.append(f"{short}::{name}")
    assert missing == []


def test_a_line_that_says_test_names_one_and_a_gap_is_told_first() -> None:
    text = DOCUMENT.read_text()
    rows = ROW.findall(text)
    assert [row[0] for row in rows if row[1] == "test" and "::test_" not in row[2]] == []
    gaps = {row[0] for row in rows if row[1] == "gap"}
    told = set(re.findall(r"^\| (\d+\.\d+\.\d+) \| [^|]+ \|$", text, re.MULTILINE))
    assert gaps == told
