from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy_finetuner.context.decoding import decoded, encoding_of, lines_of
from privacy_finetuner.context.documents import (
    FileOptions,
    files_below,
    records_of,
    rewrite_file,
    tasks_of,
    text_records,
)
from privacy_finetuner.context.guard import ContextGuard
from privacy_finetuner.context.html_text import HtmlText
from privacy_finetuner.context.json_text import JsonText
from privacy_finetuner.context.pieces import Edit, Piece
from privacy_finetuner.errors import ConfigurationError, DocumentError

NOBODY: list[list[Edit]] = []


def through(guard: ContextGuard, text: str, suffix: str) -> str:
    parts = []
    for record in text_records(text, suffix, "the text"):
        parts.append(record.render(guard.protect_pieces(record.pieces).edits))
    return "".join(parts)


def untouched(text: str, suffix: str) -> str:
    return "".join(r.render([[] for _ in r.pieces]) for r in text_records(text, suffix, "t"))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(values, st.sampled_from([None, 1]), st.booleans())
def test_json_in_which_nothing_is_replaced_stays_byte_for_byte(
    value: Any, indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)

    assert JsonText(text).render([[] for _ in JsonText(text).pieces]) == text


@settings(max_examples=150, deadline=None)
@given(values)
def test_json_in_which_everything_is_replaced_is_json_still(value: Any) -> None:
    record = JsonText(json.dumps(value))
    edits = [[Edit(0, len(p.text), "[X]")] if p.text else [] for p in record.pieces]

    json.loads(record.render(edits))


def test_every_leaf_of_json_is_a_piece_with_its_path_as_hints() -> None:
    text = '{"patient": {"dateOfBirth": "x", "phones": [5, {"home_phone": "y"}]}, "n": null}'
    found = {p.text: (p.column, p.name, p.hints) for p in JsonText(text).pieces}

    assert found["x"] == ("patient.dateOfBirth", "dateOfBirth", ("patient", "date of birth"))
    assert found["5"] == ("patient.phones[]", "phones", ("patient", "phones"))
    assert found["y"][2] == ("patient", "phones", "home phone")
    assert found["patient"][0] == "{key}"


def test_json_in_strings_in_json_is_looked_into_and_stays_json(guard: ContextGuard) -> None:
    deep: Any = {"mail": "doe@example.org"}
    for _ in range(4):
        deep = {"inner": json.dumps(deep), "n": 1.50}
    made = json.loads(through(guard, json.dumps(deep), ".json"))
    for _ in range(4):
        made = json.loads(made["inner"])

    assert made == {"mail": "[EMAIL]"}


def test_keys_that_become_the_same_stay_apart() -> None:
    record = JsonText('{"a@x.de": 1, "b@x.de": 2}')
    edits = [[Edit(0, 6, "***")] if "@" in p.text else [] for p in record.pieces]

    assert json.loads(record.render(edits)) == {"***": 1, "*** (2)": 2}


def test_a_number_in_which_something_is_found_becomes_text(guard: ContextGuard) -> None:
    made = through(guard, '{"card": 4111111111111111, "n": 12}', ".json")

    assert json.loads(made) == {"card": "[PAYMENT_CARD]", "n": 12}


@pytest.mark.parametrize("text", ["", "{", '{"a": }', "[1,]", "[" * 100_000, "1" * 5000 + "x"])
def test_what_is_not_json_is_refused_without_its_text(text: str) -> None:
    with pytest.raises(DocumentError, match="not JSON") as caught:
        JsonText(text)

    assert len(str(caught.value)) < 200


def test_json_lines_are_refused_with_the_number_of_the_line(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"a": 1}\n\n{"a": doe@example.org}\n')

    with pytest.raises(DocumentError, match="line 3") as caught:
        list(records_of(path))

    assert "doe" not in str(caught.value)


cells = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(cells, min_size=2, max_size=4), min_size=1, max_size=4),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_a_table_keeps_its_cells_and_columns(
    rows: list[list[str]], delimiter: str, end: str
) -> None:
    rows = [["first", "second"], *rows]
    target = io.StringIO()
    quoting = (
        csv.QUOTE_ALL if any("\r" in cell for row in rows for cell in row) else csv.QUOTE_MINIMAL
    )
    csv.writer(target, delimiter=delimiter, lineterminator=end, quoting=quoting).writerows(rows)

    made = untouched(target.getvalue(), ".csv")

    assert made.endswith(end)
    assert list(csv.reader(io.StringIO(made, newline=""), delimiter=delimiter)) == rows


def test_the_name_of_a_column_is_a_hint_for_its_cells() -> None:
    _header, row = list(text_records("id,home_phone\n7,555\n", ".csv", "t"))

    assert row.pieces[1] == Piece("555", "home_phone", "home_phone", ("home phone",))


def test_the_first_row_of_a_table_is_looked_at_too(guard: ContextGuard) -> None:
    assert through(guard, "doe@example.org,1\n", ".csv") == "[EMAIL],1\n"


def test_a_cell_of_a_megabyte_is_read(guard: ContextGuard) -> None:
    text = "note\n" + '"' + "word " * 250_000 + 'doe@example.org"\n'

    assert through(guard, text, ".csv").endswith("word [EMAIL]\n")


def test_an_open_quote_is_refused_with_its_line() -> None:
    with pytest.raises(DocumentError, match="line 2"):
        list(text_records('a,b\n"open,1\n', ".csv", "the text"))


PAGE = """<!doctype html>
<html><head><title>Doe</title><script>let mail = "doe@example.org";</script></head>
<!-- ask doe@example.org -->
<p title='doe@example.org'>Jo<b>hn D</b>oe &lt;doe&#64;example.org&gt; 4111-<i>1111</i>-1111-1111
<a href="mailto:doe@example.org">mail</a><input name="card" value=4111111111111111>
</html>
"""


def test_a_page_is_read_as_a_reader_sees_it(guard: ContextGuard) -> None:
    made = through(guard, PAGE, ".html")

    assert "doe@" not in made
    assert "example.org" not in made
    assert "1111" not in made
    assert "<p title='[EMAIL]'>[PERSON]<b></b> &lt;[EMAIL]&gt; [PAYMENT_CARD]<i></i>" in made
    assert "value=[PAYMENT_CARD]>" in made


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(
    ["<p>", "</p>", "<b a='x'>", "<", ">", "&amp;", "&#x41;", "&", "text", "\n", "<!--", "-->",
     "<script>", "</script>", "<![CDATA[", "]]>", "<?pi", "<!doctype x>", "\"", "'", "é", "</",
     "<br/>", "<a href=x y>", "<textarea>", "\r\n"]
), max_size=14).map("".join))  # fmt: skip
def test_a_page_of_any_kind_stays_byte_for_byte(text: str) -> None:
    assert untouched(text, ".html") == text


@pytest.mark.parametrize(
    "page", ["<doe@example.org>", "<p doe@example.org>", "<John Doe>", "<p title=doe@example.org",
             "<!-- doe@example.org", "<? doe@example.org", "<script>doe@example.org",
             "<P DATA-X='doe&#64;example.org'>", "<a =doe@example.org>", "</p doe@example.org>"]
)  # fmt: skip
def test_no_corner_of_a_page_is_left_out(guard: ContextGuard, page: str) -> None:
    made = through(guard, page, ".html")

    assert "doe" not in made
    assert "Doe" not in made


@pytest.mark.parametrize(
    "part",
    ["<a ", "<", "<!--", "<a b='", "<a/", "</", "&", "<p>x", "<script>", "<![CDATA[", "<a b"],
)
def test_a_page_is_read_in_time_linear_in_its_length(part: str) -> None:
    began = time.process_time()
    HtmlText(part * (100_000 // len(part)))

    assert time.process_time() - began < 2  # the parser of the standard library: two minutes


def test_every_character_of_a_page_outside_its_tags_is_looked_at() -> None:
    page = "one<p>two</p>three<!--four--><script>five</script><style>six</style>" + "<i alt=seven>"
    looked = " ".join(piece.text for piece in HtmlText(page).pieces)

    assert all(word in looked for word in ("one", "two", "three", "four", "five", "six", "seven"))


@pytest.mark.parametrize(
    ("data", "text", "name"),
    [
        (b"caf\xc3\xa9", "café", "utf-8"),
        (b"\xef\xbb\xbfcaf\xc3\xa9", "café", "utf-8"),
        ("café".encode("utf-16"), "café", "utf-16-le"),
        (b"\xfe\xff" + "café".encode("utf-16-be"), "café", "utf-16-be"),
        ("café".encode("utf-32"), "café", "utf-32-le"),
    ],
)
def test_marked_and_plain_unicode_is_read(data: bytes, text: str, name: str) -> None:
    found, encoding = decoded(data, "the file")

    assert (found, encoding.name) == (text, name)
    assert encoding.mark + encoding.encode(found) == data


@pytest.mark.parametrize(
    ("data", "place"),
    [(b"abc\xff", 3), (b"\xef\xbb\xbfab\xe9", 5), (b"ok\n" * 9 + b"caf\xe9 x", 30)],
)
def test_bytes_that_are_no_text_are_refused_with_their_place(data: bytes, place: int) -> None:
    with pytest.raises(DocumentError, match=f"at byte {place};"):
        decoded(data, "the file")


def test_utf16_without_its_mark_is_refused() -> None:
    with pytest.raises(DocumentError, match="NUL"):
        decoded("doe@example.org".encode("utf-16-le"), "the file")


@pytest.mark.parametrize("name", ["no-such-code", "base64", "utf-16"])
def test_an_encoding_that_cannot_be_read_is_refused(name: str) -> None:
    with pytest.raises(DocumentError):
        encoding_of(b"abc", name)


@settings(max_examples=80, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60))
def test_lines_end_where_a_line_feed_stands(text: str) -> None:
    lines = list(lines_of(io.BytesIO(text.encode()), encoding_of(b""), "the file"))

    assert "".join(lines) == text
    assert all("\n" not in line[:-1] for line in lines)


def protect_with(guard: ContextGuard) -> Any:
    return lambda pieces: guard.protect_pieces(pieces).edits


def test_a_file_keeps_its_encoding_and_mark(tmp_path: Path, guard: ContextGuard) -> None:
    source, target = tmp_path / "a.txt", tmp_path / "b.txt"
    source.write_bytes("Grüße an doe@example.org\r\n".encode("utf-16"))

    assert rewrite_file(source, target, protect_with(guard)) == 1
    assert target.read_bytes() == "Grüße an [EMAIL]\r\n".encode("utf-16")


def test_a_page_may_declare_its_encoding(tmp_path: Path, guard: ContextGuard) -> None:
    source, target = tmp_path / "a.html", tmp_path / "b.html"
    source.write_bytes('<meta charset="latin-1"><p>José doe@example.org'.encode("latin-1"))

    rewrite_file(source, target, protect_with(guard))

    assert target.read_bytes() == '<meta charset="latin-1"><p>José [EMAIL]'.encode("latin-1")


def test_a_file_that_fails_leaves_its_target_as_it_was(tmp_path: Path, guard: ContextGuard) -> None:
    source, target = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    source.write_text('{"a": "fine"}\n' * 100 + "{broken\n")
    target.write_text("old")

    with pytest.raises(DocumentError, match="line 101"):
        rewrite_file(source, target, protect_with(guard))

    assert target.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "b.jsonl"]


def test_parquet_keeps_the_types_of_what_is_not_touched(
    tmp_path: Path, guard: ContextGuard
) -> None:
    import pyarrow as arrow
    from pyarrow import parquet

    source, target = tmp_path / "a.parquet", tmp_path / "b.parquet"
    columns = {
        "id": arrow.array([1, 2], arrow.int32()),
        "note": ["from doe@example.org", None],
        "card": [4111111111111111, 7],
        "tags": [["x"], ["John Doe"]],
    }
    parquet.write_table(arrow.table(columns), source)

    assert rewrite_file(source, target, protect_with(guard)) == 2
    made = parquet.read_table(target)

    assert made.schema.field("id").type == arrow.int32()
    assert made.to_pydict() == {
        "id": [1, 2],
        "note": ["from [EMAIL]", None],
        "card": ["[PAYMENT_CARD]", "7"],
        "tags": ['["x"]', '["[PERSON]"]'],
    }


def test_bytes_in_parquet_are_refused_until_somebody_decides(
    tmp_path: Path, guard: ContextGuard
) -> None:
    import pyarrow as arrow
    from pyarrow import parquet

    source, target = tmp_path / "a.parquet", tmp_path / "b.parquet"
    parquet.write_table(arrow.table({"scan": [b"doe@example.org"], "n": [1]}), source)

    with pytest.raises(DocumentError, match="scan"):
        rewrite_file(source, target, protect_with(guard))
    rewrite_file(source, target, protect_with(guard), FileOptions(kept=frozenset({"scan"})))

    assert parquet.read_table(target).to_pydict() == {"scan": [b"doe@example.org"], "n": [1]}


def test_a_folder_is_mirrored(tmp_path: Path) -> None:
    for name in ("a.txt", "deep/er/b.csv", ".hidden", ".git/config"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")

    tasks = tasks_of([tmp_path / "in"], tmp_path / "out")

    targets = [task.target.relative_to(tmp_path / "out").as_posix() for task in tasks]
    assert targets == ["a.txt", "deep/er/b.csv"]


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("x")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link.txt").symlink_to(tmp_path / "secret.txt")

    with pytest.raises(DocumentError, match="symbolic link"):
        files_below([tmp_path / "in"])


def test_originals_are_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")

    with pytest.raises(ConfigurationError, match="original"):
        tasks_of([tmp_path / "a.txt"], tmp_path)
    assert tasks_of([tmp_path / "a.txt"], tmp_path, overwrite=True)


def test_two_files_for_one_place_are_refused(tmp_path: Path) -> None:
    paths: Sequence[Path] = [tmp_path / "one" / "a.txt", tmp_path / "two" / "a.txt"]
    for path in paths:
        path.parent.mkdir()
        path.write_text("x")

    with pytest.raises(ConfigurationError, match="both become"):
        tasks_of(paths, tmp_path / "out")


def test_an_output_folder_below_the_input_is_not_read_again(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.txt").write_text("x")

    assert [task.source.name for task in tasks_of([tmp_path], tmp_path / "out")] == ["a.txt"]
