"""The documentation is true: what it shows runs, what it names exists, what it links is there."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from privacy_finetuner.cli.app import app
from privacy_finetuner.errors import PrivacyError

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
MAP = re.compile(r"## The map\n.*?```text\n(.*?)```", re.DOTALL)
BLOCK = re.compile(r"(?:<!-- (run(?:: slow)?) -->\n)?```(\w+)\n(.*?)```", re.DOTALL)
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
"""Inline code."""
FENCE = re.compile(r"```.*?```", re.DOTALL)
FILE = re.compile(r"[\w./-]+/[\w.-]+\.(?:py|md|json|toml|jsonl)|\w+\.py")
OPTION = re.compile(r"--[a-z][a-z-]*")
COMMAND_ROW = re.compile(r"^\| `privacy-finetuner ([a-z -]+)` \| works \|(.*)\|$", re.MULTILINE)

# Files that a run writes, and files that the requirement documents name: not of this tree.
ELSEWHERE = re.compile(
    r"^(core/(circuit|valid|fault|enhanced)|security/|utils/|monitoring/|checkpoint-)"
)
GENERATED = {"certificate.json", "statement.json", "privacy_report.json", "training_result.json"}


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Path
    number: int
    language: str
    marker: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}-{self.number}"


def _blocks() -> list[Block]:
    return [
        Block(page, number, match[2], match[1] or "", match[3])
        for page in PAGES
        for number, match in enumerate(BLOCK.finditer(page.read_text()), start=1)
    ]


PYTHON = [block for block in _blocks() if block.language == "python"]
SHELL = sorted(
    {
        line
        for block in _blocks()
        if block.language == "sh"
        for line in block.text.splitlines()
        if line.startswith("privacy-finetuner")
    }
)


def _runs() -> list[Any]:
    """A page's blocks run one after the other in one process; slow ones each in their own."""
    together: dict[str, list[Block]] = {}
    for block in PYTHON:
        is_slow = block.marker == "run: slow"
        name = block.name if is_slow else str(block.page.relative_to(ROOT))
        together.setdefault(name, []).append(block)
    return [
        pytest.param(
            blocks, id=name, marks=[pytest.mark.slow] if blocks[0].marker == "run: slow" else []
        )
        for name, blocks in together.items()
    ]


# Each block is a program of its own, in a folder of its own; only the imports are shared.
ONE_BY_ONE = """
import contextlib, io, json, os, pathlib, runpy, sys, traceback

for folder in map(pathlib.Path, sys.argv[1:]):
    os.chdir(folder)
    said, wrong = io.StringIO(), ""
    with contextlib.redirect_stdout(said):
        try:
            runpy.run_path("block.py", run_name="__main__")
        except BaseException:
            wrong = traceback.format_exc()
    (folder / "outcome.json").write_text(json.dumps([said.getvalue(), wrong]))
"""


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.name)
def test_every_python_block_compiles_and_says_whether_it_runs(block: Block) -> None:
    compile(block.text, block.name, "exec")

    assert block.marker in {"run", "run: slow"}


@pytest.mark.parametrize("blocks", _runs())
def test_every_python_block_runs_as_it_stands(blocks: list[Block], tmp_path: Path) -> None:
    folders = [tmp_path / str(block.number) for block in blocks]
    for folder, block in zip(folders, blocks, strict=True):
        folder.mkdir()
        (folder / "block.py").write_text(block.text)
    done = subprocess.run(
        [sys.executable, "-c", ONE_BY_ONE, *map(str, folders)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for folder, block in zip(folders, blocks, strict=True):
        said, wrong = json.loads((folder / "outcome.json").read_text())
        assert not wrong, f"{block.name}: {wrong[-2000:]}"
        assert said.strip(), f"{block.name} prints nothing"


def _command(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the words name, and the words that are left for it."""
    found: Any = typer.main.get_command(app)
    while words and words[0] in getattr(found, "commands", {}):
        found, words = found.commands[words[0]], words[1:]
    return found, words


def _options(command: Any) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts} | {"--help"}


@pytest.mark.parametrize("line", SHELL)
def test_every_command_line_names_a_command_and_options_that_exist(line: str) -> None:
    command, rest = _command(shlex.split(line)[1:])
    required = {p.opts[0] for p in command.params if p.required and p.opts[0].startswith("--")}
    used = {word for word in rest if word.startswith("--")}

    assert not hasattr(command, "commands"), "a group, not a command"
    assert used - _options(command) == set()
    assert required - used == set()


def test_the_page_on_compatibility_lists_every_command_with_every_option() -> None:
    rows = dict(COMMAND_ROW.findall((ROOT / "docs" / "compatibility.md").read_text()))
    listed = {name.strip(): set(OPTION.findall(options)) for name, options in rows.items()}

    def leaves(command: Any, path: str) -> dict[str, set[str]]:
        inside = getattr(command, "commands", None)
        if inside is None:
            options = {o for o in _options(command) if o.startswith("--")}
            return {path: options - {"--json", "--help"}}
        found: dict[str, set[str]] = {}
        for name, child in inside.items():
            found |= leaves(child, f"{path} {name}".strip())
        return found

    assert listed == leaves(typer.main.get_command(app), "")


def _map() -> list[str]:
    found = MAP.search((ROOT / "README.md").read_text())
    assert found is not None
    return [line.split()[0] for line in found[1].splitlines() if line.strip()]


@pytest.mark.parametrize("path", _map())
def test_every_place_on_the_map_exists(path: str) -> None:
    place = ROOT / "src" / path

    assert place.is_dir() if path.endswith("/") else place.is_file()


def test_every_room_is_on_the_map() -> None:
    packages = [p for p in (ROOT / "src").iterdir() if (p / "__init__.py").exists()]
    rooms = {
        f"{package.name}/{room.name}" + ("/" if room.is_dir() else "")
        for package in packages
        for room in package.iterdir()
        if (room / "__init__.py").exists() or (room.suffix == ".py" and room.stem[0] != "_")
    }

    assert rooms - set(_map()) == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    targets = [link.partition("#")[0] for link in LINK.findall(page.read_text())]
    local = [t for t in targets if t and not re.match(r"https?:", t)]

    assert [t for t in local if not (page.parent / t).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_is_named_exists(page: Path) -> None:
    prose = FENCE.sub("", page.read_text())
    named = {name for code in CODE.findall(prose) for name in FILE.findall(code)}
    tree = {
        str(path.relative_to(ROOT))
        for top in ("src", "tests", "docs", "deploy", "examples", "benchmarks", "scripts")
        for path in (ROOT / top).rglob("*.*")
    } | {path.name for path in ROOT.iterdir()}

    def is_there(name: str) -> bool:
        return any(path == name or path.endswith("/" + name) for path in tree)

    missing = {n for n in named - GENERATED if not is_there(n) and not ELSEWHERE.match(n)}
    assert missing == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_uses_a_long_dash(page: Path) -> None:
    assert not re.search("[\u2013\u2014]", page.read_text())


def test_the_navigation_and_the_pages_agree() -> None:
    nav = set(re.findall(r":\s*(\S+\.md)|-\s+(\S+\.md)", (ROOT / "mkdocs.yml").read_text()))
    listed = {first or second for first, second in nav}
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}

    assert pages == listed


def test_every_error_is_in_its_tree() -> None:
    tree = (ROOT / "src" / "privacy_finetuner" / "errors.py").read_text().partition('"""\n\n')[0]
    ours = [c for c in PrivacyError.__subclasses__() if c.__module__ == "privacy_finetuner.errors"]

    assert ours
    assert [c.__name__ for c in ours if f"+-- {c.__name__} " not in tree] == []


def test_the_changelog_begins_with_the_guarantees_of_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    release = re.search(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d\n\n### (\w+)", text, re.M)

    assert release is not None
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    assert version is not None
    assert release.groups() == (version[1], "Guarantees")
