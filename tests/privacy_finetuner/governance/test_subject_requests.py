"""Requests of data subjects: a token opens one, the law dates it, and nobody is named."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.privacy_finetuner.governance.conftest import TENANT, Office

from privacy_core.errors import InvalidParameter
from privacy_finetuner.governance.deadlines import RequestType
from privacy_finetuner.governance.erasure import (
    ArtefactKind,
    ArtefactOutcome,
    Outcome,
    TrainedModel,
    plan,
)
from privacy_finetuner.governance.errors import (
    RecordConflict,
    UnknownLaw,
    UnknownRecord,
    VerificationRefused,
)
from privacy_finetuner.governance.subject_requests import (
    RequestStatus,
    SubjectRequest,
    SubjectRequests,
)
from privacy_finetuner.governance.subjects import Subjects
from privacy_finetuner.governance.verification import Means, Verifications
from privacy_runtime.pseudonyms.errors import TenantDestroyed

PERSON = "subject_12345"
DIGEST = "ab" * 32


@dataclass
class Counter:
    """The desk with everything that it needs."""

    office: Office

    def __post_init__(self) -> None:
        world = {"clock": self.office.clock, "entropy": self.office.entropy}
        journal = self.office.another_journal()
        self.subjects = Subjects(self.office.keys, self.office.entropy)
        self.verifications = Verifications(journal, self.subjects, **world)
        self.requests = SubjectRequests(
            journal, self.verifications, self.subjects, clock=self.office.clock
        )

    def token(self, person: str = PERSON, tenant: str = TENANT, days: int = 7) -> str:
        _, token = self.verifications.issue(
            tenant, subject=person, means=Means.IN_PERSON, by="u_officer", days=days
        )
        return token.reveal()

    def opened(self, **changes: Any) -> SubjectRequest:
        values = {"request": RequestType.ACCESS, "subject": PERSON, "region": "EU", "by": "u_1"}
        values |= changes
        tenant = values.pop("tenant", TENANT)
        token = values.pop("token", None) or self.token(values["subject"])
        return self.requests.open(tenant, token=token, **values)


@pytest.fixture
def counter(office: Office) -> Counter:
    return Counter(office)


def test_a_request_is_due_when_the_law_says(counter: Counter) -> None:
    counter.office.clock.set_time_of_day(datetime(2026, 1, 31, 8, tzinfo=UTC))
    made = counter.opened()

    assert made.status is RequestStatus.PROCESSING
    assert made.due_at == datetime(2026, 2, 28, 8, tzinfo=UTC)
    (clock,) = made.clocks
    assert (clock.regime, clock.source, clock.confidence) == ("gdpr", "GDPR Art. 12(3)", "high")


def test_of_several_laws_the_earliest_counts(counter: Counter) -> None:
    made = counter.opened(region="Quebec")

    assert [clock.regime for clock in made.clocks] == ["quebec_25", "pipeda"]
    assert made.due_at == min(clock.due_at for clock in made.clocks)


def test_sending_it_again_finds_the_same_and_another_is_refused(counter: Counter) -> None:
    token = counter.token()
    made = counter.opened(token=token)

    assert counter.opened(token=token) == made
    with pytest.raises(VerificationRefused):
        counter.opened(token=token, request=RequestType.ERASURE)
    with pytest.raises(VerificationRefused):
        counter.opened(token=token, region="UK")
    assert len(counter.requests.find(TENANT)) == 1


@pytest.mark.parametrize("wrong", ["", ".", "ver_0.x", "no token", "x" * 500, "ver_/../x.y", "é.é"])
def test_what_is_no_token_opens_nothing(counter: Counter, wrong: str) -> None:
    with pytest.raises(VerificationRefused):
        counter.opened(token=wrong or " ")
    assert counter.requests.find(TENANT) == []


def test_a_token_is_for_one_person_one_organisation_and_some_days(counter: Counter) -> None:
    token = counter.token(days=2)
    with pytest.raises(VerificationRefused):
        counter.opened(token=token, subject="subject_99999")
    with pytest.raises(VerificationRefused):
        counter.opened(token=token, tenant="o_2")
    with pytest.raises(VerificationRefused):
        counter.opened(token=token[:-1] + ("A" if token[-1] != "A" else "B"))
    counter.office.clock.advance(2 * 86_400)
    with pytest.raises(VerificationRefused):
        counter.opened(token=token)


def test_a_refused_law_spends_no_token(counter: Counter) -> None:
    token = counter.token()
    with pytest.raises(UnknownLaw):
        counter.opened(token=token, region="Atlantis")

    assert counter.opened(token=token).status is RequestStatus.PROCESSING


def test_nobody_is_named_in_the_journal(counter: Counter) -> None:
    token = counter.token()
    counter.opened(token=token)

    text = "\n".join(entry.line() for entry in counter.office.another_journal().read("compliance"))
    assert PERSON not in text
    assert token not in text
    assert token.partition(".")[2] not in text


def test_a_person_is_found_by_their_id_also_after_the_keys_were_rotated(counter: Counter) -> None:
    made = counter.opened()
    counter.opened(subject="subject_2")
    counter.office.keys.rotate(counter.office.entropy)

    assert counter.requests.find(TENANT, subject=PERSON) == [made]
    assert counter.requests.find(TENANT, subject=f" {PERSON} ") == [made]
    assert counter.requests.find("o_2", subject=PERSON) == []


def test_after_the_organisations_keys_are_destroyed_nobody_is_found(counter: Counter) -> None:
    counter.opened()
    counter.office.keys.destroy(TENANT)

    with pytest.raises(TenantDestroyed):
        counter.requests.find(TENANT, subject=PERSON)
    assert len(counter.requests.find(TENANT)) == 1


def test_an_extension_is_counted_from_receipt_and_given_once(counter: Counter) -> None:
    counter.office.clock.set_time_of_day(datetime(2026, 1, 31, 8, tzinfo=UTC))
    made = counter.opened()
    done = counter.requests.extend(TENANT, made.id, by="u_1", reason="many records")

    assert done.status is RequestStatus.EXTENDED
    assert done.due_at == datetime(2026, 4, 30, 8, tzinfo=UTC)
    again = counter.requests.extend(TENANT, made.id, by="u_1", reason="many records")
    assert again == done


def test_what_cannot_be_extended(counter: Counter) -> None:
    quebec = counter.opened(region="Quebec")
    with pytest.raises(RecordConflict, match="allows no extension"):
        counter.requests.extend(TENANT, quebec.id, by="u_1", reason="busy")
    late = counter.opened()
    counter.office.clock.advance(32 * 86_400)
    with pytest.raises(RecordConflict, match="overdue"):
        counter.requests.extend(TENANT, late.id, by="u_1", reason="busy")


def test_the_late_ones_are_listed_the_longest_first(counter: Counter) -> None:
    slow = counter.opened(region="California")
    quick = counter.opened(subject="subject_2", region="Brazil")
    done = counter.opened(subject="subject_3", region="Brazil")
    counter.requests.complete(TENANT, done.id, by="u_1")
    counter.office.clock.advance(16 * 86_400)

    assert [each.id for each in counter.requests.overdue(TENANT)] == [quick.id]
    counter.office.clock.advance(30 * 86_400)
    assert [each.id for each in counter.requests.overdue(TENANT)] == [quick.id, slow.id]


def test_an_answer_is_for_ever(counter: Counter) -> None:
    made = counter.opened()
    done = counter.requests.complete(
        TENANT, made.id, by="u_1", package_url="https://files.example/p"
    )

    assert (done.status, done.package_url) == (RequestStatus.COMPLETED, "https://files.example/p")
    assert done.answered_at == counter.office.clock.now()
    assert counter.requests.complete(TENANT, made.id, by="u_1") == done
    for act in ("refuse", "withdraw"):
        with pytest.raises(RecordConflict):
            getattr(counter.requests, act)(TENANT, made.id, by="u_1", reason="no")


def test_a_refusal_keeps_its_reason(counter: Counter) -> None:
    made = counter.opened()
    done = counter.requests.refuse(TENANT, made.id, by="u_1", reason="manifestly unfounded")

    assert (done.status, done.reason) == (RequestStatus.REFUSED, "manifestly unfounded")
    with pytest.raises(RecordConflict):
        counter.requests.complete(TENANT, made.id, by="u_1")


def test_evidence_is_a_digest_and_is_attached_once(counter: Counter) -> None:
    made = counter.opened()
    for _ in range(2):
        done = counter.requests.attach(TENANT, made.id, label="export log", sha256=DIGEST, by="u_1")

    assert [each["sha256"] for each in done.evidence] == [DIGEST]
    for wrong in ("", "AB" * 32, "ab" * 31, "zz" * 32):
        with pytest.raises(InvalidParameter):
            counter.requests.attach(TENANT, made.id, label="x", sha256=wrong, by="u_1")


def test_an_erasure_says_what_became_of_each_thing(counter: Counter) -> None:
    made = counter.opened(request=RequestType.ERASURE)
    with pytest.raises(InvalidParameter):
        counter.requests.complete(TENANT, made.id, by="u_1")
    undecided = plan([TrainedModel(name="job:1", epsilon=2.0, delta=1e-6, unit="example")])
    with pytest.raises(InvalidParameter, match="undecided"):
        counter.requests.complete(TENANT, made.id, by="u_1", artefacts=undecided)

    outcomes = [
        ArtefactOutcome(artefact="notes", kind=ArtefactKind.RAW_DATA, outcome=Outcome.DELETED),
        ArtefactOutcome(
            artefact="job:1",
            kind=ArtefactKind.MODEL,
            outcome=Outcome.KEPT_WITH_BOUND,
            epsilon=2.0,
            delta=1e-6,
            unit="example",
        ),
    ]
    done = counter.requests.complete(TENANT, made.id, by="u_1", artefacts=outcomes)
    assert [each["outcome"] for each in done.artefacts] == ["deleted", "kept_with_bound"]


def test_nothing_is_ever_deleted_from_a_model() -> None:
    with pytest.raises(InvalidParameter, match="deleted of a model"):
        ArtefactOutcome(artefact="m", kind=ArtefactKind.MODEL, outcome=Outcome.DELETED)
    with pytest.raises(InvalidParameter):
        ArtefactOutcome(artefact="m", kind=ArtefactKind.MODEL, outcome=Outcome.KEPT_WITH_BOUND)
    with pytest.raises(InvalidParameter):
        ArtefactOutcome(artefact="b", kind=ArtefactKind.BACKUP, outcome=Outcome.EXPIRES)
    with pytest.raises(InvalidParameter):
        ArtefactOutcome(artefact="b", kind=ArtefactKind.RAW_DATA, outcome=Outcome.TRAINED_AGAIN)


def test_a_plan_states_the_bound_and_never_says_erased() -> None:
    with_bound, without = plan(
        [
            TrainedModel(name="a", epsilon=2.0, delta=1e-6, unit="example"),
            TrainedModel(name="b", epsilon=None, delta=None, unit="example"),
        ]
    )

    assert "bounded by epsilon 2 at delta 1.0e-06" in with_bound.note
    assert "a bound is not erasure" in with_bound.note
    assert "without a guarantee" in without.note
    assert {with_bound.outcome, without.outcome} == {Outcome.UNDECIDED}


def test_another_organisation_has_none_of_it(counter: Counter) -> None:
    made = counter.opened()

    with pytest.raises(UnknownRecord):
        counter.requests.get("o_2", made.id)
    with pytest.raises(UnknownRecord):
        counter.requests.refuse("o_2", made.id, by="u", reason="r")
    assert counter.requests.find("o_2") == []


@pytest.mark.parametrize("days", [0, 31])
def test_a_token_lives_for_a_day_to_a_month(counter: Counter, days: int) -> None:
    with pytest.raises(InvalidParameter):
        counter.token(days=days)


@pytest.mark.parametrize("person", ["", "  ", "x" * 257])
def test_ids_that_are_none(counter: Counter, person: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        counter.token(person)
    assert "x" * 257 not in str(refused.value)
