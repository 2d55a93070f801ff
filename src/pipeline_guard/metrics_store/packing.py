"""How the samples of a chunk are packed: times by second differences, values by what they are.

Layout: a header, one zlib stream of three columns (times, values, and a bitmap of the samples
without a value), and the CRC-32 of both, which finds damage.

=================  ======================================================================
values that are    are kept as
=================  ======================================================================
decimal fractions  integers after a power of ten, or their differences, whichever is
                   narrower: counters, quantised readings, whole numbers
anything else      the exclusive or with the value before, bytes of equal weight together
=================  ======================================================================

Unpacking returns the same bits, for doubles up to 10^300 and times within 2^60 us of 1970.

Sources: Pelkonen et al. 2015, "Gorilla", sections 4.1.1 and 4.1.2 (second differences, exclusive
or); Afroozeh, Kuffo and Boncz 2023, "ALP", section 2 (doubles that are decimals); Apache Parquet,
BYTE_STREAM_SPLIT (bytes of equal weight together). zlib at level 1: level 6 saved 1 to 3 % on the
series of `benchmarks/guard_store.py` and took twice as long.
"""

from __future__ import annotations

import math
import struct
import zlib
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

Integers: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]

SAMPLES_MAX: Final = 512
"""Samples of one chunk."""

_VERSION: Final = 1
_HEADER: Final = struct.Struct("<BBHqqBBqqB")
_CRC: Final = struct.Struct("<I")
_BITS, _WHOLE, _DIFFERENCES = range(3)
_POWERS: Final = 10.0 ** np.arange(7)
_EXACT: Final = 2.0**52
_PROBED: Final = 8
_WIDTHS: Final = ("<u1", "<u2", "<u4", "<u8")


class Damaged(Exception):
    """Packed samples that are not what was packed."""


def pack(times_us: Integers, values: Floats) -> bytes:
    """Pack 1 to 512 samples in order of time; NaN stands for "no value"."""
    empty = np.isnan(values)
    bitmap = b""
    if empty.any():
        bitmap = np.packbits(empty).tobytes()
        values = _filled(values, empty)
    steps = times_us[1:] - times_us[:-1]
    time_width, time_column = _narrow(_zigzag(steps[1:] - steps[:-1]))
    kind, decimals, first, width, column = _column(values)
    header = _HEADER.pack(
        _VERSION, kind, len(values), int(times_us[0]), int(steps[0]) if len(steps) else 0,
        time_width, width, first, decimals, bool(bitmap),
    )  # fmt: skip
    packed = header + zlib.compress(time_column + column + bitmap, 1)
    return packed + _CRC.pack(zlib.crc32(packed))


def unpack(packed: bytes) -> tuple[Integers, Floats]:
    """Return the times and values that were packed.

    Raises:
        Damaged: the bytes are not what `pack` returned, or a newer version packed them.
    """
    try:
        fields = _HEADER.unpack_from(packed)
        if zlib.crc32(packed[: -_CRC.size]) != _CRC.unpack(packed[-_CRC.size :])[0]:
            raise Damaged
        body = zlib.decompress(packed[_HEADER.size : -_CRC.size])
    except (struct.error, zlib.error) as error:
        raise Damaged from error
    version, kind, count, start, step, time_width, width, first, decimals, has_empty = fields
    if version != _VERSION:
        raise Damaged
    times_bytes = max(0, count - 2) << time_width
    values_bytes = count * 8 if kind == _BITS else (count - (kind == _DIFFERENCES)) << width
    if len(body) != times_bytes + values_bytes + (-(-count // 8) if has_empty else 0):
        raise Damaged
    times_us = np.full(count, step, np.int64)
    times_us[0] = start
    times_us[2:] += np.cumsum(_unzigzag(_widen(body[:times_bytes], time_width)))
    np.cumsum(times_us, out=times_us)
    column = body[times_bytes : times_bytes + values_bytes]
    values = _values(kind, column, width, first, decimals)
    if has_empty:
        flags = np.frombuffer(body[times_bytes + values_bytes :], np.uint8)
        values[np.unpackbits(flags, count=count).astype(bool)] = np.nan
    return times_us, values


def _column(values: Floats) -> tuple[int, int, int, int, bytes]:
    """Kind, power of ten, first integer, width and bytes of a column of values."""
    decimal = _as_integers(values)
    if decimal is None:
        bits = values.view(np.uint64).copy()
        bits[1:] ^= values.view(np.uint64)[:-1]
        return _BITS, 0, 0, 3, _split(bits)
    decimals, integers = decimal
    lowest = int(integers.min())
    whole = (integers - lowest).view(np.uint64)
    differences = _zigzag(integers[1:] - integers[:-1])
    if len(differences) and differences.max() < whole.max():
        width, column = _narrow(differences)
        return _DIFFERENCES, decimals, int(integers[0]), width, column
    width, column = _narrow(whole)
    return _WHOLE, decimals, lowest, width, column


def _values(kind: int, column: bytes, width: int, first: int, decimals: int) -> Floats:
    if kind == _BITS:
        bits = _widen(column, 3)
        return np.bitwise_xor.accumulate(bits).view(np.float64)
    numbers = _widen(column, width)
    if kind == _WHOLE:
        integers = numbers.view(np.int64) + first
    else:
        integers = np.empty(len(numbers) + 1, np.int64)
        integers[0] = first
        integers[1:] = _unzigzag(numbers)
        np.cumsum(integers, out=integers)
    return integers / 10.0**decimals


def _as_integers(values: Floats) -> tuple[int, Integers] | None:
    """The power of ten by which all become integers that give back the same bits, if there is one.

    A few values are probed first with all powers: most series that are not decimals show it there.
    Adding zero turns minus zero, which no integer gives back, into one that differs.
    """
    probe = values[:_PROBED, np.newaxis]
    fits = _same_bits((np.rint(probe * _POWERS) + 0.0) / _POWERS, probe).all(axis=0)
    for power in _POWERS[fits].tolist():
        integers = np.rint(values * power) + 0.0
        if _same_bits(integers / power, values).all() and np.abs(integers).max() < _EXACT:
            return round(math.log10(power)), integers.astype(np.int64)
    return None


def _same_bits(left: Floats, right: Floats) -> npt.NDArray[np.bool_]:
    """Unlike `==`, this tells zero from minus zero."""
    same: npt.NDArray[np.bool_] = left.view(np.uint64) == right.view(np.uint64)
    return same


def _filled(values: Floats, empty: npt.NDArray[np.bool_]) -> Floats:
    """What has no value repeats the one before, which packs best."""
    place = np.where(empty, 0, np.arange(len(values)))
    np.maximum.accumulate(place, out=place)
    filled: Floats = values[place]
    filled[np.isnan(filled)] = 0.0
    return filled


def _zigzag(numbers: Integers) -> npt.NDArray[np.uint64]:
    """Small numbers of either sign become small numbers."""
    return ((numbers << 1) ^ (numbers >> 63)).view(np.uint64)


def _unzigzag(numbers: npt.NDArray[np.uint64]) -> Integers:
    one = np.uint64(1)
    return (numbers >> one).view(np.int64) ^ -(numbers & one).view(np.int64)


def _narrow(numbers: npt.NDArray[np.uint64]) -> tuple[int, bytes]:
    """The narrowest width (as a power of two bytes) that holds all, and the split bytes."""
    largest = int(numbers.max()) if len(numbers) else 0
    width = next(w for w in range(4) if largest < 1 << (8 << w))
    return width, _split(numbers.astype(_WIDTHS[width]))


def _split(numbers: npt.NDArray[Any]) -> bytes:
    """Bytes of equal weight together."""
    return numbers.view(np.uint8).reshape(len(numbers), numbers.itemsize).T.tobytes()


def _widen(column: bytes, width: int) -> npt.NDArray[np.uint64]:
    rows = np.frombuffer(column, np.uint8).reshape(1 << width, -1)
    return np.ascontiguousarray(rows.T).view(_WIDTHS[width]).ravel().astype(np.uint64)
