from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_core.redaction.tokens import (
    decode,
    encode,
    pieces_of,
    possible_transitions,
    sentence_ends,
    tidied,
    tokenize,
)

TEXTS = st.text(st.sampled_from("Ab é0.,'’s\n \t_-()ñß中"), max_size=60)  # noqa: RUF001 -- what people type


@given(TEXTS)
def test_words_are_slices_of_the_text_in_order_and_only_spaces_lie_between(text: str) -> None:
    tokens = tokenize(text)

    place = 0
    for word, start, end in zip(tokens.words, tokens.starts, tokens.ends, strict=True):
        assert text[place:start].strip() == ""
        assert "\n" not in text[place:start]
        assert text[start:end] == word or word == "\n"
        place = end
    assert text[place:].strip() == ""


def test_marks_possessives_and_breaks_are_words_of_their_own() -> None:
    tokens = tokenize("O'Hara's\n\n  Dr. Müller-Lüdenscheid")

    assert list(tokens.words) == [
        "O", "'", "Hara", "'s", "\n", "Dr", ".", "Müller", "-", "Lüdenscheid",
    ]  # fmt: skip


def test_a_span_becomes_labels_and_comes_back() -> None:
    text = "Patient: SMITH, JOHN A. lives in Rome."
    spans = [(9, 22, "PERSON"), (33, 37, "LOCATION")]
    tokens = tokenize(text)

    labels = encode(tokens, spans)

    assert labels[2:6] == ["B-PERSON", "I-PERSON", "I-PERSON", "E-PERSON"]
    assert labels[9] == "S-LOCATION"
    assert [(tokens.starts[a], tokens.ends[b - 1], x) for a, b, x in decode(labels)] == spans


@given(TEXTS, st.data())
def test_labels_of_whole_words_come_back_as_the_same_spans(text: str, data: st.DataObject) -> None:
    tokens = tokenize(text)
    spans: list[tuple[int, int, str]] = []
    k = 0
    while k < len(tokens.words):
        if data.draw(st.booleans()) and tokens.words[k] != "\n":
            last = k
            while last + 1 < len(tokens.words) and data.draw(st.booleans()):
                last += 1
            while tokens.words[last] == "\n":
                last -= 1
            spans.append((tokens.starts[k], tokens.ends[last], data.draw(st.sampled_from("XY"))))
            k = last
        k += 1

    runs = decode(encode(tokens, spans))

    assert [(tokens.starts[a], tokens.ends[b - 1], label) for a, b, label in runs] == spans


def test_a_word_that_a_span_cuts_belongs_where_most_of_it_lies() -> None:
    tokens = tokenize("Josephine x")

    assert encode(tokens, [(0, 8, "P")])[0] == "S-P"
    assert encode(tokens, [(0, 3, "P")])[0] == "O"


@pytest.mark.parametrize(
    ("labels", "runs"),
    [
        (["I-P", "I-P", "O"], [(0, 2, "P")]),
        (["B-P", "B-P"], [(0, 1, "P"), (1, 2, "P")]),
        (["B-P", "I-L"], [(0, 1, "P"), (1, 2, "L")]),
        (["E-P", "E-P"], [(0, 1, "P"), (1, 2, "P")]),
        (["S-P", "I-P"], [(0, 1, "P"), (1, 2, "P")]),
        ([], []),
    ],
)
def test_labels_that_contradict_each_other_are_read_with_good_will(
    labels: list[str], runs: list[tuple[int, int, str]]
) -> None:
    assert decode(labels) == runs


def test_what_may_follow_what() -> None:
    labels = ["O", "B-P", "I-P", "E-P", "S-P", "B-L", "E-L"]
    table = possible_transitions(labels)

    may = {(a, b) for i, a in enumerate(labels) for j, b in enumerate(labels) if table[i, j] == 0}
    assert ("B-P", "E-P") in may
    assert ("E-P", "S-P") in may
    assert not may & {("O", "I-P"), ("B-P", "O"), ("B-P", "E-L"), ("S-P", "I-P"), ("I-P", "B-L")}


@pytest.mark.parametrize(
    ("text", "run", "expected"),
    [
        ("Pedro Garamendi.", (0, 3), (0, 2)),
        ("Sammy Davis Jr.", (0, 4), (0, 4)),
        (". Puga, 52", (0, 4), (1, 4)),
        ("- ,", (0, 2), None),
    ],
)
def test_marks_of_the_sentence_are_no_part_of_a_name(
    text: str, run: tuple[int, int], expected: tuple[int, int] | None
) -> None:
    found = tidied([(*run, "PERSON")], tokenize(text).words)

    assert found == ([] if expected is None else [(*expected, "PERSON")])


def test_two_persons_with_only_a_space_between_are_one() -> None:
    words = tokenize("Llorente Bernal Madrid").words

    runs = [(0, 1, "PERSON"), (1, 2, "PERSON"), (2, 3, "LOCATION")]
    assert tidied(runs, words) == [(0, 2, "PERSON"), (2, 3, "LOCATION")]
    assert tidied([(0, 1, "LOCATION"), (1, 2, "LOCATION")], words) == [
        (0, 1, "LOCATION"),
        (1, 2, "LOCATION"),
    ]


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("It ended. Then more", [".", "more"]),
        ('He said "No!" and left', ['"', "left"]),
        ("a.b 3.5 x", ["x"]),
        ("one\ntwo", ["\n", "two"]),
        ("Dr. Wu", [".", "Wu"]),
        ("end.", ["."]),
        ("so. )x", [".", "x"]),
    ],
)
def test_sentences_end_where_a_stream_may_be_cut(text: str, last: list[str]) -> None:
    tokens = tokenize(text)
    ends = sentence_ends(tokens)
    found = [word for word, end in zip(tokens.words, ends, strict=True) if end]

    # The last word ends the text, whether or not it ends a sentence.
    assert found + [tokens.words[-1]] * (not ends[-1]) == last


def test_pieces_are_the_text() -> None:
    text = "Anna's  caf\u00e9,\n \n(x_y) 3.5\t!"
    assert "".join(pieces_of(text)) == text
