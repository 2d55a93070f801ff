"""Names are nouns of the field, files stay readable, and the prose stays plain."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "src").rglob("*.py"))
PROSE = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]

ADJECTIVES = re.compile(
    r"^(enhanced|advanced|comprehensive|intelligent|autonomous|robust|unified|smart|ultimate|"
    r"improved|new|utils?|helpers?|misc|common)(_|$)|_(v\d+|utils?|final|enhanced)$"
)
EMPTY_ROLES = re.compile(r"(Manager|Engine|Orchestrator|Handler|Helper|Utils?)$")
DOCUMENTED_ROLES = frozenset(
    {"ConfigManager", "PipelineOrchestrator", "SecurityManager", "TestOrchestrator"}
)
HYPE = re.compile(
    r"\b(comprehensive|advanced|robust|revolutionary|enterprise-grade|production-ready)\b", re.I
)
MOST_LINES = 400


def _trees() -> Iterator[tuple[str, ast.Module]]:
    for path in MODULES:
        yield str(path.relative_to(ROOT / "src")), ast.parse(path.read_text())


def test_a_module_is_a_noun_and_fits_a_reader() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in MODULES}

    assert [str(path) for path in MODULES if ADJECTIVES.search(path.stem)] == []
    # Split it: see docs/decisions/0002-limits.md.
    assert [str(path) for path, lines in lengths.items() if lines > MOST_LINES] == []


def test_classes_say_what_they_are_and_public_things_are_documented() -> None:
    managers, silent = [], []
    for name, tree in _trees():
        classes = [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        managers += [
            f"{name}: {c}" for c in classes if EMPTY_ROLES.search(c) and c not in DOCUMENTED_ROLES
        ]
        if not name.endswith("__main__.py") and not ast.get_docstring(tree):
            silent.append(name)
        silent += [
            f"{name}: {node.name}"
            for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
            and not node.name.startswith("_")
            and not ast.get_docstring(node)
        ]

    assert managers == []
    assert silent == []


def test_prose_is_plain() -> None:
    found = {str(path): HYPE.search(path.read_text()) for path in [*MODULES, *PROSE]}

    assert {path: hit[0] for path, hit in found.items() if hit} == {}
