"""What is recognised, as tables by kind: each module says which patterns it proposes and judges."""

from __future__ import annotations

from typing import Final

from privacy_core.redaction.recognizers import (
    contact,
    labels,
    money,
    national_ids,
    network,
    people,
    places,
    secrets,
    times,
)
from privacy_core.redaction.scanning import Recognizer

RECOGNIZERS: Final[tuple[Recognizer, ...]] = (
    *contact.RECOGNIZERS,
    *money.RECOGNIZERS,
    national_ids.RECOGNIZER,
    *network.RECOGNIZERS,
    *times.RECOGNIZERS,
    *people.RECOGNIZERS,
    *secrets.RECOGNIZERS,
    *places.RECOGNIZERS,
    *labels.RECOGNIZERS,
)
