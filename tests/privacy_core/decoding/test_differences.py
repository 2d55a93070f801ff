"""Sums of clipped differences: exact in whole numbers, whatever a record says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from privacy_core.decoding import bounded, clipped_sum, read_sums, write_sums
from privacy_core.decoding.terms import GRID
from privacy_core.errors import InvalidParameter

FEW = settings(deadline=None, max_examples=40, derandomize=True)
ANYTHING = st.floats(width=32, allow_nan=True, allow_infinity=True)
CLIPS = st.floats(1e-3, 1e3) | st.sampled_from([5e-324, 1e-42, 1e-30, 1e30, 1e300])
PUBLIC = hnp.arrays(np.float32, 5, elements=st.floats(-50, 50, width=32))


def rows(slots: int) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.float32, (slots, 5), elements=ANYTHING)


@FEW
@given(rows(4), rows(1), PUBLIC, CLIPS)
def test_no_record_moves_a_sum_further_than_its_steps(
    private: np.ndarray, other: np.ndarray, public: np.ndarray, clip: float
) -> None:
    exchanged, emptied = private.copy(), private.copy()
    exchanged[2], emptied[2] = other[0], np.nan

    full, after, without = (
        clipped_sum(r, public, clip).astype(np.int64) for r in (private, exchanged, emptied)
    )

    assert np.abs(full - after).max() <= 2 * GRID
    assert np.abs(full - without).max() <= GRID
    assert np.abs(full).max() <= 4 * GRID
    shorter = clipped_sum(np.delete(private, 2, axis=0), public, clip)
    assert np.array_equal(without, shorter)


def test_the_sum_is_the_floats_sum_but_for_half_a_step_a_slot() -> None:
    rng = np.random.default_rng(5)  # noqa: TID251 -- which logits
    public = rng.normal(size=128).astype(np.float32) * 5
    private = (public + rng.normal(size=(40, 128)) * 3).astype(np.float32)
    clip = 2.4

    sums = clipped_sum(private, public, clip)

    floats = np.clip(private.astype(np.float64) - public, -clip, clip).sum(axis=0)
    # Half a step, and float32's own error of a difference.
    assert np.abs(sums * (clip / GRID) - floats).max() <= 40 * (clip / GRID / 2 + 4e-6)
    assert sums.dtype == np.int32


def test_a_node_with_the_most_slots_does_not_overflow() -> None:
    private = np.full((1 << 16, 2), np.inf, dtype=np.float32)

    assert clipped_sum(private, np.zeros(2, np.float32), 1.0).tolist() == [1 << 28, 1 << 28]


def test_a_node_without_records_adds_nothing() -> None:
    private = np.zeros((0, 3), np.float32)

    assert clipped_sum(private, np.zeros(3, np.float32), 1.0).tolist() == [0, 0, 0]


def test_broken_records_are_clipped_or_empty() -> None:
    private = np.array([[np.nan, np.inf, -np.inf, 0.5]], dtype=np.float32)

    sums = clipped_sum(private, np.zeros(4, np.float32), 1.0)

    assert sums.tolist() == [0, GRID, -GRID, GRID // 2]


def test_the_order_of_the_slots_does_not_matter() -> None:
    rng = np.random.default_rng(6)  # noqa: TID251 -- which logits
    private = rng.normal(size=(50, 9)).astype(np.float32) * 4
    public = np.zeros(9, np.float32)

    one = clipped_sum(private, public, 3.0)
    parts = [clipped_sum(private[i::3], public, 3.0) for i in range(3)]

    assert np.array_equal(one, clipped_sum(private[::-1], public, 3.0))
    assert np.array_equal(one, sum(parts))


@pytest.mark.parametrize(
    ("private", "public", "clip"),
    [
        (np.zeros((2, 3), np.float32), np.zeros(4, np.float32), 1.0),
        (np.zeros(3, np.float32), np.zeros(3, np.float32), 1.0),
        (np.zeros((2, 3), np.float32), np.array([0, np.nan, 0], np.float32), 1.0),
        (np.zeros((2, 3), np.float32), np.zeros(3, np.float32), 0.0),
        (np.zeros((2, 3), np.float32), np.zeros(3, np.float32), np.nan),
        (np.zeros((2, 3), np.float32), np.zeros(3, np.float32), np.inf),
    ],
)
def test_wrong_public_arguments_are_refused(
    private: np.ndarray, public: np.ndarray, clip: float
) -> None:
    with pytest.raises(InvalidParameter):
        clipped_sum(private, public, clip)


def test_sums_beyond_the_slots_are_refused_without_being_told() -> None:
    for value in (3 * GRID + 1, -3 * GRID - 1, -(1 << 31)):
        sums = np.array([0, value], dtype=np.int32)
        with pytest.raises(InvalidParameter, match="beyond the bound") as refusal:
            bounded(sums, 3)
        assert str(abs(value)) not in str(refusal.value)

    assert bounded(np.array([3 * GRID, -3 * GRID], np.int32), 3, 2).tolist() == [12288, -12288]
    assert bounded(np.array([0], np.int32), 0).tolist() == [0]


def test_the_wire_carries_every_sum() -> None:
    sums = np.array([5, -7, 3 * GRID], dtype=np.int32)

    assert write_sums(sums)[:4] == b"\x05\x00\x00\x00"
    assert read_sums(write_sums(sums), 3, 3).tolist() == sums.tolist()


@pytest.mark.parametrize("size", [0, 8, 11, 16])
def test_a_payload_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(InvalidParameter, match="bytes"):
        read_sums(bytes(size), 3, 3)


@pytest.mark.parametrize(
    "sums", [np.zeros(2), np.zeros((2, 2), np.int32), np.zeros(0, np.int32), np.zeros(3, np.int32)]
)
def test_what_is_no_vector_of_k_whole_numbers_is_refused(sums: np.ndarray) -> None:
    with pytest.raises(InvalidParameter, match="sums"):
        bounded(sums, 3, 2)
