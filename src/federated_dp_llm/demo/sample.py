"""The sample of the demo: invented records of three hospitals, answers held back, a small model.

All of it was made by `scripts/router_records.py` and `scripts/pretrain_router_model.py`; see
`assets/README.md`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ASSETS: Final = Path(__file__).parent / "assets"
MODEL: Final = ASSETS / "model"
HOSPITALS: Final = ("north", "coast", "valley")


@dataclass(frozen=True, slots=True)
class Patient:
    """One patient's record; where there are two, the first."""

    hospital: str
    patient: str
    text: str
    cohort: str


@dataclass(frozen=True, slots=True)
class HeldBack:
    """What is true of a patient who is in no federation.

    Attributes:
        cohort: whose question it is.
        kind: of question.
        question: as a user asks it.
        answer: what is so for this patient.
        protocol: what is so for most patients of these hospitals.
    """

    cohort: str
    kind: str
    question: str
    answer: str
    protocol: str


@dataclass(frozen=True, slots=True)
class Cohort:
    """Patients with one condition, and what is done for it here and elsewhere.

    Attributes:
        cohort: its name, and the condition's.
        known: whether the public model has ever met the local drug with this condition.
        drug: that most of these patients are given.
        usual_drug: that the public world gives most often.
        other_drugs: that it gives as well.
    """

    cohort: str
    known: bool
    drug: str
    usual_drug: str
    other_drugs: tuple[str, ...]


def framed(question: str, record: str | None = None) -> str:
    """What the model reads, with a record or without: the form that it was trained on."""
    asked = f"question: {question}\nanswer:"
    return asked if record is None else f"record: {record}\n{asked}"


def records_file(hospital: str) -> Path:
    """A hospital's records, JSON Lines of `patient`, `text` and `cohort`."""
    return ASSETS / "records" / f"{hospital}.jsonl"


def patients() -> dict[str, list[Patient]]:
    """All patients by cohort, in an order that no record's content has a part in."""
    found: dict[str, Patient] = {}
    for hospital in HOSPITALS:
        for row in _rows(records_file(hospital)):
            found.setdefault(row["patient"], Patient(hospital=hospital, **row))
    cohorts: dict[str, list[Patient]] = {}
    for patient in sorted(
        found.values(), key=lambda p: hashlib.sha256(p.patient.encode()).digest()
    ):
        cohorts.setdefault(patient.cohort, []).append(patient)
    return cohorts


def held_back() -> list[HeldBack]:
    """The answers that no federation has seen."""
    return [HeldBack(**row) for row in _rows(ASSETS / "heldout.jsonl")]


def cohorts() -> list[Cohort]:
    """The cohorts of the federation."""
    return [
        Cohort(
            row["cohort"],
            row["known"],
            row["protocol"]["drug"],
            row["usual_drug"],
            tuple(row["other_drugs"]),
        )
        for row in json.loads((ASSETS / "cohorts.json").read_text(encoding="utf-8"))
    ]


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
