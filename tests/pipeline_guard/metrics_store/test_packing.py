from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_guard.metrics_store.packing import SAMPLES_MAX, Damaged, pack, unpack

FINITE = st.floats(min_value=-1e300, max_value=1e300)
DECIMAL = st.builds(
    lambda whole, power: whole / 10.0**power,
    st.integers(-(10**12), 10**12),
    st.integers(0, 6),
)
VALUES = st.one_of(
    st.lists(st.one_of(FINITE, st.just(float("nan"))), min_size=1, max_size=40),
    st.lists(st.one_of(DECIMAL, st.just(float("nan"))), min_size=1, max_size=40),
    st.lists(st.sampled_from([0.0, -0.0, 1.0, 2.0**52, -(2.0**53)]), min_size=1, max_size=40),
)


@settings(deadline=None)
@given(VALUES, st.data())
def test_unpacking_returns_the_bits_that_were_packed(
    values: list[float], data: st.DataObject
) -> None:
    instants = st.integers(-(2**60), 2**60)
    times = sorted(data.draw(st.lists(instants, min_size=len(values), max_size=len(values))))
    packed = pack(np.array(times), np.array(values))

    back_us, back = unpack(packed)

    assert back_us.tolist() == times
    there = ~np.isnan(values)
    assert (np.isnan(back) == ~there).all()
    assert back[there].tobytes() == np.array(values)[there].tobytes()


@pytest.mark.parametrize(
    ("values", "bytes_max"),
    [
        (np.full(SAMPLES_MAX, 34.2), 0.2),
        (np.arange(SAMPLES_MAX, dtype=float) * 40 + 1e9, 0.2),
        (np.round(45 + 5 * np.sin(np.arange(SAMPLES_MAX)), 1), 1.5),
        (np.sin(np.arange(SAMPLES_MAX) ** 2), 7.7),
    ],
    ids=["constant", "counter", "quantised", "noise"],
)
def test_regular_series_take_few_bytes_a_sample(values: np.ndarray, bytes_max: float) -> None:
    times_us = 1_760_000_000_000_000 + np.arange(SAMPLES_MAX) * 5_000_000

    assert len(pack(times_us, values)) / SAMPLES_MAX <= bytes_max


def test_a_changed_byte_is_found() -> None:
    packed = pack(np.arange(100), np.sin(np.arange(100)))

    for place in range(len(packed)):
        changed = bytearray(packed)
        changed[place] ^= 0x20
        with pytest.raises(Damaged):
            unpack(bytes(changed))


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x63" * 60], ids=["empty", "short", "foreign"])
def test_what_was_never_packed_is_refused(data: bytes) -> None:
    with pytest.raises(Damaged):
        unpack(data)
