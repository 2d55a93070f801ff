"""Words that come from other rooms as codes, marked so that they are translated where shown."""

from __future__ import annotations

from typing import Final

from privacy_finetuner.dashboard.languages import marked

ROLES: Final = (
    marked("viewer"),
    marked("analyst"),
    marked("trainer"),
    marked("privacy_officer"),
    marked("admin"),
)
SEVERITIES: Final = (marked("low"), marked("medium"), marked("high"), marked("critical"))
OF_RESERVATIONS: Final = (
    marked("open"),
    marked("committed"),
    marked("refunded"),
    marked("expired"),
    marked("voided"),
)
OF_REQUESTS: Final = (
    marked("pending"),
    marked("approved"),
    marked("granted"),
    marked("refused"),
    marked("declined"),
    marked("withdrawn"),
    marked("processing"),
    marked("extended"),
    marked("completed"),
)
OF_SUBJECTS: Final = (
    marked("access"),
    marked("erasure"),
    marked("rectification"),
    marked("portability"),
    marked("restriction"),
    marked("objection"),
    marked("opt_out_sale"),
)
