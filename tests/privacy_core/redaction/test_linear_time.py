"""Time is linear in the text, and 100 KB of anything take at most half a second of one core.

A quadratic step would take 64 times as long for eight times the text, so a factor of 24 between
sizes tells the two apart on a noisy machine; times below five milliseconds count as five.

The half second is for a core that nobody else uses. What else runs slows ours through the caches it
shares, so a loop of known work is timed beside each text: where it takes longer than on a quiet
machine, so may the text. The best of three counts. The collector of a process full of other tests'
objects would be timed too, so it is off meanwhile.
"""

from __future__ import annotations

import gc
import time

import pytest

from privacy_core.redaction.detection import PatternDetector

UNITS = {
    "dots": ".",
    "a colon": "a:",
    "one colon": "1:",
    "letter and digit": "A1",
    "begun IBANs": "GB12 ",
    "at signs": "@",
    "addresses without end": "a@",
    "digits": "1",
    "dashes": "-",
    "digit and dash": "1-",
    "digit and blank": "1 ",
    "quotes": "\"'",
    "nested objects": '{"a":',
    "right-to-left marks": "\u202e1",
    "combining marks": "e\u0301",
    "zero-width": "4\u200b",
    "years": "2004 ",
    "cards": "4111 1111 1111 1111 ",
    "phones": "+44 20 7946 0958 ",
    "labels": "password: id no. ",
    "begun keys": "-----BEGIN PRIVATE KEY-----",
    "begun tokens": "sk-eyJhbGciOi-",
    "schemes": "http://a:",
    "streets": "1 Aa Apt. Calle ",
    "months": "1 may ",
    "files": "nos. 1, 2, 12/34 ",
    "ideographs": "\u65e5",
    "escapes": "%40&#64;",
    "lines": "\n",
}
SMALL, LARGE = 12_500, 100_000
QUIET_S = 0.015  # seconds of CPU that `slowness` takes on a quiet core


def seconds(detector: PatternDetector, unit: str, size: int) -> float:
    text = (unit * (size // len(unit) + 1))[:size]
    gc.disable()
    try:
        start = time.process_time()
        detector.detect(text, level="high")
        return time.process_time() - start
    finally:
        gc.enable()


@pytest.mark.slow
@pytest.mark.parametrize("family", UNITS)
def test_eight_times_the_text_takes_about_eight_times_as_long(family: str) -> None:
    detector = PatternDetector()
    detector.detect("warm up 1")
    small = min(seconds(detector, UNITS[family], SMALL) for _ in range(2))
    large = min(seconds(detector, UNITS[family], LARGE) for _ in range(2))
    assert large <= 24 * max(small, 0.005)


def slowness() -> float:
    """How much slower than when it is quiet this core is just now, at least one."""
    start = time.process_time()
    text = "".join([str(k) for k in range(60_000)])
    total = sum([int(text[k : k + 5]) for k in range(0, 200_000, 5)])
    assert total == 1_257_384_171
    return max(1.0, (time.process_time() - start) / QUIET_S)


@pytest.mark.slow
@pytest.mark.parametrize("family", UNITS)
def test_no_hundred_kilobytes_take_more_than_half_a_second(family: str) -> None:
    detector = PatternDetector()
    detector.detect("warm up 1")
    best = min(seconds(detector, UNITS[family], LARGE) / slowness() for _ in range(3))
    assert best <= 0.5


def test_a_megabyte_in_one_line_is_read() -> None:
    text = "lorem ipsum dolor " * 55_000 + "ana@example.org"
    (found,) = PatternDetector().detect(text, level="low")
    assert text[found.start :] == "ana@example.org"


def test_ten_thousand_values_are_all_found() -> None:
    text = "".join(f"u{k}@example.org " for k in range(10_000))
    assert len(PatternDetector().detect(text, level="low")) == 10_000
