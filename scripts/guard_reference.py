"""Writes the reference tables of the guard's pages from the dataclasses: `--write`, or `--check`.

python scripts/guard_reference.py --write
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline_guard.config.reading import Parameter, parameters_of
from pipeline_guard.config.scalars import expected_of
from pipeline_guard.config.values import Within, duration_text
from pipeline_guard.probes import PROBES
from pipeline_guard.remedies import REMEDIES

DOCS = Path(__file__).parents[1] / "docs"
PAGES: Mapping[str, Mapping[str, type]] = {
    "guard_checks.md": PROBES,
    "guard_recoveries.md": REMEDIES,
}
BEGIN, END = "<!-- reference: begin -->\n", "<!-- reference: end -->\n"
ARGUMENT = re.compile(r"^    ((?:\w+, )*\w+): (.+?)(?=\n    \w|\Z)", re.MULTILINE | re.DOTALL)


def page_with_reference(name: str) -> str:
    """The page as it should be: its own words around tables of what the program takes."""
    text = (DOCS / name).read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    sections = [section(kind, made) for kind, made in sorted(PAGES[name].items())]
    return before + BEGIN + "\n" + "\n".join(sections) + "\n" + END + after


def section(kind: str, made: type) -> str:
    """One kind: what it is in its docstring's words, and its parameters."""
    text = inspect.getdoc(made) or ""
    words, _, arguments = text.partition("\nArgs:\n")
    words = words.partition("\nSource:")[0]
    said = meanings(arguments)
    rows = [row(each, said.get(each.name.rstrip("_"), said.get(each.name, "")))
            for each in parameters_of(made)]  # fmt: skip
    table = "| key | takes | default | meaning |\n|---|---|---|---|\n" + "\n".join(rows)
    section = f"### `{kind}`\n\n{as_markdown(words)}\n\n{table}\n"
    for each in parameters_of(made):  # keys have no units, as in YAML
        section = section.replace(f"`{each.name}`", f"`{each.key}`")
    return section


def meanings(arguments: str) -> dict[str, str]:
    """What a docstring says of each argument; several may share a sentence."""
    found = {}
    for match in ARGUMENT.finditer(arguments):
        meaning = " ".join(match[2].split())
        for name in match[1].split(", "):
            found[name] = meaning
    return found


def row(parameter: Parameter, meaning: str) -> str:
    """One line of a table."""
    default = "must be given" if parameter.is_required else shown(parameter)
    words = meaning[:1].upper() + meaning[1:]
    return f"| `{parameter.key}` | {takes(parameter.hint, parameter.unit)} | {default} | {words} |"


def takes(hint: Any, unit: str) -> str:
    """What a type takes, in words."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        domain = [str(each) for each in inner[1:] if isinstance(each, Within)]
        return " ".join([takes(inner[0], unit), *(f"({each})" for each in domain)])
    if origin is tuple:
        return f"a list: {takes(inner[0], unit)}"
    if origin is not None and issubclass_of_mapping(origin):
        return f"keys with {takes(inner[1], unit)}"
    if inner and origin is not typing.Literal:
        return " or ".join(takes(each, unit) for each in inner if each is not type(None))
    words = "a duration" if hint is float and unit == "s" else str(expected_of(hint, unit))
    return words.replace("|", "\\|")


def issubclass_of_mapping(origin: Any) -> bool:
    """Whether a type is a mapping."""
    return isinstance(origin, type) and issubclass(origin, Mapping)


def shown(parameter: Parameter) -> str:
    """A default as YAML would have it."""
    value = parameter.default
    if value is None or value in ((), "", {}):
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if parameter.unit == "s" and isinstance(value, float):
        return f"`{duration_text(value)}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def as_markdown(words: str) -> str:
    """A docstring's text, with its table of `=` lines as a block."""
    paragraphs = []
    for paragraph in words.strip().split("\n\n"):
        is_table = paragraph.lstrip().startswith("===")
        paragraphs.append(f"```text\n{paragraph}\n```" if is_table else paragraph)
    return "\n\n".join(paragraphs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the pages")
    given = parser.parse_args()
    stale = [name for name in PAGES if (DOCS / name).read_text() != page_with_reference(name)]
    if given.write:
        for name in stale:
            (DOCS / name).write_text(page_with_reference(name))
        print(f"written: {', '.join(stale) or 'nothing, all pages are as they should be'}")
        return 0
    print(f"out of date: {', '.join(stale)}" if stale else "all pages are as they should be")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
