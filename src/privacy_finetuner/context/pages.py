"""Pages for people: what a data set contains, why a text is redacted as it is, how well it works.

Each is one file without scripts and without addresses of other machines; all text in it is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from privacy_finetuner.context.explanations import share
from privacy_finetuner.context.results import DISTRIBUTION, RedactionReport
from privacy_runtime.files import write_atomic


def write_scan(scan: Mapping[str, Any], paths: Sequence[str], target: Path) -> Path:
    """Write the page of a scan (`Scan.to_dict()`). It shows counts, and no value.

    Raises:
        WriteFailed: the page cannot be written; an earlier one is intact.
    """
    has_examples = any(
        "masked_examples" in entity
        for file in scan["files"]
        for column in file["columns"]
        for entity in column["entities"]
    )
    refused = [file for file in scan["files"] if file.get("refused")]
    files = [{"refused": "", **file} for file in scan["files"]]
    return _write(
        "scan.html.j2",
        target,
        scan={**scan, "files": files},
        paths=paths,
        has_examples=has_examples,
        refused=refused,
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """A stretch of the text; with a number, a finding."""

    text: str
    number: int = 0
    is_left: bool = False


def write_explanation(text: str, report: RedactionReport, target: Path) -> Path:
    """Write the page of an explanation. It holds the text in clear, and says so.

    Raises:
        WriteFailed: the page cannot be written; an earlier one is intact.
    """
    parts, done = [], 0
    for number, each in enumerate(report.decisions, start=1):
        found = each.finding
        if found.start < done:
            continue
        parts += [
            _Part(text[done : found.start]),
            _Part(text[found.start : found.end], number, each.action == "leave"),
        ]
        done = found.end
    parts.append(_Part(text[done:]))
    return _write("explanation.html.j2", target, report=report, parts=parts)


def write_evaluation(document: Mapping[str, Any], target: Path) -> Path:
    """Write the page of an evaluation (`Evaluation.to_dict()` with its `file`). It shows no text.

    Raises:
        WriteFailed: the page cannot be written; an earlier one is intact.
    """
    return _write("evaluation.html.j2", target, result=document)


def _write(template: str, target: Path, **context: Any) -> Path:
    environment = Environment(
        loader=PackageLoader("privacy_finetuner.context", package_path="."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda value: f"{value:,}"
    environment.filters["percent"] = _percent
    environment.filters["sure"] = share
    page = environment.get_template(template).render(version=version(DISTRIBUTION), **context)
    write_atomic(target, page.encode("utf-8", "replace"))
    return target


def _percent(part: float) -> str:
    """A share for people; what is little is not nothing."""
    return "< 0.1 %" if 0 < part < 0.001 else f"{100 * part:.1f} %"
