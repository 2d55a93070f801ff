"""A text as a QR code, drawn on the server: the secret in it leaves for nobody else."""

from __future__ import annotations

from markupsafe import Markup
from reportlab.graphics.barcode.qr import QrCodeWidget

_QUIET: int = 4  # modules of margin that readers need (ISO/IEC 18004, 7.1)


def qr_svg(text: str, *, label: str) -> Markup:
    """The code as an SVG without styles: one path of unit squares.

    Args:
        text: what the code says; about 2,300 characters at most.
        label: what a screen reader says instead.
    """
    drawn = QrCodeWidget(text, barLevel="M")
    drawn.qr.make()
    rows = drawn.qr.modules
    size = len(rows) + 2 * _QUIET
    path = "".join(
        f"M{x + _QUIET} {y + _QUIET}h1v1h-1z"
        for y, row in enumerate(rows)
        for x, dark in enumerate(row)
        if dark
    )
    return Markup(  # the label is escaped by `format`
        '<svg class="qr" role="img" aria-label="{label}" viewBox="0 0 {size} {size}" '
        'shape-rendering="crispEdges"><path d="{path}"/></svg>'
    ).format(label=label, size=size, path=path)
