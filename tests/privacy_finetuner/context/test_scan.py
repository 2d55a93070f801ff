from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from privacy_finetuner.context.batch import FileSettings
from privacy_finetuner.context.guard import ContextGuard
from privacy_finetuner.context.lookout import Lookout
from privacy_finetuner.context.pages import write_explanation, write_scan
from privacy_finetuner.context.scan import SAFE_HARBOR, Scan

VOID = {"meta", "br", "input", "link", "hr"}


class WellFormed(HTMLParser):
    """Every tag is closed in order; ids are one of a kind; no script, no address elsewhere."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(page)
        assert self.open == []
        assert len(set(self.ids)) == len(self.ids)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in {"script", "img", "iframe", "link"}
        for name, value in attrs:
            assert not name.startswith("on")
            if name == "id":
                self.ids.append(value or "")
            if name in {"href", "src"}:
                self.links.append(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    rows = [
        {"note": f"mail doe@example.org or p{n}@x.de", "jane@home.org": "4111111111111111"}
        for n in range(10)
    ]
    (folder / "notes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    cells = "".join(f"{n},{f'm{n}@b.org' if n else 'unknown'}\n" for n in range(12))
    (folder / "people.csv").write_text("id,email\n" + cells)
    return folder


def scanned(guard: ContextGuard, data: Path, *, show_masked: bool = False) -> Scan:
    scan = Scan(guard, FileSettings(level="high"), show_masked=show_masked)
    scan.look([data])
    return scan


def test_counts_are_exact(guard: ContextGuard, data: Path) -> None:
    document = scanned(guard, data).to_dict()
    email = next(each for each in document["entities"] if each["label"] == "EMAIL")

    assert (document["records"], document["records_affected"]) == (22, 21)
    assert email["findings"] == 10 * 3 + 11
    assert email["distinct"] == 1 + 10 + 1 + 11
    assert email["records"] == 21
    assert email["most_records_of_one"] == 10


def test_no_value_is_in_a_scan_also_not_as_a_key(guard: ContextGuard, data: Path) -> None:
    shown = json.dumps(scanned(guard, data).to_dict())

    assert "doe@" not in shown
    assert "jane@" not in shown
    assert "4111" not in shown
    assert "masked_examples" not in shown


def test_masked_examples_are_there_when_asked_for_and_show_no_value(
    guard: ContextGuard, data: Path
) -> None:
    shown = json.dumps(scanned(guard, data, show_masked=True).to_dict())

    assert "**@" in shown
    assert "doe@" not in shown


def test_advice_names_what_to_do(guard: ContextGuard, data: Path) -> None:
    advice = " ".join(scanned(guard, data).to_dict()["advice"])

    assert "--column email=EMAIL" in advice
    assert "stands in 10 records" in advice
    assert "proves no absence" in advice


def test_a_file_that_cannot_be_read_is_named_and_not_skipped_silently(
    guard: ContextGuard, data: Path
) -> None:
    (data / "bad.txt").write_bytes(b"\xff")
    document = scanned(guard, data).to_dict()

    assert [f["path"] for f in document["files"] if "refused" in f] == ["bad.txt"]
    assert "1 file could not be looked at" in " ".join(document["advice"])


def test_the_eighteen_identifiers_are_all_listed(guard: ContextGuard, data: Path) -> None:
    rows = scanned(guard, data).to_dict()["safe_harbor"]

    assert [row["letter"] for row in rows] == list("ABCDEFGHIJKLMNOPQR")
    assert len(SAFE_HARBOR) == 18
    assert {row["letter"]: row["findings"] for row in rows}["F"] == 41


@pytest.mark.parametrize("show_masked", [False, True])
def test_the_page_of_a_scan_is_one_well_formed_file_without_values(
    guard: ContextGuard, data: Path, tmp_path: Path, show_masked: bool
) -> None:
    (data / "<b>&.txt").write_text("<script>alert(1)</script> doe@example.org")
    document = scanned(guard, data, show_masked=show_masked).to_dict()
    page = write_scan(document, ["<data>"], tmp_path / "scan.html").read_text()

    assert WellFormed(page).links == []
    assert "doe@" not in page
    assert "&lt;b&gt;&amp;.txt" in page
    assert 'lang="en"' in page
    assert page.count("<h1>") == 1


def test_the_page_of_an_explanation_escapes_the_text_and_links_its_reasons(
    guard: ContextGuard, tmp_path: Path
) -> None:
    text = "<script>x</script> John Doe & doe@example.org, 12.03.2020 \ud800"
    report = guard.explain_redactions(text)
    page = write_explanation(text, report, tmp_path / "why.html").read_text()
    found = WellFormed(page)

    assert found.links
    assert {link.removeprefix("#") for link in found.links} <= set(found.ids)
    assert "&lt;script&gt;" in page
    assert "holds the text in clear" in page


def test_names_of_columns_are_shown_and_values_in_them_are_not() -> None:
    lookout = Lookout(threshold=0.8, names=None)

    assert lookout.shown_column("patient.name") == "patient.name"
    assert lookout.shown_column("visits[].zaphod@example.org") == "visits[].[EMAIL]"
    assert "example.org" not in lookout.shown_column("x.https://example.org/zaphod")
