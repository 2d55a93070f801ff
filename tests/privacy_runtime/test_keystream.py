from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from privacy_core.errors import InvalidParameter
from privacy_runtime import keystream
from privacy_runtime.keystream import (
    BLOCK_BYTES,
    MAX_BLOCKS,
    KeyStream,
    KeyStreamExhausted,
    KeyStreamForked,
    KeyStreamReused,
    bytes_at,
    uniforms_from_words,
)
from privacy_runtime.testing import SeededEntropy
from privacy_runtime.world import SystemEntropy

KEY = bytes(range(32))


def in_a_forked_child(work: Callable[[], bytes]) -> bytes:
    """Run `work` in a fork of this process and return its bytes."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write_end, work())
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return answer


def test_the_key_stream_is_the_published_aes_256_ctr() -> None:
    # Source: NIST SP 800-38A, F.5.5 (CTR-AES256.Encrypt), all four blocks; key stream = input xor
    # output, which the document lists as "Output Block".
    key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    counter = int("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff", 16)
    expected = bytes.fromhex(
        "0bdf7df1591716335e9a8b15c860c502"
        "5a6e699d536119065433863c8f657b94"
        "1bc12c9c01610d5d0d8bd6a3378eca62"
        "2956e1c8693536b1bee99c73a31576b6"
    )

    assert bytes_at(key, block=counter, size_bytes=64) == expected
    assert bytes_at(key, block=counter + 2, size_bytes=20) == expected[32:52]


def test_reading_in_pieces_gives_the_stream_in_order_and_never_goes_back() -> None:
    stream = KeyStream(KEY)

    pieces = [stream.read(16), stream.read(5), stream.read(0), stream.read(48)]

    whole = bytes_at(KEY, block=0, size_bytes=6 * BLOCK_BYTES)
    assert pieces == [whole[:16], whole[16:21], b"", whole[32:80]]
    assert stream.next_block == 5


def test_a_long_read_equals_the_cipher_in_one_go() -> None:
    size_bytes = 2**18 + 2**17 + 3

    assert KeyStream(KEY).read(size_bytes) == bytes_at(KEY, block=0, size_bytes=2**19)[:size_bytes]


def test_spans_are_disjoint_and_readable_in_any_order_by_many_threads() -> None:
    stream = KeyStream(KEY)
    spans = stream.reserve([64] * 50)

    def read(span: keystream.Span) -> bytes:
        buffer = bytearray(span.size_bytes)
        span.read_into(memoryview(buffer))
        return bytes(buffer)

    with ThreadPoolExecutor(4) as pool:
        backwards = list(pool.map(read, reversed(spans)))

    assert b"".join(reversed(backwards)) == bytes_at(KEY, block=0, size_bytes=50 * 64)


def test_threads_that_share_a_stream_never_get_the_same_bytes() -> None:
    stream = KeyStream(KEY)

    with ThreadPoolExecutor(8) as pool:
        drawn = list(pool.map(lambda _: stream.read(16), range(2000)))

    assert len(set(drawn)) == 2000


def test_a_span_is_read_once() -> None:
    (span,) = KeyStream(KEY).reserve([16])
    buffer = bytearray(16)
    span.read_into(memoryview(buffer))
    first = bytes(buffer)
    buffer[:] = bytes(16)

    with pytest.raises(KeyStreamReused):
        span.read_into(memoryview(buffer))

    assert bytes(buffer) == bytes(16) != first


def test_a_span_refuses_a_buffer_of_another_length_and_stays_unread() -> None:
    (span,) = KeyStream(KEY).reserve([16])

    with pytest.raises(InvalidParameter, match="16 bytes"):
        span.read_into(memoryview(bytearray(32)))

    span.read_into(memoryview(bytearray(16)))


def test_the_position_advances_even_when_nothing_is_read() -> None:
    stream = KeyStream(KEY)

    stream.reserve([16])

    assert stream.read(16) == bytes_at(KEY, block=1, size_bytes=16)


def test_the_stream_ends_rather_than_repeats() -> None:
    stream = KeyStream(KEY)
    stream.reserve([(MAX_BLOCKS - 1) * BLOCK_BYTES])

    with pytest.raises(KeyStreamExhausted):
        stream.read(17)

    assert len(stream.read(16)) == 16
    with pytest.raises(KeyStreamExhausted):
        stream.read(1)


def test_a_fork_of_a_fresh_stream_takes_another_key() -> None:
    stream = KeyStream.fresh(SystemEntropy())
    stream.read(16)

    child = in_a_forked_child(lambda: stream.read(64))
    second_child = in_a_forked_child(lambda: stream.read(64))
    parent = stream.read(64)

    assert len({child, second_child, parent}) == 3
    assert len(child) == len(second_child) == 64


def test_a_child_of_a_child_takes_another_key_too() -> None:
    stream = KeyStream.fresh(SystemEntropy())

    def child() -> bytes:
        own = stream.read(32)
        return in_a_forked_child(lambda: stream.read(32)) + own

    answer = in_a_forked_child(child)

    assert len({answer[:32], answer[32:], stream.read(32)}) == 3


def test_a_fork_of_a_stream_without_entropy_is_refused() -> None:
    stream = KeyStream(KEY)

    def child() -> bytes:
        try:
            return stream.read(16)
        except KeyStreamForked:
            return b"refused"

    assert in_a_forked_child(child) == b"refused"
    assert stream.read(16) == bytes_at(KEY, block=0, size_bytes=16)


def test_a_span_reserved_before_a_fork_is_not_readable_after_it() -> None:
    (span,) = KeyStream.fresh(SystemEntropy()).reserve([16])

    def child() -> bytes:
        try:
            span.read_into(memoryview(bytearray(16)))
        except KeyStreamForked:
            return b"refused"
        return b"read"

    assert in_a_forked_child(child) == b"refused"


def test_a_fork_while_another_thread_holds_the_lock_does_not_hang() -> None:
    stream = KeyStream.fresh(SystemEntropy())

    with keystream._lock:
        child = in_a_forked_child(lambda: stream.read(16))

    assert len(child) == 16


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy])
def test_streams_and_spans_cannot_be_copied(duplicate: Callable[[object], object]) -> None:
    stream = KeyStream(KEY)
    (span,) = stream.reserve([16])

    with pytest.raises(KeyStreamReused):
        duplicate(stream)
    with pytest.raises(KeyStreamReused):
        duplicate(span)


def test_the_key_shows_in_no_repr_and_in_no_error() -> None:
    stream = KeyStream(KEY)
    (span,) = stream.reserve([16])
    with pytest.raises(InvalidParameter) as caught:
        KeyStream(KEY[:31])

    shown = f"{stream!r} {stream} {span!r} {caught.value} {caught.value!r}"

    for form in (KEY[:4].hex(), repr(KEY[:4])[2:-1], str(list(KEY[:4]))):
        assert form not in shown


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_key_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(InvalidParameter, match="32 bytes"):
        KeyStream(bytes(size))
    with pytest.raises(InvalidParameter, match="32 bytes"):
        bytes_at(bytes(size), block=0, size_bytes=16)


@pytest.mark.parametrize("count", [-1, True, 1.5])
def test_a_count_that_is_not_one_is_refused_and_nothing_is_given(count: int) -> None:
    stream = KeyStream(KEY)

    for draw in (stream.words, stream.uniforms, stream.read):
        with pytest.raises(InvalidParameter):
            draw(count)

    assert stream.next_block == 0


def test_words_are_the_stream_in_little_endian() -> None:
    expected = np.frombuffer(bytes_at(KEY, block=0, size_bytes=40), dtype="<u8")

    assert KeyStream(KEY).words(5).tolist() == expected.tolist()
    assert KeyStream(KEY).words(0).size == 0


def test_extreme_words_give_uniforms_inside_the_open_interval() -> None:
    words = np.array([0, 1, 2**63, 2**64 - 2, 2**64 - 1], dtype=np.uint64)

    uniforms = uniforms_from_words(words)

    assert uniforms[0] == 2.0**-53
    assert uniforms[-1] == 1 - 2.0**-53
    assert np.all((uniforms > 0) & (uniforms < 1))
    np.testing.assert_array_equal(uniforms + uniforms_from_words(~words), 1.0)


def test_uniforms_are_uniform() -> None:
    # Chi-square over 1000 cells, 10^6 draws: mean 999, standard deviation 44.7. The bounds are the
    # two-sided 10^-7 quantiles (777, 1255): false alarm 2e-7, and the seed is fixed.
    uniforms = KeyStream.fresh(SeededEntropy(1)).uniforms(10**6)

    counts = np.bincount((uniforms * 1000).astype(np.int64), minlength=1000)
    statistic = float(np.sum((counts - 1000.0) ** 2 / 1000.0))

    assert counts.size == 1000
    assert 777 < statistic < 1255


def test_the_same_seeded_entropy_gives_the_same_stream() -> None:
    streams = [KeyStream.fresh(SeededEntropy(seed)) for seed in (5, 5, 6)]

    first, again, other = (stream.read(64) for stream in streams)

    assert first == again != other


def test_an_entropy_that_gives_too_little_is_refused() -> None:
    class Short:
        def token_bytes(self, size_bytes: int) -> bytes:
            return bytes(size_bytes - 1)

    with pytest.raises(InvalidParameter, match="31 bytes"):
        KeyStream.fresh(Short())
