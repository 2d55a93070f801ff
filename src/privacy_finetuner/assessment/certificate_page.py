"""A certificate as a page, and as a section of a model card.

The page needs nothing from elsewhere: no script, no address, no font; all text in it is escaped.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from privacy_finetuner.assessment.certificate_view import VERIFY_COMMAND, View
from privacy_runtime.files import write_atomic

START: Final = "<!-- privacy-certificate -->"
END: Final = "<!-- /privacy-certificate -->"
_MARKDOWN: Final = re.compile(r"([\\`*_{}\[\]<>#|!~])")


def page(view: View) -> str:
    """The page of a certificate, HTML, for screen and printer, light and dark."""
    return (
        _environment(is_html=True)
        .get_template("certificate.html.j2")
        .render(view=view, command=VERIFY_COMMAND)
    )


def model_card(view: View) -> str:
    """The section of a Hugging Face model card, Markdown, between two marks."""
    environment = _environment(is_html=False)
    environment.filters["plain"] = _plain
    body = environment.get_template("certificate_card.md.j2").render(
        view=view, command=VERIFY_COMMAND
    )
    return f"{START}\n{body.strip()}\n{END}\n"


def write_model_card(readme: Path, section: str) -> None:
    """Put the section into a model card: where an earlier one is, or at the end.

    Raises:
        WriteFailed: the disk refused; an earlier file is intact.
    """
    text = readme.read_text(encoding="utf-8") if readme.exists() else ""
    before, mark, rest = text.partition(START)
    if mark and END in rest:
        after = rest.partition(END)[2].lstrip("\n")
        text = f"{before}{section}{after}"
    else:
        text = f"{text.rstrip()}\n\n{section}" if text.strip() else section
    write_atomic(readme, text.encode())


def _environment(*, is_html: bool) -> Environment:
    return Environment(
        loader=PackageLoader("privacy_finetuner.assessment", package_path="."),
        autoescape=is_html,  # noqa: S701  # nosec B701 -- in Markdown, `plain` escapes
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _plain(text: str) -> str:
    """Text in which Markdown sees nothing."""
    return _MARKDOWN.sub(r"\\\1", text)
