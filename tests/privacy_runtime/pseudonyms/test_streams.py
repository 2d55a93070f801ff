"""A stream of a model's words with its tokens opened says what the whole text would have said."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from privacy_core.errors import InvalidParameter
from privacy_core.redaction.streaming import StreamClosed
from privacy_runtime.pseudonyms import (
    Reason,
    RedactionKeys,
    SessionVault,
    StreamingRevealer,
    TokenCipher,
    VaultStore,
)
from privacy_runtime.pseudonyms.streams import TokenReader
from privacy_runtime.testing import ManualClock

KEYS = RedactionKeys.from_master(bytes(range(32)))
CIPHER = TokenCipher(KEYS)
STRANGER = TokenCipher(RedactionKeys.from_master(bytes(range(1, 33))))
VALUES = [("Ann", "PERSON"), ("a@b.de", "EMAIL"), ("1 May", "DATE"), ("Zoë" * 30, "ADDRESS")]
OTHERS = [
    *(" ", "\n", "\\", "[", "]", ":", "_", "s", "'s ", "Dear ", "it is ", "DATE", ":7KQ2:", "***"),
    *("[PERSON]", "[PERSON_2]", "a b c d e f g h i j k l m n", " : abcd : ", "x" * 70, "PERSON_"),
]


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SessionVault]:
    folder: Path = tmp_path_factory.mktemp("vault")
    with VaultStore(folder / "vault.db", ManualClock()) as store:
        yield SessionVault(store, KEYS)


def bent(token: str, draw: st.DrawFn) -> str:
    """A token as models write it, whole or cut off."""
    spellings = [
        *(token, token.strip("[]"), token.lower(), token.replace("[", "\\[").replace("]", "\\]")),
        *(token.replace(":", ": "), token.replace("_", " "), token[:-1], token[1:]),
        token[: draw(st.integers(0, len(token)))],
    ]
    return draw(st.sampled_from(spellings))


@st.composite
def texts(draw: st.DrawFn, tokens: list[str]) -> str:
    pieces = draw(st.lists(st.sampled_from([*tokens, *OTHERS, "~"]), max_size=12))
    return "".join(
        bent(piece, draw)
        if piece in tokens
        else draw(st.text(alphabet="aB3 :_[]\\\n", max_size=8))
        if piece == "~"
        else piece
        for piece in pieces
    )


def streamed(reader: TokenReader, text: str, cuts: list[int], longest: int = 16_384) -> str:
    revealer = StreamingRevealer(reader, longest=longest)
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return "".join([*(revealer.feed(text[a:b]) for a, b in pairwise(places)), revealer.close()])


CUTS = st.lists(st.integers(0, 2_000), max_size=30)


@given(data=st.data())
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_sealed_tokens_in_a_stream_open_as_in_the_whole(data: st.DataObject) -> None:
    tokens = [CIPHER.seal(*value) for value in VALUES] + [STRANGER.seal("Bob", "PERSON")]
    text = data.draw(texts(tokens))

    assert streamed(CIPHER, text, data.draw(CUTS)) == CIPHER.reveal(text).text
    assert streamed(CIPHER, text, list(range(2_000))) == CIPHER.reveal(text).text


@given(data=st.data())
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_session_tokens_in_a_stream_open_as_in_the_whole(
    vault: SessionVault, data: st.DataObject
) -> None:
    text = data.draw(texts([vault.seal(*value) for value in VALUES]))

    assert streamed(vault, text, data.draw(CUTS)) == vault.reveal(text).text
    assert streamed(vault, text, list(range(2_000))) == vault.reveal(text).text


@pytest.mark.slow
@given(data=st.data())
@settings(max_examples=2_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_chunking_of_thousands_of_texts_changes_what_is_read(
    vault: SessionVault, data: st.DataObject
) -> None:
    for reader in (CIPHER, vault):
        tokens = [reader.seal(*value) for value in VALUES]
        text = data.draw(texts(tokens))
        assert streamed(reader, text, data.draw(CUTS)) == reader.reveal(text).text
        assert streamed(reader, text, list(range(2_000))) == reader.reveal(text).text


@given(data=st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_bound_on_tokens_is_the_same_bound_for_every_chunking(data: st.DataObject) -> None:
    text = data.draw(texts([CIPHER.seal(*value) for value in VALUES]))

    whole = streamed(CIPHER, text, [], longest=80)

    assert streamed(CIPHER, text, data.draw(CUTS), longest=80) == whole
    assert streamed(CIPHER, text, list(range(2_000)), longest=80) == whole


def test_prose_waits_for_one_word() -> None:
    revealer = StreamingRevealer(CIPHER)

    assert revealer.feed("Dear madam, we wr") == "Dear madam, we "
    assert revealer.feed("ote: nothing") == "wrote: "
    assert revealer.held == len("nothing")
    assert revealer.close() == "nothing"


def test_what_is_held_is_bounded() -> None:
    revealer = StreamingRevealer(CIPHER, longest=500)
    head = CIPHER.seal("Ann", "PERSON")[:14]

    revealer.feed(head + "A" * 400)
    assert revealer.held > 400
    revealer.feed("A" * 10_000)
    assert revealer.held <= 500


def test_what_was_done_is_counted_and_values_are_not_shown() -> None:
    revealer = StreamingRevealer(CIPHER, labels={"EMAIL"})
    text = f"{CIPHER.seal('a@b.de', 'EMAIL')} {CIPHER.seal('Ann', 'PERSON')}."

    shown = "".join([*map(revealer.feed, text), revealer.close()])

    assert shown.startswith("a@b.de [PERSON:")
    assert revealer.restored == {"EMAIL": 1}
    assert revealer.refused == {Reason.NOT_ALLOWED: 1}
    assert "a@b.de" not in repr(revealer)


def test_a_closed_stream_takes_nothing() -> None:
    revealer = StreamingRevealer(CIPHER)
    revealer.close()

    with pytest.raises(StreamClosed):
        revealer.feed("more")
    with pytest.raises(StreamClosed):
        revealer.close()
    with pytest.raises(InvalidParameter, match="longest"):
        StreamingRevealer(CIPHER, longest=0)


def test_a_type_before_its_key_is_not_taken_for_a_key() -> None:
    token = CIPHER.seal("1 May", "DATE").strip("[]")

    assert CIPHER.reveal(f"born:{token}").text == "born:1 May"
