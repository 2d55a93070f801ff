"""Sending, seeing and deleting data sets in a browser; one's own sessions; acts of compliance."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from privacy_finetuner.governance.deadlines import RequestType
from privacy_finetuner.governance.verification import Means
from privacy_runtime.identity import Role, TokenRefused

if TYPE_CHECKING:
    from tests.privacy_finetuner.dashboard.conftest import Town, Visitor

NOTES = b'{"text": "one"}\n'


@pytest.fixture
def town(quiet_town: Town) -> Iterator[Town]:
    desk = quiet_town.service.uploads
    before, desk.checked = desk.checked, lambda path: None
    yield quiet_town
    desk.checked = before


def send(person: Visitor, name: str, content: bytes) -> Any:
    found = re.search(r'name="csrf_token" value="([^"]*)"', person.open("/account").text)
    assert found is not None
    return person.http.post(
        "/datasets/send",
        data={"csrf_token": found.group(1)},
        files={"file": (name, content)},
        headers={"origin": "http://testserver", "sec-fetch-site": "same-origin"},
    )


def test_a_file_is_sent_offered_and_deleted(town: Town) -> None:
    trainer = town.person(Role.TRAINER)

    answer = send(trainer, "page-notes.jsonl", NOTES)

    assert (answer.status_code, answer.headers["location"]) == (
        303, "/datasets?said=dataset-received",
    )  # fmt: skip
    assert "upload:page-notes.jsonl" in trainer.open("/datasets").text
    assert "upload:page-notes.jsonl" in trainer.open("/jobs/new").text
    assert "upload:page-notes" not in town.person(Role.TRAINER, at="south").open("/datasets").text
    assert send(trainer, "page-notes.jsonl", b'{"text": "x"}\n').status_code == 409
    removed = trainer.send("/datasets/remove", {"name": "upload:page-notes.jsonl"})
    assert removed.status_code == 303
    assert "upload:page-notes.jsonl" not in trainer.open("/datasets").text


def test_what_is_no_data_set_is_said_on_the_page(town: Town) -> None:
    trainer = town.person(Role.TRAINER)

    assert trainer.send("/datasets/send", {}).status_code == 422
    assert send(trainer, "notes.exe", NOTES).status_code == 422
    assert send(town.person(Role.ANALYST), "a.jsonl", NOTES).status_code == 403
    gone = trainer.send("/datasets/remove", {"name": "sample:records"})
    assert gone.status_code == 404


def test_a_session_elsewhere_is_seen_and_ended(town: Town) -> None:
    here = town.person(Role.VIEWER)
    tokens = town.service.identity.logins.log_in(
        "viewer@north", "glacier-umbrella-tundra-42", source="elsewhere"
    )
    (session,) = re.findall(r'action="/account/sessions/([^"]+)"', here.open("/account").text)
    assert session == tokens.principal.session

    stranger = town.person(Role.TRAINER)
    assert stranger.send(f"/account/sessions/{session}", {}).status_code == 404
    assert here.send(f"/account/sessions/{session}", {}).status_code == 303
    assert "/account/sessions/" not in here.open("/account").text.replace(
        'action="/account/sessions"', ""
    )
    with pytest.raises(TokenRefused):
        town.service.identity.sessions.authenticate(tokens.access_token.reveal())


def opened(town: Town, request: RequestType, person: str) -> str:
    tenant, desks = town.tenant("north"), town.service.desks
    _, token = desks.verifications.issue(
        tenant, subject=person, means=Means.IN_PERSON, by="u_1", days=7
    )
    made = desks.subject_requests.open(
        tenant, request=request, subject=person, region="EU", token=token.reveal(), by="u_1"
    )
    return made.id


def test_a_request_is_answered_with_words_and_once(town: Town) -> None:
    officer = town.person(Role.PRIVACY_OFFICER)
    page = f"/compliance/requests/{opened(town, RequestType.ACCESS, 'p-1')}"

    assert page in officer.open("/compliance").text
    assert officer.send(page, {"act": "refuse", "reason": " "}).status_code == 422
    assert officer.send(page, {"act": "vanish"}).status_code == 422
    assert officer.send(page, {"act": "extend", "reason": "many records"}).status_code == 303
    assert officer.send(page, {"act": "complete"}).status_code == 303
    assert officer.send(page, {"act": "refuse", "reason": "late"}).status_code == 409
    record = page.rpartition("/")[2]
    held = town.service.desks.subject_requests.get(town.tenant("north"), record)
    assert held.status.value == "completed"
    other = town.person(Role.PRIVACY_OFFICER, at="south")
    assert other.open(page).status_code == 404
    assert town.person(Role.ADMIN).open(page).status_code == 403


def test_an_erasure_says_what_became_of_a_thing(town: Town) -> None:
    officer = town.person(Role.PRIVACY_OFFICER)
    page = f"/compliance/requests/{opened(town, RequestType.ERASURE, 'p-2')}"
    of_model = {"act": "complete", "artefact": "job:1", "kind": "model", "outcome": "deleted"}

    assert officer.send(page, {"act": "complete"}).status_code == 422
    assert officer.send(page, of_model).status_code == 422  # a model is never deleted from
    assert officer.send(page, {**of_model, "outcome": "nonsense"}).status_code == 422
    assert officer.send(page, {**of_model, "outcome": "retired"}).status_code == 303
    assert "retired" in officer.open(page).text


def test_an_activity_is_recorded_and_declared_over(town: Town) -> None:
    officer = town.person(Role.PRIVACY_OFFICER)
    form = {
        "category:health_data": "1",
        "processing_purpose": "machine_learning",
        "legal_basis": "consent",
        "data_subjects_count": "1200",
        "storage_location": "eu-west-1",
        "retention_period": "365",
        "dataset": "notes/2026",
    }

    refused = officer.send("/compliance/activities", form)
    assert refused.status_code == 422  # a special category needs a condition
    assert 'value="eu-west-1"' in refused.text
    made = officer.send("/compliance/activities", {**form, "condition": "explicit_consent"})
    page = made.headers["location"].partition("?")[0]
    assert "notes/2026" in officer.open(page).text
    assert officer.send(page, {"reason": ""}).status_code == 422
    assert officer.send(page, {"reason": "the study ended"}).status_code == 303
    assert officer.send(page, {"reason": "again"}).status_code in (303, 409)
    assert "/compliance/activities/" in officer.open("/compliance").text
    assert town.person(Role.PRIVACY_OFFICER, at="south").open(page).status_code == 404
