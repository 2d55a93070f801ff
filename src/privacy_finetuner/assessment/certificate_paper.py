"""A certificate on paper: PDF, A4, the same words as the page.

DejaVu Sans is embedded, from matplotlib, which this program needs anyway: Greek letters and the
names of accounts in any European script print as they are. The file is the same, byte for byte,
whenever it is written from the same certificate.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

from privacy_core.errors import PrivacyError
from privacy_finetuner.assessment.certificate_view import VERIFY_COMMAND, View

_FAMILY: Final = {"DejaVu": "DejaVuSans.ttf", "DejaVu-Bold": "DejaVuSans-Bold.ttf",
                  "DejaVu-Mono": "DejaVuSansMono.ttf"}  # fmt: skip
_MARGIN_MM: Final = 20
_FRAME_PT: Final = 6  # what the library leaves between a frame and what is in it


def paper(view: View) -> bytes:
    """The certificate as a PDF document."""
    # A quarter of a second to load, and only paper needs it; it ships no types.
    from reportlab.lib.pagesizes import A4  # noqa: PLC0415
    from reportlab.lib.units import mm  # noqa: PLC0415
    from reportlab.platypus import SimpleDocTemplate  # noqa: PLC0415

    _register_fonts()
    target = io.BytesIO()
    document = SimpleDocTemplate(
        target,
        pagesize=A4,
        leftMargin=_MARGIN_MM * mm,
        rightMargin=_MARGIN_MM * mm,
        topMargin=_MARGIN_MM * mm,
        bottomMargin=_MARGIN_MM * mm,
        title=f"Privacy certificate: {view.claim}",
        subject=view.about,
        author=view.issued_with,
        lang="en",
        invariant=1,
    )
    footer = f"SHA-256 of the certificate {view.fingerprint}"

    def draw_footer(canvas: Any, _document: Any) -> None:
        canvas.setFont("DejaVu", 6.5)
        canvas.drawString(_MARGIN_MM * mm, 10 * mm, footer)
        canvas.drawRightString(A4[0] - _MARGIN_MM * mm, 10 * mm, str(canvas.getPageNumber()))

    document.build(
        _story(view, document.width - 2 * _FRAME_PT),
        onFirstPage=draw_footer,
        onLaterPages=draw_footer,
    )
    return target.getvalue()


def _story(view: View, width: float) -> list[Any]:
    from reportlab.platypus import Paragraph  # noqa: PLC0415

    styles = _styles()

    def texts(said: Sequence[str], style: str) -> list[Any]:
        mark = "\u2022" if style == "item" else None
        return [Paragraph(escape(each), styles[style], bulletText=mark) for each in said]

    story = texts(["Privacy certificate of one fine-tuned model"], "kicker")
    story += texts([view.claim], "claim") + texts([view.about], "soft")
    story += texts([view.verdict], "good" if view.is_genuine else "bad")
    story += texts(["What is promised"], "heading") + texts(view.promised, "text")
    story += texts(["What is not promised"], "heading") + texts(view.not_promised, "item")
    story += texts(["What is assumed"], "heading") + texts(view.assumptions, "item")
    if view.audit:
        story += texts(["What an audit found (outside the guarantee)"], "heading")
        story += texts(view.audit, "text")
    for title, rows in view.tables.items():
        story += [*texts([title], "heading"), _table(rows, width)]
    story += texts(["Check it yourself"], "heading")
    story += texts(
        [
            "This paper is a picture of the certificate, and proves nothing. The certificate is "
            "the file; this command recomputes everything in it, on any machine, without the "
            "model and without the data:"
        ],
        "text",
    )
    story += texts([VERIFY_COMMAND], "code") + texts(view.checks, "item")
    return story


def _table(rows: Sequence[tuple[str, str]], width: float) -> Any:
    from reportlab.lib import colors  # noqa: PLC0415
    from reportlab.platypus import Paragraph, Table, TableStyle  # noqa: PLC0415

    styles = _styles()
    cells = [
        [Paragraph(escape(name), styles["name"]), Paragraph(escape(value), styles["cell"])]
        for name, value in rows
    ]
    return Table(
        cells,
        colWidths=[0.32 * width, 0.68 * width],
        hAlign="LEFT",
        style=TableStyle(
            [
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("LINEBELOW", (0, 0), (-1, -1), 0.4, colors.HexColor("#bbbbbb")),
                ("LEFTPADDING", (0, 0), (0, -1), 0),
                ("TOPPADDING", (0, 0), (-1, -1), 2),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 3),
            ]
        ),
    )


def _styles() -> dict[str, Any]:
    from reportlab.lib.styles import (  # noqa: PLC0415
        ParagraphStyle,
    )

    def style(name: str, size: float, font: str = "DejaVu", **more: Any) -> Any:
        return ParagraphStyle(name, fontName=font, fontSize=size, leading=size * 1.4, **more)

    made = [
        style("kicker", 9, "DejaVu-Bold", textColor="#55605c"),
        style("claim", 22, "DejaVu-Bold", spaceAfter=2),
        style("soft", 9, textColor="#55605c", spaceAfter=6),
        style("good", 9, "DejaVu-Bold", textColor="#0b6e4f", spaceAfter=4),
        style("bad", 9, "DejaVu-Bold", textColor="#a51d2d", spaceAfter=4),
        style("heading", 11, "DejaVu-Bold", spaceBefore=10, spaceAfter=3, keepWithNext=1),
        style("text", 9, spaceAfter=4),
        style("item", 9, leftIndent=10, bulletIndent=0, spaceAfter=2),
        style("name", 8.5, "DejaVu-Bold"),
        style("cell", 8.5, splitLongWords=1),
        style("code", 8, "DejaVu-Mono", spaceAfter=4, leftIndent=10),
    ]
    return {each.name: each for each in made}


def _register_fonts() -> None:
    from reportlab.pdfbase import pdfmetrics  # noqa: PLC0415
    from reportlab.pdfbase.ttfonts import TTFont  # noqa: PLC0415

    found = find_spec("matplotlib")
    if found is None or not found.submodule_search_locations:
        raise PrivacyError("matplotlib, whose fonts the paper is set in, is not installed")
    folder = Path(found.submodule_search_locations[0]) / "mpl-data" / "fonts" / "ttf"
    for name, file in _FAMILY.items():
        pdfmetrics.registerFont(TTFont(name, str(folder / file)))
