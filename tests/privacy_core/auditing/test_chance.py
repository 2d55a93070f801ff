"""The stream is the same everywhere, uniform, and another for another purpose."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from scipy import stats

from privacy_core.auditing.chance import Chance
from privacy_core.errors import InvalidParameter


def test_the_words_are_shake_256_of_seed_and_purpose() -> None:
    key = hashlib.sha256(b"int\0test\x007").digest()
    raw = hashlib.shake_256(key + (0).to_bytes(8, "little")).digest(16)
    expected = ((np.frombuffer(raw, "<u8") >> np.uint64(11)) + 0.5) * 2.0**-53

    assert Chance(7, purpose="test").uniforms(2) == pytest.approx(expected, abs=0)


def test_seeds_and_purposes_do_not_share_numbers() -> None:
    streams = [
        Chance(seed, purpose=purpose).uniforms(100)
        for seed, purpose in [(1, "a"), (2, "a"), (1, "b"), (b"1", "a")]
    ]

    assert len({tuple(stream) for stream in streams}) == 4


def test_numbers_are_uniform_normal_and_whole() -> None:
    """Kolmogorov-Smirnov and chi-square on fixed streams; by chance below 1e-6 each."""
    chance = Chance(1, purpose="test")

    assert stats.kstest(chance.uniforms(100_000), "uniform").pvalue > 1e-6
    assert stats.kstest(chance.normals(100_000), "norm").pvalue > 1e-6
    counts = np.bincount(chance.integers(7, 70_000), minlength=7)
    assert stats.chisquare(counts).pvalue > 1e-6
    assert sorted(chance.permutation(1000)) == list(range(1000))


def test_a_seed_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidParameter):
        Chance(True, purpose="test")
    with pytest.raises(InvalidParameter):
        Chance(1.5, purpose="test")  # type: ignore[arg-type]
