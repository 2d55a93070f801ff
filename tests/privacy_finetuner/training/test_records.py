from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from privacy_finetuner.errors import ConfigurationError, DatasetError
from privacy_finetuner.training.records import label_space, read_records

PRIVATE = "Zebediah-7731"

TEXT = {"text": f"the patient {PRIVATE} slept well"}
COMPLETION = {"prompt": "Summary:", "completion": f" {PRIVATE} is well"}
CHAT = {
    "messages": [
        {"role": "user", "content": f"I am {PRIVATE}"},
        {"role": "assistant", "content": "Good morning"},
    ]
}
LABELLED = {"text": f"where is my card, says {PRIVATE}", "label": "card_arrival"}


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(source: object, **options: object) -> str:
    with pytest.raises(DatasetError) as caught:
        read_records(source, **options)
    message = f"{caught.value!s} {caught.value!r} {caught.value.__cause__!r}"
    assert PRIVATE not in message
    assert caught.value.__context__ is None or PRIVATE not in repr(vars(caught.value.__context__))
    return str(caught.value)


@pytest.mark.parametrize(
    ("row", "kind"),
    [(TEXT, "text"), (COMPLETION, "completion"), (CHAT, "chat"), (LABELLED, "classification")],
)
def test_each_shape_is_recognised(row: dict[str, object], kind: str) -> None:
    records = read_records([row, row])

    assert records.kind == kind
    assert records.number == len(records) == 2


def test_every_kind_of_file_gives_the_same_records(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    rows = [{"text": f"line {k}, \u2028 caf\u00e9"} for k in range(3)]
    write(tmp_path / "a.jsonl", "\n".join(json.dumps(r, ensure_ascii=False) for r in rows) + "\n\n")
    write(tmp_path / "a.json", json.dumps(rows))
    write(tmp_path / "a.csv", "text\n" + "".join(f'"{row["text"]}"\n' for row in rows))
    write(tmp_path / "a.txt", "\n\n".join(row["text"] for row in rows))
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    expected = read_records(rows)

    for extension in ("jsonl", "json", "csv", "txt", "parquet"):
        records = read_records(tmp_path / f"a.{extension}")
        assert records.rows == expected.rows, extension
        assert records.fingerprint == expected.fingerprint, extension


def test_a_datasets_dataset_is_read_and_null_columns_count_as_absent() -> None:
    import datasets

    table = datasets.Dataset.from_list([{**TEXT, "label": None}, {**TEXT, "label": None}])

    assert read_records(table).kind == "text"
    assert "train" in refusal(datasets.DatasetDict({"train": table}))


def test_a_list_of_strings_is_text() -> None:
    assert read_records(["one", "two"]).rows == ({"text": "one"}, {"text": "two"})


def test_windows_files_are_read(tmp_path: Path) -> None:
    bom = b"\xef\xbb\xbf"
    for name, body in {
        "a.jsonl": b'{"text": "one"}\r\n{"text": "two"}\r\n',
        "a.csv": b"text\r\none\r\ntwo\r\n",
        "a.txt": b"one\r\ntwo\r\n",
        "a.json": b'[{"text": "one"},\r\n {"text": "two"}]',
    }.items():
        assert read_records(write(tmp_path / name, bom + body)).rows == (
            {"text": "one"},
            {"text": "two"},
        ), name


def test_a_folder_is_read_in_order_of_names(tmp_path: Path) -> None:
    write(tmp_path / "b.txt", "second")
    write(tmp_path / "a.txt", "first")
    write(tmp_path / "LICENSE", "not data")
    write(tmp_path / ".hidden.txt", "not data")

    assert [row["text"] for row in read_records(str(tmp_path)).rows] == ["first", "second"]


def test_a_folder_of_two_kinds_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", PRIVATE)
    write(tmp_path / "b.csv", "text\nx")

    assert "1 .csv, 1 .txt" in refusal(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    assert ".jsonl" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", "", "is empty"),
        ("a.jsonl", "\n \n", "holds no records"),
        ("a.csv", "text,label\n", "holds no records"),
        ("a.json", "[]", "holds no records"),
        ("a.jsonl", f'{{"text": "ok"}}\n\n{{"text": "{PRIVATE}"\n', "line 3 is not JSON"),
        ("a.jsonl", "[" * 100_000, "line 1 is not JSON"),
        ("a.jsonl", f'{{"text": "ok"}}\n"{PRIVATE}"\n', "line 2 is str"),
        ("a.jsonl", f'{{"body": "{PRIVATE}", "id": 3}}', "['body', 'id']"),
        ("a.jsonl", '{"text": 5}', "field 'text' is int, expected text"),
        (
            "a.jsonl",
            f'{{"text": "{PRIVATE}"}}\n{{"text": " "}}',
            "record 2 of a.jsonl: field 'text'",
        ),
        ("a.jsonl", '{"text": "\\ud800"}', "surrogate"),
        ("a.json", f'{{"text": "{PRIVATE}"}}', "expected a list"),
        ("a.json", f'[{{"text": "x"}}, "{PRIVATE}"]', "record 2 is str"),
        ("a.csv", f"text,label\n{PRIVATE}\n", "line 2 has 1 fields; the header names 2"),
        ("a.csv", f'text\n"{PRIVATE}\n', "is not CSV"),
        ("a.csv", f"text,text\n{PRIVATE},x\n", "not all different"),
        ("a.docx", PRIVATE, ".jsonl"),
        ("a.txt", b"caf\xc3\xa9\n\xff", "byte 6"),
        ("b.txt", b"\xef\xbb\xbfab\xff", "byte 5"),
        ("a.parquet", PRIVATE, "not a readable Parquet"),
    ],
)
def test_a_bad_file_is_refused_with_its_place(
    tmp_path: Path, name: str, content: str | bytes, expected: str
) -> None:
    message = refusal(write(tmp_path / name, content))

    assert expected in message
    assert Path(name).name in message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "absent.jsonl" in refusal(tmp_path / "absent.jsonl")


def test_data_given_in_place_of_a_path_is_not_repeated() -> None:
    assert "characters" in refusal(f"The patient {PRIVATE}\nslept")
    assert "characters" in refusal(f"{PRIVATE} " * 1000)
    assert "characters" in refusal("")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ([], "no records"),
        (7, "int"),
        ([TEXT, 7], "record 2 of the list is int"),
        ([TEXT, COMPLETION, COMPLETION], "2 completion, 1 text"),
        ([{"prompt": "x"}], "'completion'"),
        ([{**COMPLETION, "completion": ""}], "'completion' is empty"),
        ([{"messages": []}], "empty list"),
        ([{"messages": PRIVATE}], "str"),
        ([{"messages": [PRIVATE]}], "message 1 is str"),
        ([{"messages": [{"role": "user"}]}], "lacks ['content']"),
        ([{"messages": [{"role": PRIVATE, "content": "x"}]}], "'assistant'"),
        ([{"messages": [{"role": "user", "content": PRIVATE}]}], "nothing to learn"),
        ([{"messages": [{"role": "assistant", "content": 3}]}], "'content' is int"),
        ([{**LABELLED, "label": 0.5}], "'label' is float"),
        ([{**LABELLED, "label": True}], "'label' is bool"),
    ],
)
def test_a_bad_record_is_refused_with_its_number(source: object, expected: str) -> None:
    assert expected in refusal(source)


def test_an_empty_prompt_is_allowed() -> None:
    assert read_records([{**COMPLETION, "prompt": ""}]).kind == "completion"


def test_fields_can_be_renamed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "dialogue,section,text\nhello,GENHX,other\n")

    records = read_records(path, text_field="dialogue", label_field="section")

    assert records.rows == ({"text": "hello", "label": "GENHX"},)


def test_equal_field_names_are_refused() -> None:
    with pytest.raises(ConfigurationError):
        read_records([TEXT], text_field="label")


def test_integer_labels_of_a_csv_are_integers(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\nx,10\ny,2\n")

    assert [row["label"] for row in read_records(path).rows] == [10, 2]


def test_a_csv_field_may_be_longer_than_the_csv_module_likes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text\n" + "x" * 200_000 + "\n")

    assert len(str(read_records(path).rows[0]["text"])) == 200_000


def test_text_labels_are_sorted_into_classes() -> None:
    records = read_records([{"text": "x", "label": label} for label in ("b", "a", "b", "c")])

    assert label_space(records).names == ("a", "b", "c")
    assert label_space(records, label_names=["c", "b", "a", "z"]).names == ("c", "b", "a", "z")


def test_integer_labels_are_held_to_their_range() -> None:
    records = read_records([{"text": "x", "label": np.int64(label)} for label in (0, 3)])

    assert label_space(records).size == 4
    assert label_space(records, num_labels=5).size == 5
    assert label_space(records, label_names="abcd").names == ("a", "b", "c", "d")
    with pytest.raises(DatasetError, match=r"1 labels are outside 0\.\.2"):
        label_space(records, num_labels=3)


@pytest.mark.parametrize(
    ("labels", "options", "error"),
    [
        (("a", PRIVATE), {"label_names": ["a", "b"]}, DatasetError),
        (("a", PRIVATE), {"num_labels": 3}, DatasetError),
        (("a", PRIVATE), {"label_names": ["a", "a"]}, ConfigurationError),
        (("a", PRIVATE), {"label_names": ["a", "b"], "num_labels": 3}, ConfigurationError),
        ((PRIVATE, 1), {}, DatasetError),
        ((PRIVATE, PRIVATE), {}, DatasetError),
        ((-1, 1), {}, DatasetError),
        ((0, 10**9), {}, DatasetError),
    ],
)
def test_labels_that_fit_no_classes_are_refused(
    labels: tuple[object, ...], options: dict[str, object], error: type[Exception]
) -> None:
    records = read_records([{"text": "x", "label": label} for label in labels])

    with pytest.raises(error) as caught:
        label_space(records, **options)

    assert PRIVATE not in str(caught.value)


def test_records_without_labels_have_no_classes() -> None:
    with pytest.raises(DatasetError, match="label"):
        label_space(read_records([TEXT]))


def test_every_record_must_name_its_user() -> None:
    rows = [{**TEXT, "user_id": 7}, {**TEXT, "user_id": "7"}, {**TEXT, "user_id": "8"}]

    assert read_records(rows, user_field="user_id").users("user_id") == ["7", "7", "8"]
    for bad in (None, "", 1.5, True, [PRIVATE]):
        assert "record 4 of the list" in refusal(
            [*rows, {**TEXT, "user_id": bad}], user_field="user_id"
        )


def test_the_fingerprint_knows_the_set_and_not_its_order() -> None:
    one, two, three = ({"text": text} for text in ("one", "two", "three"))
    fingerprint = read_records([one, two]).fingerprint

    assert read_records([two, one]).fingerprint == fingerprint
    assert read_records([one, three]).fingerprint != fingerprint
    assert read_records([one, two, two]).fingerprint != fingerprint
    assert read_records([{**one, "user": 1}, two]).fingerprint != fingerprint


def test_the_repr_shows_sizes_only() -> None:
    for row in (TEXT, COMPLETION, CHAT, {**LABELLED, "label": PRIVATE}):
        assert PRIVATE not in repr(read_records([row]))


def test_reading_needs_no_torch() -> None:
    program = "import sys, privacy_finetuner.training.records; sys.exit('torch' in sys.modules)"
    path = os.pathsep.join(entry for entry in sys.path if entry)

    done = subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": path}, check=False)

    assert done.returncode == 0


@pytest.mark.parametrize(
    ("file", "options", "kind", "number"),
    [
        ("banking77/train.csv", {"label_field": "category"}, "classification", 10003),
        (
            "mts_dialog/train.csv",
            {"prompt_field": "dialogue", "completion_field": "section_text"},
            "completion",
            1201,
        ),
    ],
)
def test_real_tables_are_read(
    shared_data: Path, file: str, options: dict[str, str], kind: str, number: int
) -> None:
    records = read_records(shared_data / file, **options)

    assert (records.kind, records.number) == (kind, number)
