from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_runtime.blobs.errors import NotSealed, SealedError
from privacy_runtime.blobs.segments import TAG_BYTES, Witness, opened, pieces, sealed
from privacy_runtime.testing import SeededEntropy

KEY = bytes(range(32))
SEGMENT = 64


def made(data: bytes, name: str = "weights", key: bytes = KEY, seed: int = 1) -> bytes:
    chunks = [data[k : k + 37] for k in range(0, len(data), 37)]
    return b"".join(sealed(chunks, key, name, SeededEntropy(seed), segment_bytes=SEGMENT))


def read(data: bytes, name: str = "weights", key: bytes = KEY) -> bytes:
    return b"".join(opened(io.BytesIO(data), key, name))


def parts(data: bytes) -> tuple[bytes, list[bytes]]:
    """The front and the segments of a sealed file."""
    front = 8 + int.from_bytes(data[4:8])
    size = SEGMENT + TAG_BYTES
    return data[:front], [data[k : k + size] for k in range(front, len(data), size)]


@given(st.binary(max_size=400))
def test_what_was_sealed_is_opened(data: bytes) -> None:
    whole = made(data)

    assert read(whole) == data
    front, segments = parts(whole)
    assert len(whole) == len(front) + len(data) + TAG_BYTES * len(segments)


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 127, 128, 129])
def test_around_the_ends_of_segments(size: int) -> None:
    data = bytes(range(256))[:size]

    assert read(made(data)) == data


def test_every_flipped_bit_is_noticed() -> None:
    whole = made(bytes(150))
    for place in range(len(whole)):
        for bit in (1, 128):
            spoilt = bytearray(whole)
            spoilt[place] ^= bit
            with pytest.raises(SealedError, match="was not used"):
                read(bytes(spoilt))


def test_every_truncation_is_noticed() -> None:
    whole = made(bytes(150))
    for length in range(len(whole)):
        with pytest.raises(SealedError):
            read(whole[:length])


def swapped(segments: list[bytes], other: list[bytes]) -> list[bytes]:
    return [segments[1], segments[0], *segments[2:]]


def repeated(segments: list[bytes], other: list[bytes]) -> list[bytes]:
    return [segments[0], *segments]


def dropped(segments: list[bytes], other: list[bytes]) -> list[bytes]:
    return [segments[0], *segments[2:]]


def spliced(segments: list[bytes], other: list[bytes]) -> list[bytes]:
    return [segments[0], other[1], *segments[2:]]


def ended_early(segments: list[bytes], other: list[bytes]) -> list[bytes]:
    return segments[:-1]


def went_on(segments: list[bytes], other: list[bytes]) -> list[bytes]:
    return [*segments, segments[-1]]


def summed(data: bytes) -> str:
    witness = Witness()
    for piece in pieces(io.BytesIO(data), "weights"):
        witness.update(piece)
    return witness.hexdigest()


def test_the_sum_of_what_was_sealed_is_that_of_what_lies_there_and_of_what_is_opened() -> None:
    witness, opening = Witness(), Witness()
    chunks = list(sealed([bytes(150)], KEY, "weights", SeededEntropy(1), segment_bytes=SEGMENT))
    for chunk in chunks:
        witness.update(chunk)
    whole = b"".join(chunks)
    for _ in opened(io.BytesIO(whole), KEY, "weights", witness=opening.update):
        pass

    assert witness.hexdigest() == summed(whole) == opening.hexdigest()


def test_every_flipped_bit_and_every_truncation_changes_the_sum_that_needs_no_key() -> None:
    whole = made(bytes(150))
    right = summed(whole)
    spoilt = [whole[:length] for length in range(len(whole))]
    for place in range(len(whole)):
        for bit in range(8):
            changed = bytearray(whole)
            changed[place] ^= 1 << bit
            spoilt.append(bytes(changed))

    for data in spoilt:
        try:
            found = summed(data)
        except NotSealed:
            continue
        assert found != right


@pytest.mark.parametrize("change", [swapped, repeated, dropped, spliced, ended_early, went_on])
def test_no_segment_stands_elsewhere(
    change: Callable[[list[bytes], list[bytes]], list[bytes]],
) -> None:
    front, segments = parts(made(bytes(64 * 4 + 10)))
    _, other = parts(made(bytes(64 * 4 + 10), seed=2))

    moved = front + b"".join(change(segments, other))

    with pytest.raises(SealedError):
        read(moved)
    assert summed(moved) != summed(front + b"".join(segments))


def test_a_file_is_that_of_its_name_and_key() -> None:
    whole = made(b"data")

    for name, key in (("optimizer", KEY), ("weights", bytes(32))):
        with pytest.raises(SealedError):
            read(whole, name, key)


def test_what_is_handed_out_before_a_break_is_genuine() -> None:
    data = bytes(range(200))
    front, segments = parts(made(data))
    found = opened(io.BytesIO(front + segments[0] + b"x" * 80), KEY, "weights")

    assert next(found) == data[:64]
    with pytest.raises(SealedError):
        next(found)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PFS",
        b"PK\x03\x04....",
        b"PFS1\xff\xff\xff\xff",
        b"PFS1\x00\x00\x00\x02{}",
        b"PFS1\0\0\0\4[1]]",
    ],
)
def test_what_is_no_sealed_file_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(NotSealed):
        read(data)


def test_equal_data_looks_different_each_time() -> None:
    _, one = parts(made(bytes(64)))
    _, other = parts(made(bytes(64), seed=2))

    assert one != other


def test_a_source_may_give_bytes_in_drops() -> None:
    class Drops:
        def __init__(self, data: bytes) -> None:
            self.inner = io.BytesIO(data)

        def read(self, size: int, /) -> bytes:
            return self.inner.read(min(size, 7))

    data = bytes(range(200))

    assert b"".join(opened(Drops(made(data)), KEY, "weights")) == data
