"""What can go wrong with an export, as a tree.

PrivacyError
+-- ExportError            an export cannot be made or read; what was there before is intact
    +-- ExportRejected     it was made, and answers too differently from its source
    +-- ExportDamaged      files of an export are not those that were written
"""

from __future__ import annotations

from typing import ClassVar

from privacy_core.errors import PrivacyError


class ExportError(PrivacyError):
    """An export cannot be made or read. What was there before is intact."""

    code: ClassVar[str] = "export_error"


class ExportRejected(ExportError):
    """An export answers too differently from its source. It was not put in place.

    Attributes:
        agreement: share of positions where both name the same likeliest answer.
        least: the share that was asked for.
    """

    code: ClassVar[str] = "export_rejected"

    def __init__(self, agreement: float, least: float) -> None:
        super().__init__(agreement, least)
        self.agreement = agreement
        self.least = least

    def __str__(self) -> str:
        return (
            f"the likeliest answer is the same at {self.agreement:.2%} of the positions, "
            f"{self.least:.2%} were asked for; it was not put in place, and an earlier export "
            "there is intact"
        )


class ExportDamaged(ExportError):
    """Files of an export are not those that were written. Nothing was loaded."""

    code: ClassVar[str] = "export_damaged"
