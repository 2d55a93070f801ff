"""A certificate in words: page, paper, model card."""

from __future__ import annotations

import re
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from privacy_finetuner.assessment import certificate_page, certificate_paper
from privacy_finetuner.assessment.certificate_view import (
    View,
    certainty,
    standing_of,
    view_of,
)
from privacy_runtime.signing import SignatureInvalid, TrustedKeys

VOID = {"meta", "br", "hr"}


class Page(HTMLParser):
    """Collects what the checks need, and fails on tags that do not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture
def view(genuine: Any, shared_run: Any, noon: Any) -> View:
    return view_of(standing_of(genuine.content, trusted=shared_run.trusted, now=noon))


def test_the_page_is_well_formed_and_needs_nothing_from_elsewhere(view: View) -> None:
    text = certificate_page.page(view)
    page = Page(text)
    ids = [value for _, attributes in page.tags if (value := attributes.get("id"))]
    labels = [v for _, attributes in page.tags if (v := attributes.get("aria-labelledby"))]

    assert page.open == []
    assert len(set(ids)) == len(ids)
    assert set(labels) <= set(ids)
    assert not re.search(r"<(script|link|img|iframe)\b|https?:|url\(|\son\w+=", text)
    assert ("html", {"lang": "en"}) in page.tags
    assert sum(tag == "h1" for tag, _ in page.tags) == 1
    assert all(a.get("scope") == "row" for tag, a in page.tags if tag == "th")
    assert text.count("<table>") == text.count("<caption>")


def test_page_paper_and_card_say_the_same(view: View) -> None:
    page = " ".join(Page(certificate_page.page(view)).words)
    card = certificate_page.model_card(view).replace("\\", "")

    for said in [*view.promised, *view.not_promised, *view.assumptions, view.claim]:
        assert said in page
        assert said in card
    for rows in view.tables.values():
        for name, value in rows:
            assert value in page
            assert name in card
    assert view.fingerprint in page
    assert view.fingerprint in card


def test_what_is_promised_is_said_with_its_unit(view: View, made: Any, noon: Any) -> None:
    run = made(users=3)
    users = view_of(standing_of(run.issue().content, trusted=run.trusted, now=noon))

    assert view.claim == "ε = 4, δ = 1e-05"
    assert "for each record" in view.about
    assert any("98.21 % sure" in said for said in view.promised)
    assert "for each user" in users.about
    assert any("at most 3 each" in said for said in users.promised)


def test_certainty_is_never_rounded_down() -> None:
    """1 / (1 + e^-4) is 0.98201..."""
    assert certainty(4) == "98.21 %"
    assert certainty(0) == "50 %"
    assert certainty(1e6) == "100 %"


def test_paper_is_a_pdf_that_is_always_the_same(view: View) -> None:
    content = certificate_paper.paper(view)

    assert content.startswith(b"%PDF-")
    assert content == certificate_paper.paper(view)


def test_hostile_text_stays_text(genuine: Any, shared_run: Any, noon: Any) -> None:
    standing = standing_of(genuine.content, trusted=shared_run.trusted, now=noon)
    document = {
        **genuine.document,
        "run": {**genuine.document["run"], "engine": "<script>alert(1)</script>|[x](y)`"},
    }
    hostile = view_of(
        type(standing)(
            certificate=type(genuine)(document=document, content=genuine.content),
            is_genuine=True, verdict="<b>fine</b>", findings=(),
        )
    )  # fmt: skip
    page, card = certificate_page.page(hostile), certificate_page.model_card(hostile)

    assert "<script" not in page
    assert "<b>fine" not in page
    assert "\\<script\\>alert(1)\\</script\\>\\|\\[x\\](y)\\`" in card
    assert certificate_paper.paper(hostile).startswith(b"%PDF-")


def test_a_certificate_that_was_changed_is_given_no_face(
    genuine: Any, shared_run: Any, noon: Any
) -> None:
    content = genuine.content.replace(b'"examples":200', b'"examples":900')

    with pytest.raises(SignatureInvalid):
        standing_of(content, trusted=shared_run.trusted, now=noon)


def test_what_is_out_of_date_or_of_unknown_origin_says_so_first(
    genuine: Any, shared_run: Any, noon: Any
) -> None:
    late = standing_of(genuine.content, trusted=shared_run.trusted, now=noon + timedelta(days=400))
    unknown = standing_of(genuine.content, trusted=TrustedKeys(), now=noon)

    for standing, said in [(late, "expired"), (unknown, "you do not trust")]:
        page = certificate_page.page(view_of(standing))
        assert not standing.is_genuine
        assert said in page
        assert 'class="verdict bad" role="alert"' in page


def test_a_model_card_keeps_its_other_sections(view: View, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    section = certificate_page.model_card(view)
    readme.write_text("---\nlicense: mit\n---\n\n# My model\n")
    certificate_page.write_model_card(readme, section)
    readme.write_text(readme.read_text() + "\n## Uses\n")
    certificate_page.write_model_card(readme, section)
    text = readme.read_text()

    assert text.startswith("---\nlicense: mit\n---\n\n# My model\n")
    assert text.count(certificate_page.START) == text.count(certificate_page.END) == 1
    assert text.endswith("\n## Uses\n")


def test_a_model_card_is_made_where_none_is(view: View, tmp_path: Path) -> None:
    certificate_page.write_model_card(tmp_path / "README.md", certificate_page.model_card(view))

    assert (tmp_path / "README.md").read_text().startswith(certificate_page.START)
