from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.reports import write_html

COMPARISON = {
    "rows": [
        {"name": "<i>plain</i>", "epsilon": None, "perplexity": 11.0, "time_s": 30.0,
         "canaries_extracted": 3, "canaries": 4},
        {"name": "private", "epsilon": 8.0, "perplexity": 19.0, "time_s": 40.0,
         "canaries_extracted": 0, "canaries": 4},
    ],
    "canary_ranks": {"<i>plain</i>": [1, 1, 1, 9], "private": [500, 20, 901, 333]},
    "candidates": 1000,
    "samples": {"private": "<script>alert(1)</script>"},
}  # fmt: skip
VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """Collects what the checks need, and fails on tags that do not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(writer_in: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    writer = writer_in(tmp_path_factory.mktemp("page"))
    plan = writer.plan()
    writer.run(plan)
    writer.results(plan)
    return write_html(writer.folder, comparison=COMPARISON).read_text()


def test_the_page_needs_nothing_from_elsewhere(page: str) -> None:
    assert "http" not in page
    assert not re.search(r"<(script|link|img|iframe)\b", page)
    assert not re.search(r"url\((?!#)", page)


def test_the_page_is_well_formed_and_its_identifiers_are_unique(page: str) -> None:
    parsed = Page(page)

    assert parsed.open == []
    assert len(set(parsed.ids)) == len(parsed.ids)
    used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", page))
    assert used <= set(parsed.ids)


def test_pictures_have_words_and_tables_have_headers(page: str) -> None:
    parsed = Page(page)
    pictures = [attributes for _, attributes in parsed.tags if attributes.get("role") == "img"]
    tables = [tag for tag, _ in parsed.tags if tag == "table"]

    assert len(pictures) == 5
    assert all(len(picture["aria-label"] or "") > 30 for picture in pictures)
    assert page.count("<thead>") == len(tables)


def test_what_others_wrote_is_escaped(page: str) -> None:
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<i>" not in page


def test_the_grant_reason_is_escaped(write: Any) -> None:
    plan = write.plan()
    write.run(plan)
    write.results(plan, reason="<b>because</b>")

    assert "&lt;b&gt;because" in write_html(write.folder).read_text()


def test_the_page_states_the_guarantee_and_how_to_price_it(page: str) -> None:
    words = " ".join(page.split())

    assert "per record, add or remove one" in words
    assert "accountant epsilon --accountant pld --noise-multiplier" in words
    assert "agrees" in words


def test_a_user_level_run_speaks_of_users(finished: Any) -> None:
    words = " ".join(write_html(finished(users=3)).read_text().split())

    assert "per user" in words
    assert "at most 3 each" in words
    assert "--max-examples-per-user 3" in words


def test_noise_that_is_not_cryptographic_is_named(finished: Any) -> None:
    assert "not cryptographic" in write_html(finished(secure_rng=False)).read_text()


def test_an_unfinished_run_has_a_page_too(write: Any, tmp_path: Path) -> None:
    write.run(write.plan(), charged=8, finish=False)
    target = write_html(write.folder, tmp_path / "page.html")

    assert "unfinished" in target.read_text()
    assert "steps up to 8 count as spent" in target.read_text()


def test_the_page_is_the_same_each_time(finished: Any) -> None:
    folder = finished()

    assert write_html(folder).read_bytes() == write_html(folder).read_bytes()


def test_a_long_record_is_shown_in_part(write: Any) -> None:
    from privacy_finetuner.training.run_record import RunRecord

    write.run(write.plan(), charged=1, finish=False)
    with RunRecord(write.folder) as record:
        for step in range(40):
            record.settle(min(step, 8))
    text = write_html(write.folder).read_text()

    assert "42 entries, of which 18 in the middle" in text


def test_a_comparison_in_the_folder_is_found(finished: Any, write: Any) -> None:
    folder = finished()
    write.write("comparison.json", COMPARISON)

    assert "3 of 4" in write_html(folder).read_text()


@pytest.mark.parametrize("comparison", [{}, {"rows": []}, {"rows": [{"name": "x"}]}])
def test_a_comparison_that_lacks_fields_is_refused(finished: Any, comparison: Any) -> None:
    folder = finished()

    with pytest.raises(ConfigurationError, match="no page was written"):
        write_html(folder, comparison=comparison)
    assert not (folder / "report.html").exists()
