"""The record of processing: what is checked, kept, found and exported."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from tests.privacy_finetuner.governance.conftest import TENANT, Office

from privacy_core.errors import InvalidParameter
from privacy_finetuner.governance.errors import RecordConflict, UnknownRecord
from privacy_finetuner.governance.processing import (
    Activity,
    DataCategory,
    LegalBasis,
    ProcessingPurpose,
    ProcessingRegister,
    SpecialCondition,
    applying,
    as_csv,
    frameworks_of,
)


def register(office: Office, frameworks: tuple[str, ...] = ("gdpr", "hipaa")) -> ProcessingRegister:
    return ProcessingRegister(
        office.another_journal(), frameworks=frameworks, clock=office.clock, entropy=office.entropy
    )


def activity(**changes: Any) -> Activity:
    values: dict[str, Any] = {
        "data_categories": (DataCategory.PERSONAL_IDENTIFIERS, DataCategory.BEHAVIORAL_DATA),
        "processing_purpose": ProcessingPurpose.MACHINE_LEARNING,
        "legal_basis": LegalBasis.LEGITIMATE_INTERESTS,
        "data_subjects_count": 50_000,
        "storage_location": "eu-west-1",
        "retention_period": 365,
    }
    return Activity(**{**values, **changes})


def test_a_record_reads_back_as_it_was_written(office: Office) -> None:
    full = activity(
        data_categories=(DataCategory.HEALTH_DATA,),
        special_condition=SpecialCondition.RESEARCH,
        controller="Clinic North, dpo@north.example",
        subject_categories=("patients",),
        recipients=("the research team",),
        transfers=("none",),
        security_measures=("encryption at rest",),
        dataset="notes/2026",
    )
    made = register(office).record(TENANT, full, by="u_1")

    assert register(office).get(TENANT, made.id) == made
    assert made.activity == full
    assert full.missing == ()
    assert made.frameworks == ("gdpr", "hipaa")


def test_hipaa_is_about_health_only() -> None:
    assert applying(["gdpr", "hipaa"], activity()) == ["gdpr"]


def test_laws_come_from_the_configuration_or_its_regions() -> None:
    assert frameworks_of(("gdpr",), ("California",)) == ["gdpr"]
    assert frameworks_of((), ("EU", "California", "Canada", "Atlantis")) == [
        "gdpr",
        "ccpa",
        "pipeda",
    ]
    assert frameworks_of((), ()) == []


def test_an_end_is_a_version_and_happens_once(office: Office) -> None:
    made = register(office).record(TENANT, activity(), by="u_1")
    ended = register(office).end(TENANT, made.id, by="u_1", reason="study over")

    assert ended.version == 2
    assert ended.ended_at == office.clock.now()
    with pytest.raises(RecordConflict):
        register(office).end(TENANT, made.id, by="u_2", reason="again")
    types = [entry.type for entry in office.another_journal().read("compliance")]
    assert types == ["processing.recorded", "processing.ended"]


def test_data_that_should_be_gone_is_overdue_until_the_end_is_declared(office: Office) -> None:
    made = register(office).record(TENANT, activity(retention_period=10), by="u_1")
    endless = register(office).record(TENANT, activity(retention_period=None), by="u_1")
    office.clock.advance(10 * 86_400 + 1)

    now = office.clock.now()
    assert register(office).overdue(TENANT, now) == [made]
    assert "retention_period" in endless.activity.missing
    register(office).end(TENANT, made.id, by="u_1", reason="deleted")
    assert register(office).overdue(TENANT, now) == []


def test_finding_by_category_purpose_and_text(office: Office) -> None:
    one = register(office).record(TENANT, activity(recipients=("Lab Ünit",)), by="u_1")
    office.clock.advance(1)
    two = register(office).record(
        TENANT,
        activity(
            data_categories=(DataCategory.LOCATION_DATA,),
            processing_purpose=ProcessingPurpose.SECURITY,
        ),
        by="u_1",
    )

    find = register(office).find
    assert find(TENANT) == [two, one]
    assert find(TENANT, category=DataCategory.LOCATION_DATA) == [two]
    assert find(TENANT, purpose=ProcessingPurpose.MACHINE_LEARNING) == [one]
    assert find(TENANT, text="lab ünit") == [one]
    assert find(TENANT, text="nothing") == []
    assert find("o_2") == []
    with pytest.raises(UnknownRecord):
        register(office).get("o_2", one.id)


def test_the_table_for_an_authority_is_whole_and_never_a_formula(office: Office) -> None:
    register(office).record(
        TENANT, activity(controller="=HYPERLINK(1)", storage_location='a "b", c'), by="u_1"
    )
    rows = list(csv.DictReader(io.StringIO(as_csv(register(office).find(TENANT)))))

    assert rows[0]["controller"] == "'=HYPERLINK(1)"
    assert rows[0]["storage_location"] == 'a "b", c'
    assert rows[0]["data_categories"] == "personal_identifiers; behavioral_data"
    assert as_csv([]).startswith("processing_id")


@pytest.mark.parametrize(
    "changes",
    [
        {"data_categories": ()},
        {"data_categories": (DataCategory.CONTACT_DATA,) * 2},
        {"data_categories": (DataCategory.GENETIC_DATA,)},
        {"data_subjects_count": -1},
        {"retention_period": 0},
        {"retention_period": 10**6},
        {"storage_location": " "},
        {"storage_location": "a\nb"},
        {"recipients": ("",)},
        {"recipients": ("x",) * 51},
        {"controller": "x" * 501},
    ],
)
def test_what_is_no_activity(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter):
        activity(**changes)
