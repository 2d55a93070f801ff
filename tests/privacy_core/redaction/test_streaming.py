"""A stream says what a batch says, however the text is cut, soon and in little memory."""

from __future__ import annotations

import difflib
import json
import re
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_core.errors import InvalidParameter
from privacy_core.redaction.detection import PatternDetector
from privacy_core.redaction.findings import Detector, Finding
from privacy_core.redaction.marks import blanked
from privacy_core.redaction.operators import Placeholder, Scope
from privacy_core.redaction.rewriting import rewrite
from privacy_core.redaction.streaming import (
    FILES,
    SENTENCES,
    TOKENS,
    StreamClosed,
    StreamingRedactor,
    Window,
)

PLACEHOLDER = Placeholder()
seeded = np.random.default_rng  # noqa: TID251 -- where to cut, the same every time
WINDOWS = [TOKENS, SENTENCES, FILES, Window(stride=50, delay=40), Window(stride=1, context=30)]
PEM = "-----BEGIN KEY-----\nabc def\n" + "q r " * 50 + "-----END KEY-----"
PARTS = [
    *("a@b.com", "John Smith", "Ann Lee", "4111 1111 1111 1111", "4111-1111-1111-1111", "hello"),
    *("x" * 20, "\n", "\r\n", ". ", "the", "[PERSON]", "[PERSON_2]", "-----BEGIN KEY-----", PEM),
    *("مرحبا", "😀", "e\u0301", "  ", "Bob?", "\u200f", "。"),
]


class FixedPatterns:
    """Finds a few fixed things by regular expressions; local by construction."""

    patterns = (
        ("EMAIL", re.compile(r"[a-z0-9.]{1,30}@[a-z]{1,30}\.com")),
        ("PERSON", re.compile(r"John Smith|Ann Lee|Bob")),
        ("PAYMENT_CARD", re.compile(r"\b\d{4}(?:[ -]?\d{4}){3}\b")),
        ("SECRET", re.compile(r"-----BEGIN KEY-----[^-]{1,3000}-----END KEY-----")),
    )

    def detect(
        self, text: str, *, level: str = "medium", hints: Sequence[str] = ()
    ) -> tuple[Finding, ...]:
        del level, hints
        found = [
            Finding(match.start(), match.end(), label, 1.0, "test.fixed")
            for label, pattern in self.patterns
            for match in pattern.finditer(text)
        ]
        return tuple(sorted(found, key=lambda finding: finding.start))


class FirstNames:
    """A detector that costs next to nothing."""

    def detect(
        self, text: str, *, level: str = "medium", hints: Sequence[str] = ()
    ) -> tuple[Finding, ...]:
        del level, hints
        found = re.finditer("John Smith", text)
        return tuple(Finding(m.start(), m.end(), "PERSON", 1.0, "test.name") for m in found)


class Nervous:
    """A detector that is not local at all: what it finds depends on all that it is shown."""

    def detect(
        self, text: str, *, level: str = "medium", hints: Sequence[str] = ()
    ) -> tuple[Finding, ...]:
        del level, hints
        place = sum(map(ord, text)) % max(len(text) - 3, 1)
        return (Finding(place, min(place + 3, len(text)), "PERSON", 1.0, "test.nervous"),)


def batch(detector: Detector, text: str, level: str = "medium") -> str:
    scope = Scope()
    findings = detector.detect(blanked(text, scope.marks(text)), level=level)
    return rewrite(text, findings, lambda _: PLACEHOLDER, scope).text


def stream(detector: Detector, pieces: Sequence[str], window: Window, level: str = "medium") -> str:
    redactor = StreamingRedactor(detector, lambda _: PLACEHOLDER, window=window, level=level)
    sent = [redactor.feed(piece) for piece in pieces]
    return "".join([*sent, redactor.close()])


def pieces_of(text: str, generator: Any, largest: int = 30) -> list[str]:
    pieces, place = [], 0
    while place < len(text):
        size = int(generator.integers(1, largest + 1))
        pieces.append(text[place : place + size])
        place += size
    return pieces


def made_up(generator: Any) -> str:
    count = int(generator.integers(0, 40))
    gaps = ["", " ", " ", "\n"]
    return "".join(
        PARTS[generator.integers(len(PARTS))] + gaps[generator.integers(len(gaps))]
        for _ in range(count)
    )


def check_cases(count: int, seed: int) -> None:
    generator = seeded(seed)
    for case in range(count):
        text = made_up(generator)
        window = WINDOWS[case % len(WINDOWS)]
        pieces = pieces_of(text, generator)
        assert stream(FixedPatterns(), pieces, window) == batch(FixedPatterns(), text), (seed, case)


def test_a_stream_is_the_batch_for_random_cuts() -> None:
    check_cases(300, seed=1)


@pytest.mark.slow
def test_a_stream_is_the_batch_for_ten_thousand_random_cuts() -> None:
    check_cases(10_000, seed=2)


@given(st.data())
def test_the_cuts_do_not_matter_whatever_the_detector_does(data: st.DataObject) -> None:
    text = data.draw(st.text(alphabet="ab .\n!é。x1@", max_size=300))
    window = data.draw(
        st.builds(
            Window,
            delay=st.integers(1, 20),
            context=st.integers(0, 40),
            stride=st.integers(1, 40),
            longest=st.integers(60, 80),
            sentences=st.booleans(),
            longest_sentence=st.integers(1, 60),
        )
    )
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=20)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]

    assert stream(Nervous(), pieces, window) == stream(Nervous(), [text], window)


@pytest.mark.parametrize("window", [TOKENS, FILES], ids=["tokens", "files"])
@pytest.mark.parametrize("level", ["low", "medium", "high"])
def test_the_patterns_are_local_on_real_text(shared_data: Path, window: Window, level: str) -> None:
    detector, generator = PatternDetector(), seeded(3)
    texts = _texts(shared_data)
    if not texts:
        pytest.skip("no redaction data among the shared data")
    for text in texts[:: 1 if window is FILES else 6]:
        pieces = pieces_of(text, generator, largest=9)
        assert stream(detector, pieces, window, level) == batch(detector, text, level)


def test_names_in_a_stream_are_those_of_the_batch(shared_data: Path) -> None:
    """The model reads whole lines, a stream sentences: they may differ, at 1 place in 100."""
    from privacy_runtime.names import shipped

    detector = PatternDetector(shipped("medium"))
    places = differing = 0
    for text in _texts(shared_data)[-20:]:
        want = batch(detector, text).split()
        sent = stream(detector, [text], SENTENCES).split()
        places += sum("[" in word for word in want)
        blocks = difflib.SequenceMatcher(None, want, sent, autojunk=False).get_opcodes()
        differing += sum(block[0] != "equal" for block in blocks)

    assert places > 60
    assert differing <= 1


def _texts(shared_data: Path) -> list[str]:
    """Prose, structured values and court records, in pages of up to 3,000 characters."""
    texts = []
    for name in ("structured_synthetic/dev", "presidio_synth/dev", "tab/train"):
        path = shared_data / "redaction" / f"{name}.jsonl"
        if path.exists():
            lines = [json.loads(line)["text"] for line in path.read_text().splitlines()[:200]]
            text = "\n".join(lines)
            texts += [text[k : k + 3_000] for k in range(0, min(len(text), 60_000), 3_000)]
    return texts


def test_the_delay_is_bounded() -> None:
    redactor = StreamingRedactor(FixedPatterns(), lambda _: PLACEHOLDER)
    held = []
    for letter in "Some words of no more than ten letters each, a@b.com among them. " * 20:
        redactor.feed(letter)
        held.append(redactor.held)

    assert max(held) <= TOKENS.delay + 12  # and the word that has begun


def test_a_sentence_is_the_delay_for_names() -> None:
    redactor = StreamingRedactor(FixedPatterns(), lambda _: PLACEHOLDER, window=SENTENCES)

    assert redactor.feed("John Smith went home") == ""
    assert redactor.feed(". " + "x" * SENTENCES.delay) == "[PERSON] went home. "


def test_memory_does_not_grow_with_the_stream() -> None:
    redactor = StreamingRedactor(FirstNames(), lambda _: PLACEHOLDER, window=FILES)
    piece = "John Smith wrote a long letter about nothing at all. " * 160  # 8 kB
    for _ in range(4):
        redactor.feed(piece)
    tracemalloc.start()
    try:
        for _ in range(40):
            redactor.feed(piece)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 2**18  # of 340 kB that went through, in the four bytes of a code point
    assert redactor.held < 2 * FILES.stride


@pytest.mark.slow
@pytest.mark.timeout(3_000)
def test_memory_is_flat_over_a_gigabyte() -> None:
    import resource

    redactor = StreamingRedactor(FirstNames(), lambda _: PLACEHOLDER, window=FILES)
    line = "John Smith wrote a letter. " + "It said nothing at all about anything. " * 100
    piece = line * (2**20 // len(line))  # 1 MB
    taken = 0
    for _ in range(16):
        redactor.feed(piece)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    while taken < 10**9:
        redactor.feed(piece)
        taken += len(piece)

    assert redactor.counts["PERSON"] > 250_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 4 * 1_024


@pytest.mark.slow
@pytest.mark.parametrize("letter", ["x", " ", "\n", "1", "。", "😀", "-"])
def test_a_megabyte_of_one_sign_takes_linear_time(letter: str) -> None:
    import time

    seconds = []
    for size in (2**16, 2**17):
        redactor = StreamingRedactor(FixedPatterns(), lambda _: PLACEHOLDER, window=FILES)
        start = time.process_time()
        sent = "".join(redactor.feed(letter * 2**12) for _ in range(size // 2**12))
        sent += redactor.close()
        seconds.append(time.process_time() - start)
        assert sent == letter * size

    assert seconds[1] < 3.5 * seconds[0] + 0.2


def test_a_finding_longer_than_the_window_never_leaks() -> None:
    class EveryX:
        def detect(
            self, text: str, *, level: str = "medium", hints: Sequence[str] = ()
        ) -> tuple[Finding, ...]:
            del level, hints
            return tuple(
                Finding(m.start(), m.end(), "SECRET", 1.0, "test.x")
                for m in re.finditer("x+", text)
            )

    text = "a " + "x" * 100_000 + " b"
    sent = stream(EveryX(), [text], Window(longest=4_096))

    assert "x" not in sent
    assert sent.startswith("a [SECRET]")
    assert sent.endswith(" b")


def test_nothing_is_sent_on_after_a_failure() -> None:
    class Failing:
        calls = 0

        def detect(self, text: str, **_: Any) -> tuple[Finding, ...]:
            Failing.calls += 1
            raise RuntimeError

    redactor = StreamingRedactor(Failing(), lambda _: PLACEHOLDER)
    with pytest.raises(RuntimeError):
        redactor.feed("word " * 100)
    again: list[Callable[[], str]] = [lambda: redactor.feed("more"), redactor.close]
    for act in again:
        with pytest.raises(StreamClosed):
            act()
    assert Failing.calls == 1


def test_a_closed_stream_takes_nothing() -> None:
    redactor = StreamingRedactor(FixedPatterns(), lambda _: PLACEHOLDER)
    redactor.feed("Bob")

    assert redactor.close() == "[PERSON]"
    assert redactor.counts == {"PERSON": 1}
    with pytest.raises(StreamClosed):
        redactor.feed("Bob")
    with pytest.raises(StreamClosed):
        redactor.close()


def test_a_stream_shows_no_text() -> None:
    redactor = StreamingRedactor(FixedPatterns(), lambda _: PLACEHOLDER)
    redactor.feed("Wilhelmina")

    assert "Wilhelmina" not in repr(redactor)


@pytest.mark.parametrize("field", ["delay", "stride", "longest_sentence"])
def test_a_window_that_cannot_work_is_refused(field: str) -> None:
    with pytest.raises(InvalidParameter):
        Window(**{field: 0})
    with pytest.raises(InvalidParameter):
        Window(longest=10)
