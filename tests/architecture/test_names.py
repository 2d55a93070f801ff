"""Names are nouns of the field, files stay readable, and the prose stays plain."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "src").rglob("*.py"))
PROSE = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]

ADJECTIVES = re.compile(
    r"^(enhanced|advanced|comprehensive|intelligent|autonomous|robust|unified|smart|ultimate|"
    r"improved|new|utils?|helpers?|misc|common)(_|$)|_(v\d+|utils?|final|enhanced)$"
)
EMPTY_ROLES = re.compile(r"(Manager|Engine|Orchestrator|Handler|Helper|Utils?)$")
DOCUMENTED_ROLES = frozenset({"ConfigManager", "PipelineOrchestrator", "TestOrchestrator"})
HYPE = re.compile(
    r"\b(comprehensive|advanced|robust|revolutionary|enterprise-grade|production-ready)\b", re.I
)
MOST_LINES = 400


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT / "src"))


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_a_module_is_a_noun_and_fits_a_reader(path: Path) -> None:
    lines = len(path.read_text().splitlines())

    assert not ADJECTIVES.search(path.stem)
    assert lines <= MOST_LINES, "split it: see docs/decisions/0002-limits.md"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_a_class_says_what_it_is_not_that_it_manages(path: Path) -> None:
    tree = ast.parse(path.read_text())
    classes = [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]

    assert [c for c in classes if EMPTY_ROLES.search(c) and c not in DOCUMENTED_ROLES] == []


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_public_things_are_documented(path: Path) -> None:
    tree = ast.parse(path.read_text())
    public = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]

    assert path.stem == "__main__" or ast.get_docstring(tree)
    assert [node.name for node in public if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("path", [*MODULES, *PROSE], ids=str)
def test_prose_is_plain(path: Path) -> None:
    assert not HYPE.search(path.read_text())
