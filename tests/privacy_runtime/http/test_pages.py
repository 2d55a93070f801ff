"""Pages of lists, cursors, paths of faults, and paths that a redirect may have."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_runtime.http import InvalidRequest
from privacy_runtime.http.browsers import is_path_here
from privacy_runtime.http.faults import MOST_FAULTS, faults_of, path_of
from privacy_runtime.http.pages import decoded, encoded

KEYS = st.lists(st.one_of(st.text(max_size=40), st.integers(-(2**53), 2**53)), max_size=4)


@given(KEYS)
def test_a_cursor_comes_back(parts: list[Any]) -> None:
    assert decoded(encoded(*parts), *(type(part) for part in parts)) == tuple(parts)


@given(st.text(max_size=60))
def test_other_texts_are_no_cursor(text: str) -> None:
    with pytest.raises(InvalidRequest):
        decoded(text, str, int)


@pytest.mark.parametrize(
    "cursor",
    [
        encoded("a", 1) + "=",
        encoded(1, "a"),
        encoded("a", True),
        encoded("a"),
        "1." + base64.urlsafe_b64encode(b'["a", 1]').decode().rstrip("="),
        "1." + base64.urlsafe_b64encode(b"[" * 300).decode().rstrip("="),
        "2." + encoded("a", 1)[2:],
    ],
)
def test_a_cursor_has_one_spelling_and_its_lists_kinds(cursor: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        decoded(cursor, str, int)
    assert refused.value.faults[0].path == "query.cursor"


@pytest.mark.anyio
async def test_every_item_is_on_one_page(house: Any) -> None:
    async with house.client() as client:
        found, cursor = [], None
        for _ in range(10):
            params = {"limit": 3} | ({} if cursor is None else {"cursor": cursor})
            page = (await client.get("/list", params=params)).json()
            found += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        whole = (await client.get("/list", params={"limit": 7})).json()
    assert found == list(range(1, 8))
    assert whole["next_cursor"] is None


@pytest.mark.anyio
@pytest.mark.parametrize("limit", ["0", "201", "-1", "ten", "1.5", "9" * 400])
async def test_limits_of_a_page(house: Any, limit: str) -> None:
    async with house.client() as client:
        answer = await client.get("/list", params={"limit": limit})
    assert answer.status_code == 422
    assert answer.json()["error"]["details"][0]["path"] == "query.limit"
    assert "9" * 20 not in answer.text


def test_paths_are_names_and_positions_that_can_be_read() -> None:
    assert path_of(("body", "items", 3, "name")) == "body.items[3].name"
    assert path_of(("body", "a\x1b[2J" + "x" * 100)) == "body.a?[2J" + "x" * 59
    assert path_of(()) == ""


@pytest.mark.parametrize(
    ("kind", "message", "value"),
    [
        ("value_error", "Value error, invalid literal for int(): 'Quillfeather'", "Quillfeather"),
        ("union_tag_invalid", "Input tag 'Quillfeather' found using 'kind'", {"kind": "x"}),
        ("datetime_parsing", "Input should be a valid datetime, invalid Quillfeather", "x"),
        ("uuid_parsing", "Input should be a valid UUID, found Quillfeather", "x"),
        ("assertion_error", "Assertion failed, Quillfeather", "x"),
    ],
)
def test_no_message_repeats_what_was_sent(kind: str, message: str, value: Any) -> None:
    said = ValueError("invalid literal for int(): 'Quillfeather'")
    error = {"type": kind, "loc": ("body",), "msg": message, "input": value, "ctx": {"error": said}}
    assert "Quillfeather" not in faults_of([error])[0].message


def test_every_kind_of_pydantic_is_known_to_quote_or_not() -> None:
    """A new version of pydantic may quote the input in a kind that is not here yet."""
    from pydantic_core._pydantic_core import list_all_errors

    from privacy_runtime.http.faults import _CUT

    quoting = ("{error}", "{tag}", "{encoding_error}", "{attribute}")
    kinds = {
        one["type"]
        for one in list_all_errors()
        if any(each in one["message_template_python"] for each in quoting)
    }
    assert kinds <= set(_CUT) | {"value_error"}


def test_so_many_faults_and_no_more() -> None:
    error = {"type": "missing", "loc": ("body", "x"), "msg": "Field required", "input": None}
    assert len(faults_of([error] * 10_000)) == MOST_FAULTS
    huge = {"type": "value_error", "loc": (), "input": list(range(10**5)), "ctx": {"error": "x"}}
    assert faults_of([huge])[0].message == "is not allowed"


@given(st.text(alphabet="/\\:@.ae?#&=%\t\n \u2044", max_size=12).map(lambda rest: "/" + rest))
def test_a_path_here_never_leaves(target: str) -> None:
    from urllib.parse import urljoin, urlsplit

    if is_path_here(target):
        there = urlsplit(urljoin("https://pf.example/auth/", target))
        assert (there.scheme, there.netloc) == ("https", "pf.example")


@pytest.mark.parametrize("target", ["/jobs", "/jobs?state=running#top", "/"])
def test_paths_here(target: str) -> None:
    assert is_path_here(target)


def test_a_cursor_grants_nothing_and_hides_nothing() -> None:
    text = encoded("2026-01-01", "job_1").removeprefix("1.")
    assert json.loads(base64.urlsafe_b64decode(text + "==")) == ["2026-01-01", "job_1"]
