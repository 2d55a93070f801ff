"""Deadlines and retention are seen by themselves, told once, and put right reversibly."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.privacy_finetuner.api.conftest import POLICY

from privacy_finetuner.environment import EnvironmentConfig
from privacy_finetuner.governance.deadlines import RequestType
from privacy_finetuner.governance.processing import (
    Activity,
    DataCategory,
    LegalBasis,
    ProcessingPurpose,
)
from privacy_finetuner.governance.verification import Means
from privacy_finetuner.operations.errors import SourceSetAside
from privacy_finetuner.operations.trail import STREAM
from privacy_finetuner.service import Service
from privacy_finetuner.service.upkeep import chores_of, vigil_of
from privacy_finetuner.service.vigil import Vigil
from privacy_runtime.testing import ManualClock

DAY = 86_400


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def service(tmp_path: Path, clock: ManualClock) -> Iterator[Service]:
    config = EnvironmentConfig(
        environment="testing",
        compliance={"enable_real_time_monitoring": True, "auto_remediation": True},
    )
    with Service.open(config, home=tmp_path / "home", clock=clock, identity_policy=POLICY) as made:
        yield made


@pytest.fixture
def tenant(service: Service) -> str:
    return service.identity.accounts.create_organisation("north")


def vigil(service: Service) -> Vigil:
    found = vigil_of(service)
    assert found is not None
    return found


def activity(dataset: str) -> Activity:
    return Activity(
        data_categories=(DataCategory.PERSONAL_IDENTIFIERS,),
        processing_purpose=ProcessingPurpose.MACHINE_LEARNING,
        legal_basis=LegalBasis.CONSENT,
        data_subjects_count=10,
        storage_location="here",
        retention_period=30,
        dataset=dataset,
    )


def announced(service: Service, tenant: str) -> list[tuple[str, str]]:
    entries = [entry for entry in service.journal.read(STREAM) if entry.type == "compliance.due"]
    return [(e.body["record"], e.body["state"]) for e in entries if e.body["tenant"] == tenant]


def test_an_answer_that_is_owed_is_told_before_it_is_late_and_when_it_is(
    service: Service, tenant: str, clock: ManualClock
) -> None:
    desks = service.desks
    _, token = desks.verifications.issue(
        tenant, subject="p-1", means=Means.IDENTITY_DOCUMENT, by="u_1", days=1
    )
    request = desks.subject_requests.open(
        tenant, request=RequestType.ACCESS, subject="p-1", region="EU", token=token.reveal(), by="u"
    )
    watch = vigil(service)

    assert watch.look() == []
    clock.advance((request.due_at - clock.now() - timedelta(days=2)).total_seconds())
    assert [each.state for each in watch.look()] == ["soon"]
    assert watch.look() == []
    clock.advance(3 * DAY)
    assert [each.state for each in vigil(service).look()] == ["overdue"]  # another process
    vigil(service).look()  # tells nothing twice
    assert announced(service, tenant) == [(request.id, "soon"), (request.id, "overdue")]


def test_records_whose_time_is_over_are_set_aside_once_and_a_release_stands(
    service: Service, tenant: str, clock: ManualClock
) -> None:
    records = service.homes.datasets / "notes.jsonl"
    records.write_text('{"text": "a"}\n')
    made = service.desks.processing.record(tenant, activity("notes.jsonl"), by="u_1")
    other = service.identity.accounts.create_organisation("south")
    catalogue, watch = service.catalogue, vigil(service)

    watch.look()
    catalogue.dataset("notes.jsonl", tenant=tenant)
    clock.advance(31 * DAY)
    assert [(each.record, each.state) for each in watch.look()] == [(made.id, "retention_ended")]
    with pytest.raises(SourceSetAside) as refused:
        catalogue.dataset("notes.jsonl", tenant=tenant)
    catalogue.dataset("notes.jsonl", tenant=other)

    service.desks.quarantine.release(tenant, refused.value.sha256, by="u_2", reason="a hold")
    vigil(service).look()
    catalogue.dataset("notes.jsonl", tenant=tenant)
    assert records.exists()


def test_what_ships_with_the_program_is_nobody_s_record(
    service: Service, tenant: str, clock: ManualClock
) -> None:
    service.desks.processing.record(tenant, activity("sample:records"), by="u_1")
    clock.advance(31 * DAY)
    vigil(service).look()
    service.catalogue.dataset("sample:records", tenant=tenant)


def test_without_the_key_nothing_is_watched(tmp_path: Path) -> None:
    with Service.open(
        EnvironmentConfig(environment="testing"), home=tmp_path / "h", identity_policy=POLICY
    ) as plain:
        assert vigil_of(plain) is None
        assert "watch what the law dates" not in {chore.name for chore in chores_of(plain)}
