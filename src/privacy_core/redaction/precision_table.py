"""How often each rule was right on development data: (right, seen).

Written by `scripts/calibrate_redaction.py`; do not edit. Sets, with the number of texts:
structured_synthetic (1000), presidio_synth (1063), tab (92), meddocan (750), lifebench (1130).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

COUNTS: Final[Mapping[str, tuple[int, int]]] = MappingProxyType(
    {
        "address.labelled": (758, 763),
        "address.street": (611, 634),
        "age.english": (56, 61),
        "age.labelled": (743, 748),
        "age.unit": (523, 570),
        "age.unit_of_age": (255, 269),
        "amount.currency": (97, 97),
        "card.luhn_context": (219, 219),
        "date.birth": (848, 851),
        "date.figures": (817, 817),
        "date.figures_short": (44, 44),
        "date.iso": (60, 60),
        "date.month": (14, 16),
        "date.month_year": (0, 1),
        "date.weekday": (4, 4),
        "date.words": (1726, 1754),
        "date.year": (12, 13),
        "date.year_brackets": (10, 14),
        "date.year_context": (212, 216),
        "email.address": (949, 951),
        "iban.checksum": (99, 99),
        "ip.v4": (66, 66),
        "ip.v6": (26, 26),
        "label.court_file": (97, 103),
        "label.device_id": (2, 2),
        "label.driver_license": (5, 5),
        "label.health_plan": (581, 584),
        "label.id_number": (841, 846),
        "label.medical_record": (790, 792),
        "label.number_list": (10, 10),
        "masked.card": (1, 2),
        "masked.phone": (9, 11),
        "national_id.checksum_context": (239, 239),
        "nationality.list": (169, 360),
        "phone.context": (357, 359),
        "phone.grouping": (1, 1),
        "phone.international": (495, 495),
        "phone.international_context": (20, 20),
        "postal.label": (758, 758),
        "postal.state": (11, 11),
        "postal.town": (190, 190),
        "profession.list": (6, 27),
        "secret.issuer": (74, 74),
        "url.scheme": (145, 145),
    }
)
