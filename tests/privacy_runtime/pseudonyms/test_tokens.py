"""Sealed tokens survive a model's hands, and no other change."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_core.errors import InvalidParameter
from privacy_core.redaction.marks import ALPHABET, MarkKind, find_marks
from privacy_runtime.pseudonyms import Reason, RedactionKeys, TokenCipher, base32
from privacy_runtime.pseudonyms.errors import TenantUnknown
from privacy_runtime.testing import SeededEntropy

KEYS = RedactionKeys.generate(SeededEntropy(1), tenants=("other",))
CIPHER = TokenCipher(KEYS)
PADDED = TokenCipher(KEYS, pad=True)
OTHER = TokenCipher(KEYS, "other")

values = st.text(min_size=1, max_size=60)
labels = st.sampled_from(["PERSON", "EMAIL", "DATE_OF_BIRTH", "SECRET"])

MANGLINGS: dict[str, Callable[[str], str]] = {
    "as it is": lambda t: t,
    "lower case": str.lower,
    "no brackets": lambda t: t[1:-1],
    "back-ticks": lambda t: f"`{t}`",
    "bare in back-ticks": lambda t: f"`{t[1:-1]}`",
    "bold": lambda t: f"**{t}**",
    "possessive": lambda t: f"{t}'s",
    "bare possessive": lambda t: f"{t[1:-1]}'s",
    "plural": lambda t: f"{t[1:-1].lower()}s",
    "JSON": json.dumps,
    "quoted": lambda t: f"“{t}”",
    "broken line": lambda t: t[: len(t) // 2] + "\n" + t[len(t) // 2 :],
    "bare broken line": lambda t: t[1 : len(t) // 2] + "\n  " + t[len(t) // 2 : -1] + " and so on",
    "spaces": lambda t: t.replace(":", " : ").replace("[", "[ ").replace("]", " ]"),
    "escaped": lambda t: t.replace("[", r"\[").replace("]", r"\]").replace("_", r"\_"),
    "letters for digits": lambda t: t.replace("0", "O").replace("1", "l"),
    "end of sentence": lambda t: f"{t[1:-1]}.",
}


@given(values, labels)
def test_a_token_leads_back_and_is_a_mark(value: str, label: str) -> None:
    for cipher in (CIPHER, PADDED):
        token = cipher.seal(value, label)
        (mark,) = find_marks(token)

        assert (mark.kind, mark.label, len(token)) == (MarkKind.SEALED, label, mark.end)
        assert cipher.reveal(token).text == value
        assert cipher.is_authentic(token)


@given(values, labels, st.sampled_from(sorted(MANGLINGS)))
def test_a_mangled_token_leads_back(value: str, label: str, mangling: str) -> None:
    token = CIPHER.seal(value, label)
    mangled = f"Dear {MANGLINGS[mangling](token)}, hello: you"
    done = CIPHER.reveal(mangled)

    assert [found.value for found in done.restored] == [value]
    assert done.refused == ()


@pytest.mark.slow
def test_at_least_99_in_100_of_many_mangled_tokens_lead_back() -> None:
    generator = np.random.default_rng(7)  # noqa: TID251 -- which values
    alphabet = [*"abc XYZ019-@.é漢字😀مر\u200f'\"`*[]", "\r\n"]
    counts = dict.fromkeys(MANGLINGS, 0)
    for _ in range(3_000):
        size = int(generator.integers(1, 40))
        value = "".join(alphabet[k] for k in generator.integers(len(alphabet), size=size))
        token = CIPHER.seal(value, "PERSON")
        for name, mangle in MANGLINGS.items():
            text = f"so {mangle(token)} went."
            counts[name] += [f.value for f in CIPHER.reveal(text).restored] == [value]

    assert min(counts.values()) >= 2_970, counts


@given(values, labels, st.data())
def test_one_changed_character_is_refused(value: str, label: str, data: st.DataObject) -> None:
    token = CIPHER.seal(value, label)
    place = data.draw(st.integers(token.rindex(":") + 1, len(token) - 2))
    other = data.draw(st.sampled_from([c for c in ALPHABET if c != token[place]]))
    changed = token[:place] + other + token[place + 1 :]
    done = CIPHER.reveal(changed)

    assert done.text == changed
    assert [found.reason for found in done.refused] == [Reason.NOT_AUTHENTIC]


@given(st.binary(min_size=1, max_size=40), st.data())
def test_one_flipped_bit_of_the_ciphertext_is_refused(value: bytes, data: st.DataObject) -> None:
    token = CIPHER.seal(value.hex(), "SECRET")
    head, _, body = token[:-1].rpartition(":")
    sealed = bytearray(base32.decode(body) or b"")
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    changed = f"{head}:{base32.encode(bytes(sealed))}]"

    assert CIPHER.reveal(changed).text == changed


@pytest.mark.slow
def test_no_tampered_token_of_ten_thousand_is_accepted() -> None:
    generator = np.random.default_rng(8)  # noqa: TID251 -- where to change what
    accepted = 0
    for case in range(10_000):
        token = CIPHER.seal(f"value {case}", "PERSON")
        place = int(generator.integers(token.rindex(":") + 1, len(token) - 1))
        letter = ALPHABET[int(generator.integers(32))]
        if letter == token[place]:
            continue
        accepted += bool(CIPHER.reveal(token[:place] + letter + token[place + 1 :]).restored)

    assert accepted == 0


def test_a_token_of_another_type_tenant_or_key_stays_and_is_reported() -> None:
    token = CIPHER.seal("Ann", "PERSON")
    retyped = token.replace("PERSON", "EMAIL")
    foreign = token.replace(KEYS.key_id, "ZZZZ")
    stranger = TokenCipher(RedactionKeys.generate(SeededEntropy(9))).seal("Ann", "PERSON")

    for text, cipher, reason in (
        (retyped, CIPHER, Reason.NOT_AUTHENTIC),
        (token, OTHER, Reason.NOT_AUTHENTIC),
        (foreign, CIPHER, Reason.UNKNOWN_KEY),
        (stranger, CIPHER, Reason.UNKNOWN_KEY),
    ):
        done = cipher.reveal(f"see {text} there")
        assert done.text == f"see {text} there"
        assert [found.reason for found in done.refused] == [reason]
        assert not cipher.is_authentic(text)


def test_equal_values_give_equal_tokens_and_tenants_give_others() -> None:
    assert CIPHER.seal("Ann", "PERSON") == TokenCipher(KEYS).seal("Ann", "PERSON")
    assert (
        len({c.seal("Ann", label) for c in (CIPHER, OTHER) for label in ("PERSON", "EMAIL")}) == 4
    )


def test_only_allowed_types_are_revealed() -> None:
    text = f"{CIPHER.seal('Ann', 'PERSON')} {CIPHER.seal('a@b.c', 'EMAIL')}"
    done = CIPHER.reveal(text, labels={"EMAIL"})

    assert done.text == f"{CIPHER.seal('Ann', 'PERSON')} a@b.c"
    assert [(found.label, found.reason) for found in done.refused] == [
        ("PERSON", Reason.NOT_ALLOWED)
    ]
    assert done.counts == {"EMAIL": 1}


def test_padding_hides_the_length() -> None:
    lengths = {len(PADDED.seal("x" * size, "PERSON")) for size in range(1, 16)}

    assert len(lengths) == 1
    assert len(PADDED.seal("x" * 16, "PERSON")) not in lengths
    assert CIPHER.reveal(PADDED.seal("x\0\0", "PERSON")).text == "x\0\0"


def test_what_cannot_be_sealed_is_refused() -> None:
    for value, label in (("", "PERSON"), ("x", "person"), ("x", "A:B"), ("x", "")):
        with pytest.raises(InvalidParameter):
            CIPHER.seal(value, label)
    with pytest.raises(TenantUnknown):
        TokenCipher(KEYS, "nobody").seal("x", "PERSON")


@given(st.text(alphabet="ab:[]7KQ2 \n\\0", max_size=200))
def test_prose_is_left_alone(text: str) -> None:
    assert CIPHER.reveal(text).text == text


@pytest.mark.slow
def test_hostile_text_takes_linear_time() -> None:
    import time

    families = (
        f":{KEYS.key_id}:",
        f"[A:{KEYS.key_id}:" + "A " * 30,
        "PERSON" + f":{KEYS.key_id}:" + "0" * 40,
        "\\" * 30,
        "[ " * 10,
        "a_" * 20,
    )
    for family in families:
        seconds = []
        for size in (2**15, 2**16):
            text = (family * size)[:size]
            start = time.process_time()
            CIPHER.reveal(text)
            seconds.append(time.process_time() - start)
        assert seconds[1] < 3.5 * seconds[0] + 0.1, family


def test_neither_repr_nor_result_shows_a_value() -> None:
    done = CIPHER.reveal(CIPHER.seal("Wilhelmina", "PERSON"))

    assert done.text == "Wilhelmina"
    for shown in (repr(done), repr(done.restored), str(done.restored[0]), repr(CIPHER)):
        assert "Wilhelmina" not in shown


@given(st.binary(max_size=70))
def test_base_32_is_canonical(data: bytes) -> None:
    spelled = base32.encode(data)

    assert base32.decode(spelled) == base32.decode(spelled.lower()) == data
    assert set(spelled) <= set(ALPHABET)


@given(st.text(alphabet=ALPHABET + "oil-é", max_size=20))
def test_base_32_reads_one_spelling_only(text: str) -> None:
    data = base32.decode(text)

    assert data is None or base32.encode(data) == base32.normalise(text)
