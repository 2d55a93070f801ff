"""The larger model, where its file is in the checkout."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from privacy_core.redaction.subwords import pieces, windows
from privacy_core.redaction.tokens import tokenize
from privacy_runtime import names
from privacy_runtime.names import assets, transformer

pytestmark = pytest.mark.skipif(not assets.has_transformer(), reason="no transformer asset")
TEXT = "Patient: SMITH, JOHN\nSeen by Dr. Ngozi Okafor at Mercy General Hospital in Lisbon.\n"


@pytest.fixture(scope="module")
def tagger() -> transformer.TransformerTagger:
    return transformer.load()


def test_names_are_found_in_forms_and_in_prose(tagger: transformer.TransformerTagger) -> None:
    found = [(TEXT[f.start : f.end], f.label) for f in tagger.tag(TEXT)]

    assert ("SMITH, JOHN", "PERSON") in found
    assert ("Ngozi Okafor", "PERSON") in found
    assert ("Mercy General Hospital", "ORGANIZATION") in found
    assert ("Lisbon", "LOCATION") in found


def test_scores_are_log_probabilities_of_every_word(tagger: transformer.TransformerTagger) -> None:
    words = tokenize(TEXT * 30).words

    scores = tagger.scores(words)

    assert scores.shape == (len(words), len(tagger.tags))
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1, atol=1e-4)


def test_a_long_text_is_read_to_its_end_and_a_batch_changes_little(
    tagger: transformer.TransformerTagger,
) -> None:
    long = TEXT + "Nothing happened. " * 400 + "\n" + TEXT

    found = tagger.tag(long)

    assert {long[f.start : f.end] for f in found if f.start > len(TEXT) + 400} >= {"Ngozi Okafor"}
    assert all(a.end <= b.start for a, b in pairwise(found))


@pytest.mark.parametrize("text", ["", "\n", "...", "x" * 5000, "\U0001f600 \u200b"])
def test_odd_texts_are_no_error(tagger: transformer.TransformerTagger, text: str) -> None:
    for finding in tagger.tag(text):
        assert 0 <= finding.start < finding.end <= len(text)


def test_every_word_is_scored_in_exactly_one_window(tagger: transformer.TransformerTagger) -> None:
    words = tokenize(TEXT * 20).words

    cut = list(windows(pieces(words, tagger.tokenizer), 64, 8))

    counted = [w for window in cut for w in window.words if w >= window.first]
    assert counted == list(range(len(words)))
    assert all(len(window.ids) <= 64 for window in cut)


def test_the_union_is_what_level_high_answers(tagger: transformer.TransformerTagger) -> None:
    high = names.shipped("high").tag(TEXT)

    assert {(f.start, f.end) for f in tagger.tag(TEXT)} <= {(f.start, f.end) for f in high}
