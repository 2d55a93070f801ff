"""The field, on a model small enough to compute by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_core.redaction.subwords import case_of
from privacy_core.redaction.tagging import CrfTagger, Weights
from privacy_core.redaction.tokens import possible_transitions, sentence_ends, tokenize
from privacy_core.redaction.word_features import (
    CITY,
    GIVEN,
    OFFSETS,
    REACH,
    SURNAME,
    Lexicon,
    sentence_kinds,
    table_codes,
    word_attributes,
    word_class,
)

LABELS = ("O", "B-PERSON", "I-PERSON", "E-PERSON", "S-PERSON")


def weights(said: dict[str, dict[str, float]], **changed: object) -> Weights:
    """A model in which only these attributes speak."""
    known = {name: k for k, name in enumerate(sorted({name.split(":")[1] for name in said}))}
    places = np.zeros((len(known), len(OFFSETS)), dtype=np.int32)
    rows = np.zeros((1 + len(said), len(LABELS)), dtype=np.float32)
    for k, (name, votes) in enumerate(said.items(), start=1):
        offset, attribute = name.split(":")
        places[known[attribute], OFFSETS.index(int(offset))] = k
        for label, vote in votes.items():
            rows[k, LABELS.index(label)] = vote
    nothing = np.zeros(0, dtype=np.int64), np.zeros((0, len(LABELS)), dtype=np.float32)
    made = Weights(
        labels=LABELS,
        attributes=known,
        places=places,
        rows=rows,
        tables=[nothing] * 9,
        transitions=possible_transitions(LABELS),
        settled=1e9,
        confidence={},
    )
    return replace(made, **changed)  # type: ignore[arg-type]


AFTER_MR = weights(
    {"0:s=.": {"O": 9}, "0:s=x": {"O": 9}, "-1:w=mr": {"S-PERSON": 12}, "0:w=mr": {"O": 9}}
)


def test_a_word_speaks_for_the_word_after_it() -> None:
    (found,) = CrfTagger(AFTER_MR, Lexicon({})).tag("ask mr Smith, please")

    assert (found.start, found.end, found.label) == (7, 12, "PERSON")
    # Two of five labels may stand between two O: P(S) = e^12 / (e^12 + e^0) at Smith.
    assert found.score == pytest.approx(1 / (1 + np.exp(-12)), abs=1e-5)


def test_scores_are_sums_over_attributes_and_tables_of_all_neighbours() -> None:
    chance = np.random.default_rng(2)  # noqa: TID251 -- a test
    lexicon = Lexicon({"anna": GIVEN | 3 << 5 | 40 << 13, "paris": CITY | 7 << 5 | 9 << 13})
    text = "Anna, in Paris\nx. Anna"
    words = tokenize(text).words
    padded = ["\n", "\n", *words, "\n", "\n"]
    said = {word: word_attributes(word, lexicon.entry(word.lower())) for word in padded}
    names = sorted({name for each in said.values() for name in each})
    entries = [lexicon.entry(word.lower()) for word in padded]
    cases = np.array([case_of(word) for word in padded])
    codes = table_codes(
        np.array([word_class(w, e[0]) for w, e in zip(padded, entries, strict=True)]),
        sentence_kinds(cases[2:-2], sentence_ends(tokenize(text))),
        np.array([e[1] * 8 + c for e, c in zip(entries, cases.tolist(), strict=True)]),
    )
    tables = [
        (np.unique(c), chance.normal(size=(len(np.unique(c)), 5)).astype(np.float32)) for c in codes
    ]
    model = weights({}, tables=tables)
    rows = chance.normal(size=(1 + 5 * len(names), 5)).astype(np.float32)
    rows[0] = 0
    places = np.arange(1, 1 + 5 * len(names), dtype=np.int32).reshape(-1, 5)
    place_of = {name: k for k, name in enumerate(names)}
    model = replace(model, attributes=place_of, places=places, rows=rows)

    scores = CrfTagger(model, lexicon).scores(text)

    for k in range(len(words)):
        expected = np.zeros(5)
        for offset in OFFSETS:
            for name in said[padded[k + 2 + offset]][: REACH[offset]]:
                expected += rows[places[place_of[name], OFFSETS.index(offset)]]
        for (known, values), found in zip(tables, codes, strict=True):
            expected += values[list(known).index(found[k])]
        np.testing.assert_allclose(scores[k], expected, rtol=1e-4, atol=1e-4)


def test_words_that_are_settled_do_not_change_the_answer() -> None:
    text = "ask mr Smith, or mr Jones.\nmr Wu came"
    everything = CrfTagger(AFTER_MR, Lexicon({})).tag(text)
    quick = CrfTagger(replace(AFTER_MR, settled=4.0), Lexicon({})).tag(text)

    assert [(f.start, f.end) for f in quick] == [(f.start, f.end) for f in everything]
    assert len(quick) == 3


def test_a_raw_confidence_becomes_the_probability_of_the_table() -> None:
    table = {"PERSON": ((0.0, 1.0), (0.0, 0.8))}
    (found,) = CrfTagger(replace(AFTER_MR, confidence=table), Lexicon({})).tag("mr Smith")

    assert found.score == pytest.approx(0.8, abs=1e-4)


@given(st.text(st.sampled_from("Mmr Smith\n.,é'-0\t"), max_size=80))
def test_findings_are_in_order_apart_and_inside_the_text(text: str) -> None:
    place = 0
    for found in CrfTagger(AFTER_MR, Lexicon({})).tag(text):
        assert place <= found.start < found.end <= len(text)
        assert 0 <= found.score <= 1
        place = found.end


def test_what_was_seen_before_changes_nothing() -> None:
    tagger = CrfTagger(AFTER_MR, Lexicon({}))
    first = tagger.tag("mr Smith saw mr Jones")
    tagger.tag(" ".join(f"word{k}" for k in range(5000)))

    assert tagger.tag("mr Smith saw mr Jones") == first


def test_the_memory_of_words_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("privacy_core.redaction.tagging._CACHE", 50)
    tagger = CrfTagger(AFTER_MR, Lexicon({}))

    for k in range(20):
        tagger.tag(" ".join(f"word{k}x{j}" for j in range(20)))

    assert len(tagger._rows.of) <= 50 + 21
    assert [f.start for f in tagger.tag("mr Smith")] == [3]


@pytest.mark.parametrize(
    ("word", "case"),
    [
        ("smith", "lower"), ("Smith", "title"), ("SMITH", "upper"), ("S", "initial"),
        ("McNeil", "mixed"), ("1980", "digits"), ("\n", "break"), (",", "mark"), ("王", "other"),
    ],
)  # fmt: skip
def test_how_a_word_is_written(word: str, case: str) -> None:
    from privacy_core.redaction.subwords import CASES

    assert CASES[case_of(word)] == case


def test_classes_tell_marks_titles_and_names_apart() -> None:
    classes = [
        word_class(*args)
        for args in [
            (",", 0), ("\u2019", 0), ("\n", 0), ("Mr", 0), ("van", 0), ("Anna", GIVEN),
            ("Anna", SURNAME), ("Paris", CITY), ("Lincoln", CITY | SURNAME), ("anna", GIVEN),
        ]
    ]  # fmt: skip

    assert len(set(classes)) == len(classes)
    assert word_class("'", 0) == classes[1]
    assert all(0 <= c < 64 for c in classes)


def test_sentences_are_told_apart_by_their_capitals() -> None:
    words = ["all", "small", "\n", "Jo", "went", "home", "\n", "Jo", "Smith", "\n", "JO", "SMITH"]
    cases = np.array([case_of(word) for word in words])

    kinds = sentence_kinds(cases, cases == 7)

    assert [int(kinds[k]) for k in (0, 3, 7, 10)] == [0, 1, 2, 3]
    assert sentence_kinds(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool)).tolist() == []


def test_only_sentences_that_may_hold_a_name_are_worth_a_second_opinion() -> None:
    silent = "nothing is here to see . " * 20
    unsure = "so said Wong once. "
    model = weights({"0:s=.": {"O": 9}, "0:s=x": {"O": 9}, "0:w=wong": {"O": 0.4}})

    seen = CrfTagger(model, Lexicon({})).examined(silent + unsure)

    words = tokenize(silent + unsure).words
    said = [word for word, may_be in zip(words, seen.promising, strict=True) if may_be]
    assert said == ["so", "said", "Wong", "once", "."]


def test_of_a_short_text_all_is_worth_a_second_opinion() -> None:
    assert CrfTagger(AFTER_MR, Lexicon({})).examined("ask mr Smith").promising.all()
