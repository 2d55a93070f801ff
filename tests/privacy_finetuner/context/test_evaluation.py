"""The evaluation kit on detectors whose findings are known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from privacy_core.redaction.entities import ENTITIES, UnknownEntity
from privacy_core.redaction.findings import Finding
from privacy_finetuner.context.evaluation import evaluate, read_marks
from privacy_finetuner.context.label_schemes import BROADER, canonical, counted_as, rows
from privacy_finetuner.errors import DatasetError


class Fixed:
    """A detector that finds what it was told to."""

    def __init__(self, *findings: tuple[int, int, str]) -> None:
        self._findings = tuple(Finding(a, b, x, 0.9, "test.rule") for a, b, x in findings)

    def detect(
        self, text: str, *, level: str = "medium", hints: Sequence[str] = ()
    ) -> tuple[Finding, ...]:
        return self._findings


def written(folder: Path, *lines: Any) -> Path:
    path = folder / "marked.jsonl"
    rendered = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(rendered) + "\n", encoding="utf-8")
    return path


def test_labels_of_the_file_are_translated_and_scored(tmp_path: Path) -> None:
    text = "Jo Smith, 14 Elm Rd, 90210"
    file = read_marks(
        written(tmp_path, {"id": "a", "text": text, "spans": [[0, 8, "PATIENT"], [21, 26, "ZIP"]]})
    )

    document = evaluate(file, Fixed((0, 8, "PERSON"), (21, 25, "POSTAL_CODE"))).to_dict()

    assert file.mapped == {"PATIENT": "PERSON", "ZIP": "POSTAL_CODE"}
    assert document["micro"] == {"precision": 1, "recall": 1, "f1": 1, "n": 2}
    assert document["exact"]["micro"]["f1"] == 0.5
    assert document["character_recall"] == pytest.approx(12 / 13)
    assert document["leaks"]["POSTAL_CODE"]["spans_part"] == 1
    assert document["calibration"]["error"] == pytest.approx(0.1)
    assert text not in json.dumps(document)


def test_a_finding_of_a_type_that_is_never_marked_counts_apart_unless_strict(
    tmp_path: Path,
) -> None:
    file = read_marks(written(tmp_path, {"text": "Jo 1980", "spans": [[0, 2, "PERSON"]]}))
    detector = Fixed((0, 2, "PERSON"), (3, 7, "AGE"))

    lenient = evaluate(file, detector).to_dict()
    strict = evaluate(file, detector, strict=True).to_dict()

    assert lenient["micro"]["precision"] == 1
    assert lenient["labels"]["findings_not_scored"] == {"AGE": 1}
    assert strict["micro"]["precision"] == 0.5
    assert strict["entities"]["AGE"]["f1"] == 0
    assert strict["entities"]["AGE"]["recall"] is None


def test_a_finer_finding_counts_as_the_broader_label_of_the_file(tmp_path: Path) -> None:
    file = read_marks(
        written(
            tmp_path,
            {"text": "12 Elm Rd, 90210 born 1 May", "spans": [[0, 16, "LOC"], [22, 27, "DATE"]]},
        )
    )

    result = evaluate(
        file, Fixed((0, 9, "ADDRESS"), (11, 16, "LOCATION"), (22, 27, "DATE_OF_BIRTH"))
    )

    # Street and town, only a comma apart, are one place for a file that knows only places.
    assert result.exact.micro.f1 == 1


def test_an_address_in_parts_is_one_address_on_both_sides(tmp_path: Path) -> None:
    text = "lives at 5049 Harjukuja 54, Apt. 2 with Jo"
    marks = [[9, 13, "STREET"], [40, 42, "PERSON"], [14, 26, "STREET"], [28, 34, "STREET"]]
    file = read_marks(written(tmp_path, {"text": text, "spans": marks}))

    result = evaluate(file, Fixed((9, 26, "ADDRESS"), (28, 34, "ADDRESS"), (40, 42, "PERSON")))

    assert result.exact.micro.f1 == 1
    assert result.typed.entities["ADDRESS"].n == 1


def test_two_names_side_by_side_stay_two(tmp_path: Path) -> None:
    marks = {"text": "Jo, Al", "spans": [[0, 2, "PER"], [4, 6, "PER"]]}
    file = read_marks(written(tmp_path, marks))

    assert evaluate(file, Fixed((0, 2, "PERSON"), (4, 6, "PERSON"))).exact.micro.f1 == 1


def test_marks_that_are_not_personal_data_are_left_out_and_counted(tmp_path: Path) -> None:
    marks = {"text": "Mr Jo", "spans": [[0, 2, "TITLE"], [3, 5, "PERSON"]]}
    file = read_marks(written(tmp_path, marks))

    assert file.left_out == {"TITLE": 1}
    assert file.labels == {"PERSON"}


def test_an_unknown_label_is_refused_with_the_nearest_and_may_be_left_out(tmp_path: Path) -> None:
    path = written(tmp_path, {"text": "Jo", "spans": [[0, 2, "PATIENTT"]]})

    with pytest.raises(UnknownEntity, match="PATIENT"):
        read_marks(path)

    assert read_marks(path, ignore=["patientt"]).left_out == {"PATIENTT": 1}


def test_bad_lines_are_named_by_number_and_never_shown(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        {"text": "fine", "spans": []},
        '{"text": "secret-value", ',
        {"text": "secret-value"},
        {"text": "short", "spans": [[0, 99, "PERSON"]]},
        {"text": "short", "spans": [["0", 1, "PERSON"]]},
        "",
        [1, 2],
    )

    with pytest.raises(DatasetError) as caught:
        read_marks(path)

    message = str(caught.value)
    for number in (2, 3, 4, 5, 7):
        assert f"line {number}:" in message
    assert "line 1:" not in message
    assert "secret-value" not in message


def test_many_bad_lines_are_counted(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"25 lines .* and 15 more; nothing was scored"):
        read_marks(written(tmp_path, *["{"] * 25))


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no text"):
        read_marks(written(tmp_path, "", ""))


def test_marks_may_be_objects_or_longer_lists(tmp_path: Path) -> None:
    spans = [{"start": 0, "end": 2, "type": "PERSON"}, [3, 5, "LOC", "QUASI"]]
    file = read_marks(written(tmp_path, {"text": "Jo LA", "spans": spans}))

    assert {span.label for span in file.texts[0].spans} == {"PERSON", "LOCATION"}


def test_a_marked_text_shows_no_text(tmp_path: Path) -> None:
    file = read_marks(written(tmp_path, {"id": "a", "text": "hidden words", "spans": []}))

    assert "hidden" not in repr(file)


def test_progress_is_told_after_each_text(tmp_path: Path) -> None:
    file = read_marks(written(tmp_path, *[{"text": "x", "spans": []}] * 3))
    seen: list[int] = []

    evaluate(file, Fixed(), progress=seen.append)

    assert seen == [1, 2, 3]


def test_the_table_names_only_entity_types_and_no_label_twice_with_two_meanings() -> None:
    meanings: dict[str, set[str | None]] = {}
    for _, label, ours in rows():
        assert ours is None or ours in ENTITIES
        meanings.setdefault(label, set()).add(ours)

    assert [label for label, values in meanings.items() if len(values) > 1] == []
    assert all({key, *values} <= set(ENTITIES) for key, values in BROADER.items())


@pytest.mark.parametrize(
    ("label", "ours"),
    [
        ("location-other", "LOCATION"),
        ("Credit Card", "PAYMENT_CARD"),
        ("NOMBRE_PERSONAL_SANITARIO", "PERSON"),
        ("SEXO_SUJETO_ASISTENCIA", None),
        ("DATETIME", "DATE"),
        ("NID", "NATIONAL_ID"),
        ("PERSON", "PERSON"),
    ],
)
def test_names_of_other_schemes(label: str, ours: str | None) -> None:
    assert canonical(label) == ours


def test_broader_labels_that_are_marked_count_nearest_first() -> None:
    assert counted_as("US_SSN", {"NATIONAL_ID", "ID_NUMBER"}) == ("NATIONAL_ID", "ID_NUMBER")
    assert counted_as("US_SSN", {"US_SSN", "ID_NUMBER"}) == ("US_SSN",)
    assert counted_as("EMAIL", {"ID_NUMBER"}) == ()


@pytest.mark.parametrize("label", ["STREET", "CITY"])
def test_a_postal_code_counts_as_what_the_file_calls_it(tmp_path: Path, label: str) -> None:
    marks = {"text": "Elm Rd Rome 28016", "spans": [[0, 6, "STREET"], [7, 11, "CITY"]]}
    marks["spans"].append([12, 17, label])  # type: ignore[attr-defined]
    file = read_marks(written(tmp_path, marks))
    findings = Fixed((0, 6, "ADDRESS"), (7, 11, "LOCATION"), (12, 17, "POSTAL_CODE"))

    assert evaluate(file, findings).exact.micro.f1 == 1
