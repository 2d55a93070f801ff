"""`explain`: why a text comes out as it does, span by span."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from privacy_core.redaction.findings import Finding
from privacy_finetuner.cli import output
from privacy_finetuner.cli.options import Json
from privacy_finetuner.cli.redaction_options import (
    Allow,
    Deny,
    EncodingName,
    Level,
    LevelName,
    Locales,
    NoNames,
    Preserve,
    Threshold,
    guard_of,
    names_of,
    standard_input,
)
from privacy_finetuner.context.decoding import decoded, read_whole
from privacy_finetuner.context.explanations import share
from privacy_finetuner.context.results import RedactionReport

EPILOG: Final = (
    'Example: echo "Ann Lee, born 4 May 1990, card 4111 1111 1111 1111" | privacy-finetuner '
    "explain --level high\n\n"
    "privacy-finetuner explain letter.txt --html letter-explained.html"
)
_STYLES: Final = {"replace": "bold black on green", "leave": "black on yellow"}


def explain(  # noqa: PLR0913 -- one parameter an option
    file: Annotated[Path | None, typer.Argument(help="A text. Default: standard input.")] = None,
    *,
    level: Level = LevelName.MEDIUM,
    preserve: Preserve = None,
    allow: Allow = None,
    deny: Deny = None,
    threshold: Threshold = 0.8,
    no_names: NoNames = False,
    locales: Locales = None,
    encoding: EncodingName = None,
    html: Annotated[
        Path | None,
        typer.Option(help="Write a page with the marked text. It holds the text in clear."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what would be redacted in a text, by which rule, how sure, and what would stay.

    On a terminal the text is shown with its findings marked: it is in clear there. With --json
    there are positions and rules and no text.
    """
    with output.failures_reported(as_json):
        if file is None:
            text = decoded(standard_input().read(), "standard input", encoding)[0]
        else:
            text = read_whole(file, encoding)[0]
        guard = guard_of(
            threshold=threshold, no_names=no_names, locales=locales, allow=allow, deny=deny
        )
        report = guard.explain_redactions(text, level.value, names_of(preserve))
        if html is not None:
            from privacy_finetuner.context.pages import write_explanation  # noqa: PLC0415 -- jinja

            write_explanation(text, report, html)
        document = {**report.to_dict(), "html": None if html is None else str(html)}
    output.deliver(document, _shown(text, report, html), as_json=as_json)


def _shown(text: str, report: RedactionReport, html: Path | None) -> Any:
    parts: list[Any] = [_marked(text, report), Text()]
    if report.decisions:
        parts.append(_table(report))
    else:
        parts.append(Text("nothing was found"))
    parts += [Text(), Text(f"level {report.policy}", style="dim")]
    parts += [Text(f"- {limit}", style="dim") for limit in report.limits]
    if html is not None:
        parts.append(Text(f"page: {html} (it holds the text in clear)"))
    return Group(*parts)


def _marked(text: str, report: RedactionReport) -> Text:
    shown, done = Text(), 0
    for number, each in enumerate(report.decisions, start=1):
        found = each.finding
        if found.start < done:
            continue
        shown.append(_visible(text[done : found.start]))
        shown.append(_visible(text[found.start : found.end]), style=_STYLES[each.action])
        shown.append(f"({number})", style="bold")
        done = found.end
    shown.append(_visible(text[done:]))
    return shown


def _visible(text: str) -> str:
    """The text without signs that move a terminal's cursor or turn its direction."""
    return "".join(
        sign if sign.isprintable() or sign in "\n\t" else f"\\u{ord(sign):04x}" for sign in text
    )


def _table(report: RedactionReport) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("", "type", "sure", "rule", "what happens", "why"):
        table.add_column(name, overflow="fold")
    for number, each in enumerate(report.decisions, start=1):
        found = each.finding
        table.add_row(
            f"({number})",
            found.label,
            share(found.score),
            found.rule,
            Text(
                each.operator if each.action == "replace" else "stays",
                style="green" if each.action == "replace" else "yellow",
            ),
            each.reason if each.action == "leave" else _why(found),
        )
    return table


def _why(found: Finding) -> str:
    """The evidence of a finding, or what stands for it."""
    if found.evidence:
        return ", ".join(found.evidence)
    return "reads like one" if found.rule.startswith("name") else "its form"
