"""Jobs on pages: the plan before, the form, the run, what it left."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from privacy_finetuner.config import PrivacyConfig, TrainingConfig
from privacy_finetuner.dashboard.frontier import frontier
from privacy_finetuner.dashboard.job_views import fault_of
from privacy_finetuner.dashboard.planning import Wish, preview
from privacy_finetuner.jobs import EventKind, JobState
from privacy_finetuner.training.plan import make_plan
from privacy_runtime.identity import Role

if TYPE_CHECKING:
    from tests.privacy_finetuner.dashboard.conftest import Town

FORM = {
    "dataset": "sample:records",
    "model": "sample:model",
    "epsilon": "3",
    "epochs": "1",
    "accountant": "pld",
    "certificate": "1",
}


def test_the_preview_is_the_plan_of_the_run() -> None:
    shown = preview(Wish.of({"epsilon": "2", "epochs": "1"}), 2000)
    plan = make_plan(
        PrivacyConfig(epsilon=2.0, delta=1e-5, accounting_mode="pld"),
        TrainingConfig(epochs=1, batch_size=125, learning_rate="auto", clip_rule="normalise"),
        examples=2000,
    )
    assert shown.plan == plan
    assert shown.plan is not None
    assert shown.plan.epsilon() <= 2.0
    assert shown.odds == pytest.approx(0.8808, abs=1e-3)


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("epsilon", "-1"), ("epsilon", "x"), ("epsilon", "nan"), ("epsilon", "inf"), ("delta", "1"),
        ("epochs", "0"), ("batch_size", "2.5"), ("learning_rate", "0"), ("canaries", "-1"),
    ],
)  # fmt: skip
def test_a_wish_that_cannot_be_read_is_a_fault_of_its_field(field: str, text: str) -> None:
    assert list(Wish.of({field: text}).faults) == [field]


def test_numbers_may_have_a_comma() -> None:
    assert Wish.of({"epsilon": "2,5"}).epsilon == 2.5


def test_looking_at_a_plan_spends_nothing(town: Town) -> None:
    trainer = town.person(Role.TRAINER)
    account = town.account("notes/2026")
    page = trainer.open("/jobs/plan?dataset=sample:records&epsilon=4&account=notes/2026").text
    assert "ε = 4" in page
    assert "2,000" in page
    assert "ε 8 left of 8" in page
    assert town.service.ledger.balance(account).epsilon_if_all_commit == 0.0
    assert "choose a data set" in trainer.open("/jobs/plan?dataset=/etc/passwd").text


def test_a_form_starts_one_job_however_often_it_is_sent(town: Town) -> None:
    trainer = town.person(Role.TRAINER)
    town.account("notes/2026")
    page = trainer.open("/jobs/new").text
    key = re.search(r'name="key" value="([0-9a-f]{32})"', page).group(1)
    form = {**FORM, "key": key, "account": "notes/2026", "name": "mine"}
    places = {trainer.send("/jobs", form).headers["location"] for _ in range(3)}
    assert len(places) == 1
    (job,) = town.service.jobs.find(trainer.tenant)
    assert (job.name, job.owner, job.spec.dataset) == ("mine", trainer.id, "sample:records")
    assert job.spec.account == f"{trainer.tenant}:notes/2026"
    assert job.spec.privacy["epsilon"] == 3.0
    assert job.spec.training["batch_size"] == 125
    assert job.spec.certificate


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dataset": "/etc/passwd"}, "no such data set"),
        ({"dataset": "../../etc/passwd"}, "no such data set"),
        ({"model": "gpt2"}, "no such model"),
        ({"epsilon": "0"}, "0.001 \N{EN DASH} 1000"),
        ({"epsilon": "1e9"}, "0.001 \N{EN DASH} 1000"),
        ({"account": "no-slash"}, "2 to 3 parts"),
    ],
)
def test_a_bad_form_starts_nothing_and_says_what_is_wrong(
    quiet_town: Town, change: dict[str, str], said: str
) -> None:
    trainer = quiet_town.person(Role.TRAINER)
    answer = trainer.send("/jobs", {**FORM, **change, "name": "kept as typed"})
    assert answer.status_code == 422
    assert "Nothing was started" in answer.text
    assert said in answer.text
    assert "kept as typed" in answer.text
    assert quiet_town.service.jobs.find(trainer.tenant) == []


def test_a_list_is_filtered_and_comes_in_pages(town: Town) -> None:
    trainer = town.person(Role.TRAINER)
    jobs = [town.job(name=f"job number {n}") for n in range(30)]
    town.service.jobs.cancel(jobs[3].id, tenant=trainer.tenant, by=trainer.id)
    first = trainer.open("/jobs").text
    assert "job number 29" in first
    assert "job number 2<" not in first
    following = re.search(r'href="(/jobs\?[^"]*before=[^"]*)"', first).group(1)
    assert "job number 2<" in trainer.open(following.replace("&amp;", "&")).text
    cancelled = trainer.open("/jobs?state=cancelled").text
    assert cancelled.count('<th scope="row">') == 1
    assert trainer.open("/jobs?state=nonsense&before=zzz").status_code == 200


def test_curves_are_made_of_events_and_have_tables(town: Town) -> None:
    job, trainer = town.job(), town.person(Role.TRAINER)
    steps = [{"step": n, "steps": 400, "epsilon": n / 100, "delta": 1e-5} for n in range(1, 400)]
    town.tell_all(job, EventKind.STEP, steps)
    for epoch, loss in ((1, 6.25), (2, 5.5)):
        town.tell(job, EventKind.EPOCH, epoch=epoch, loss=loss, accuracy=None)
    page = trainer.open(f"/jobs/{job.id}").text
    assert 'id="chart-epsilon"' in page
    assert 'id="chart-loss"' in page
    assert 'id="chart-accuracy"' not in page, "what was not released has no curve"
    rows = (
        re.search(r'id="chart-epsilon".*?</figure>', page, re.DOTALL).group(0).count("<tr data-at")
    )
    assert rows == 240, "thinned to what a picture can show"
    assert "3.99" in page
    assert "6.25" in page


def test_cancelling_asks_first(town: Town) -> None:
    job, trainer = town.job(), town.person(Role.TRAINER)
    assert "nothing has been spent" in trainer.open(f"/jobs/{job.id}/cancel").text
    assert town.service.jobs.get(job.id, tenant=job.tenant).state is JobState.QUEUED
    assert trainer.send(f"/jobs/{job.id}/cancel", {}).status_code == 303
    assert town.service.jobs.get(job.id, tenant=job.tenant).state is JobState.CANCELLED
    assert "nothing to cancel" in trainer.open(f"/jobs/{job.id}/cancel").text
    assert trainer.send(f"/jobs/{job.id}/cancel", {}).status_code == 303


def test_a_fault_names_accounts_as_people_do(town: Town) -> None:
    job = town.job()
    tenant = job.tenant
    held = f"protection/{tenant}:notes/2026 has 1 left; grant {tenant}:notes/2026; quota/{tenant}/a"
    failed = replace(job, state=JobState.FAILED, error=held)
    assert fault_of(failed) == "notes/2026 has 1 left; grant notes/2026; quota/a"


def test_a_report_runs_nothing_and_loads_nothing(town: Town) -> None:
    job, trainer = town.job(), town.person(Role.TRAINER)
    page = b"<!doctype html><style>body { color: red }</style><h1>epsilon 3</h1>"
    town.leave(job, "report.html", page)
    answer = trainer.open(f"/jobs/{job.id}/report")
    assert answer.content == page
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "sandbox" in policy
    assert "script-src" not in policy
    assert "connect-src" not in policy
    assert "frame-ancestors 'none'" in policy


def test_files_are_saved_and_weights_need_their_scope(town: Town) -> None:
    job = town.job()
    town.leave(job, "certificate.json", b"{}")
    town.leave(job, "model.safetensors", b"weights")
    viewer, trainer = town.person(Role.VIEWER), town.person(Role.TRAINER)
    answer = viewer.open(f"/jobs/{job.id}/files/certificate.json")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert viewer.open(f"/jobs/{job.id}/files/model.safetensors").status_code == 404
    assert trainer.open(f"/jobs/{job.id}/files/model.safetensors").content == b"weights"
    for name in ("job.log", "..%2f..%2fidentity.db", ".job.lock", "run.jsonl"):
        assert trainer.open(f"/jobs/{job.id}/files/{name}").status_code == 404, name


def test_a_stream_goes_on_where_the_browser_left_off(town: Town) -> None:
    job, trainer = town.job(), town.person(Role.TRAINER)
    for step in (1, 2, 3):
        town.tell(job, EventKind.STEP, step=step, steps=4, epsilon=step / 10)
    town.service.jobs.cancel(job.id, tenant=job.tenant, by=trainer.id)
    whole = trainer.open(f"/jobs/{job.id}/events")
    assert whole.headers["content-type"].startswith("text/event-stream")
    assert whole.text.count("event: step") == 3
    rest = trainer.open(f"/jobs/{job.id}/events", **{"last-event-id": "3"}).text
    assert rest.count("event: step") == 1
    assert trainer.open(f"/jobs/{job.id}/events?after=4").text.count("event: step") == 0
    assert trainer.open(f"/jobs/{job.id}/events", **{"last-event-id": "x"}).status_code == 422


def _finished(town: Town, epsilon: float, loss: float) -> object:
    job = town.job(name=f"epsilon {epsilon}")
    return replace(job, state=JobState.SUCCEEDED, epsilon=epsilon, metrics={"loss": loss})


def test_the_frontier_is_what_no_cheaper_run_equals(town: Town) -> None:
    runs = [
        _finished(town, e, loss) for e, loss in ((8.0, 2.5), (1.0, 4.0), (3.0, 4.5), (2.0, 3.0))
    ]
    points = frontier(runs, "loss", is_larger_better=False)  # type: ignore[arg-type]
    assert [(p.epsilon, p.is_best) for p in points] == [
        (1.0, True),
        (2.0, True),
        (3.0, False),
        (8.0, True),
    ]
    assert frontier(runs, "accuracy", is_larger_better=True) == []  # type: ignore[arg-type]
