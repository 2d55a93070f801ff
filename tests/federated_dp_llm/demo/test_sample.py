"""What the demo ships: invented, small, in the form that nodes read."""

from __future__ import annotations

from pathlib import Path

from federated_dp_llm.demo.sample import (
    ASSETS,
    HOSPITALS,
    MODEL,
    cohorts,
    framed,
    held_back,
    patients,
    records_file,
)
from federated_dp_llm.node.prompts import PromptForm
from federated_dp_llm.node.records import Records
from federated_dp_llm.node.retrieval import Retrieval
from federated_dp_llm.routing.vocabulary import TokenizerFile

MEGABYTE = 1_000_000


def test_everything_fits_into_four_megabytes() -> None:
    sizes = [path.stat().st_size for path in ASSETS.rglob("*") if path.is_file()]

    assert sum(sizes) <= 4 * MEGABYTE


def test_every_hospital_has_the_same_number_of_patients_in_every_cohort() -> None:
    found = patients()

    assert set(found) == {cohort.cohort for cohort in cohorts()}
    for members in found.values():
        counts = [sum(p.hospital == name for p in members) for name in HOSPITALS]
        assert counts == [48, 48, 48]


def test_nodes_read_the_records_as_they_are() -> None:
    for name in HOSPITALS:
        records = Records.read(records_file(name))

        assert set(records.cohorts) >= {cohort.cohort for cohort in cohorts()}
        assert len(records.patients) == 192


def test_every_patient_of_a_cohort_matches_a_question_about_it() -> None:
    records = Records.read(records_file("north"))

    for cohort in cohorts():
        found = Retrieval(records, match=0.2).matching(
            f"How is {cohort.cohort} treated?", cohort.cohort
        )
        assert len(found.patients) == 48


def test_prompts_have_the_form_that_nodes_give_them() -> None:
    form = PromptForm()

    assert framed("Why?") == form.with_prompt("Why?")
    assert framed("Why?", "a note") == form.with_record("a note") + form.with_prompt("Why?")


def test_local_drugs_are_not_what_the_public_world_does() -> None:
    found = cohorts()

    assert all(cohort.drug != cohort.usual_drug for cohort in found)
    assert [cohort.known for cohort in found].count(False) == 1


def test_held_back_answers_are_of_patients_of_no_hospital() -> None:
    items = held_back()
    shares = [item.answer == item.protocol for item in items if item.kind == "drug"]

    assert len(items) == 96
    assert 0.5 < sum(shares) / len(shares) < 1


def test_answers_and_names_survive_the_tokenizer() -> None:
    words = TokenizerFile(Path(MODEL) / "tokenizer.json")

    for cohort in cohorts():
        assert words.count(f" {cohort.drug}") == 2  # the start, and one for the name
