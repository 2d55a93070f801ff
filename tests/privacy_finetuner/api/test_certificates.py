"""Results of a finished run over HTTP: report, files, certificate. One run, made once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.privacy_finetuner.api.conftest import House, house_in

from privacy_finetuner.api.results import report_of
from privacy_finetuner.assessment import certificate_issue
from privacy_finetuner.config import PrivacyConfig
from privacy_finetuner.jobs import EventKind, JobState
from privacy_finetuner.jobs.folder import artefacts_in
from privacy_finetuner.trainer import PrivateTrainer
from privacy_runtime.identity import Role
from privacy_runtime.signing import opened_key

RECORDS = [{"text": f"note {n}: all is well"} for n in range(60)]


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, llama_folder: Any
) -> Iterator[tuple[House, TestClient, str]]:
    """A deployment with one job that trained, as its worker leaves it."""
    house = house_in(tmp_path_factory.mktemp("results") / "home")
    job_id, service = house.job(), house.service
    folder = service.jobs.folder(job_id)
    trainer = PrivateTrainer(
        llama_folder,
        PrivacyConfig(epsilon=8.0, delta=1e-5),
        enable_context_guard=False,
        clock=house.clock,
    )
    trainer.train(
        RECORDS, epochs=1, batch_size=30, learning_rate=1e-3, max_length=16, output_dir=str(folder)
    )
    key, _ = opened_key(service.signing.key_file, service.entropy, now=house.clock.now())
    service.signing.trust(key.public)
    made = certificate_issue.issue(folder, key, now=house.clock.now(), entropy=service.entropy)
    (folder / "certificate.json").write_bytes(made.content)
    _ended(house, job_id)
    with TestClient(house.app) as client:
        yield house, client, job_id
    service.close()


def _ended(house: House, job_id: str) -> None:
    """What the worker writes when a job is done."""
    jobs = house.service.jobs
    lines = [
        (EventKind.ARTEFACT, {
            "name": each.name, "size_bytes": each.size_bytes, "sha256": each.sha256,
            "media_type": each.media_type, "outside_guarantee": each.outside_guarantee,
        })
        for each in artefacts_in(jobs.folder(job_id))
    ]  # fmt: skip
    lines.append((EventKind.STATE, {"state": JobState.SUCCEEDED.value}))
    jobs.store.change(
        lambda work: work.tell(
            job_id,
            work.update(
                job_id,
                lines=len(lines),
                state=JobState.SUCCEEDED.value,
                finished_us=work.now_us,
            ),
            [(kind, body, work.now_us) for kind, body in lines],
        )
    )


def get(finished: Any, path: str, role: Role = Role.VIEWER, **params: str) -> Any:
    house, client, job_id = finished
    return client.get(
        f"/api/v1{path.format(job=job_id)}", params=params, headers=house.member(role).headers
    )


def test_the_privacy_report_has_the_documented_shape(finished: Any) -> None:
    report = get(finished, "/training/{job}/privacy-report").json()

    assert set(report) == {
        "privacy_spent", "privacy_remaining", "theoretical_guarantees", "training_rounds",
        "gradient_stats",
    }  # fmt: skip
    assert set(report["theoretical_guarantees"]) == {"epsilon_theoretical", "confidence_level"}
    assert set(report["gradient_stats"]) == {"mean_norm", "clipping_rate"}
    assert report["theoretical_guarantees"]["confidence_level"] is None
    assert 0 < report["theoretical_guarantees"]["epsilon_theoretical"] <= 8.0
    assert report["training_rounds"] == 2


def test_the_report_says_what_the_certificate_says(finished: Any) -> None:
    report = get(finished, "/training/{job}/privacy-report").json()
    certificate = get(finished, "/training/{job}/certificate").json()

    theoretical = report["theoretical_guarantees"]["epsilon_theoretical"]
    assert certificate["guarantee"]["epsilon"] == pytest.approx(theoretical, rel=1e-9)


def test_a_run_without_its_report_is_priced_from_its_record(finished: Any) -> None:
    """As it stands while it runs: the report is written at the end."""
    house, _, job_id = finished
    folder = house.service.jobs.folder(job_id)
    whole = report_of(folder, house.service.jobs.get(job_id, tenant=house.tenant("north")))
    hidden = folder / "privacy_report.json"
    content = hidden.read_bytes()
    hidden.unlink()

    bare = report_of(folder, house.service.jobs.get(job_id, tenant=house.tenant("north")))
    hidden.write_bytes(content)

    assert bare["theoretical_guarantees"] == whole["theoretical_guarantees"]
    assert bare["privacy_spent"]["epsilon"] == pytest.approx(whole["privacy_spent"]["epsilon"])
    assert bare["gradient_stats"] == {"mean_norm": None, "clipping_rate": None}


def test_the_page_runs_nothing(finished: Any) -> None:
    page = get(finished, "/training/{job}/report")

    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert "<script" not in page.text


def test_files_of_the_model_take_the_right_to_export(finished: Any) -> None:
    path = "/training/{job}/artefacts/model.safetensors"

    by_viewer, by_trainer = get(finished, path), get(finished, path, Role.TRAINER)
    report = get(finished, "/training/{job}/artefacts/privacy_report.json")

    assert (by_viewer.status_code, by_trainer.status_code, report.status_code) == (403, 200, 200)
    assert by_trainer.headers["etag"].strip('"')
    assert by_trainer.headers["content-disposition"].startswith("attachment")


def test_what_is_outside_the_guarantee_is_not_among_the_files(finished: Any) -> None:
    path, wanted = "/training/{job}/artefacts", {"include": "outside_guarantee"}

    listed = get(finished, path, Role.PRIVACY_OFFICER).text
    asked = get(finished, path, Role.PRIVACY_OFFICER, **wanted).text
    taken = get(finished, f"{path}/training_result.json", Role.TRAINER)
    given = get(finished, f"{path}/training_result.json", Role.PRIVACY_OFFICER, **wanted)

    assert "training_result.json" not in listed
    assert "training_result.json" in asked
    assert (taken.status_code, given.status_code) == (404, 200)


@pytest.mark.parametrize(
    "name", ["..%2f..%2fjournal.db", "job.log", ".job.lock", "sealing-keys.json"]
)
def test_nothing_else_of_the_folder_is_handed_out(finished: Any, name: str) -> None:
    answer = get(finished, "/training/{job}/artefacts/" + name, Role.TRAINER)

    assert answer.status_code in (404, 422)


@pytest.mark.parametrize(
    ("form", "kind"),
    [("json", "application/json"), ("html", "text/html"), ("pdf", "application/pdf")],
)
def test_a_certificate_comes_in_three_forms(finished: Any, form: str, kind: str) -> None:
    answer = get(finished, "/training/{job}/certificate", form=form)

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(kind)


def test_certificates_are_listed_and_shown(finished: Any) -> None:
    listed = get(finished, "/certificates").json()
    shown = get(finished, "/certificates/{job}").json()

    assert listed == {"items": [shown], "next_cursor": None}
    assert shown["unit"] == "example"


def test_a_genuine_certificate_is_genuine_and_a_changed_one_is_not(finished: Any) -> None:
    house, client, _ = finished
    headers = house.member(Role.VIEWER).headers
    document = get(finished, "/training/{job}/certificate").json()
    forged = json.loads(json.dumps(document))
    forged["guarantee"]["epsilon"] = 0.1

    verdicts = [
        client.post("/api/v1/certificates/verify", json=body, headers=headers).json()
        for body in (document, forged, {"type": "something else"})
    ]

    assert [each["is_genuine"] for each in verdicts] == [True, False, False]
    assert verdicts[0]["guarantee"]["epsilon"] == document["guarantee"]["epsilon"]
    assert verdicts[1]["code"] == "signature_invalid"
    assert verdicts[1]["guarantee"] is None


def test_a_finished_job_s_model_can_be_trained_on(finished: Any) -> None:
    house, client, job_id = finished
    body = {"model_name": f"job:{job_id}", "dataset_path": "sample:records"}

    own = client.post(
        "/api/v1/training/start", json=body, headers=house.member(Role.TRAINER).headers
    )
    foreign = client.post(
        "/api/v1/training/start", json=body, headers=house.member(Role.TRAINER, at="south").headers
    )

    assert (own.status_code, foreign.status_code) == (202, 422)
