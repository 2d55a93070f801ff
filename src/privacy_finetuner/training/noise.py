"""Gaussian noise that an attacker can neither predict nor read the true sum through.

Notable choices, each with its reason:

- *The key stream, not torch.* Noise made from a known seed can be subtracted by anybody who knows
  the seed. `GaussianNoise.secure` draws from AES-256-CTR under a key of the operating system.
- *Long tails.* float32 `torch.randn` never exceeds 5.77 sigma, so an output further out names the
  data set it came from. 63-bit radii reach 9.41 sigma; what is cut off has probability 2^-64.
- *A lattice.* Floating-point noise on floating-point sums leaks through low-order bits (Mironov
  2012; Jin et al. 2022, arXiv:2112.05307). Here sum and noise are both rounded to multiples of one
  step s, added exactly, and only then turned back into floating point.
- *No rejection.* Every sample takes the same steps: no sampler's retries to be timed.

Why the lattice is exact accounting. With whole numbers a = round(g/s) and Z Gaussian,
a + round(Z/s) = round(a + Z/s): rounding the ideal Gaussian mechanism applied to the rounded sum,
that is post-processing. No discrete-Gaussian accounting is needed.

Why `ROUNDING_MARGIN` is 2e-3. Two neighbouring sums are at most C apart in L2. Rounding moves each
of d coordinates by at most s/2, in both sums: at most s * sqrt(d) together. With s = C * 2^-k and
2^k >= 1000 * sqrt(d) that is at most 1e-3 * C. Scaling by 1/s in float64 moves a coordinate by at
most 2^-3 * s (|g| <= 2^50 * s is enforced), in both sums 0.25e-3 * C. The remaining 0.75e-3 * C is
room for the rounding of the engine's own summation. So the rounded sums are at most (1 + 2e-3) * C
apart, and noise of standard deviation noise_multiplier * (1 + 2e-3) * C is at least what
`Gaussian(noise_multiplier)` prices.

What remains. (1) Pairwise float32 summation of B gradients that all point the same way can err by
B * log2(B) * 2^-24 * C: inside the room up to B = 600, in the worst case; gradients that do not
align need far less, and adding micro-batches in float64 removes the limit. (2) Z is a
float64, so the probability of one lattice point is off by a relative 2^-52 * |Z|/s, about 2^-32 for
10^6 coordinates. Neither is part of the reported delta.

Shapes: N samples (coordinates), P = ceil(N / 2) Box-Muller pairs, W = 2 P words.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, NoReturn, Protocol, Self, TypeAlias

import numpy as np
import torch
from torch import Tensor

from privacy_core.errors import InvalidParameter
from privacy_finetuner.training.box_muller import Floats, box_muller
from privacy_runtime.keystream import WORD_BYTES, KeyStream, KeyStreamReused, process_mark
from privacy_runtime.world import Entropy

ROUNDING_MARGIN: Final = 2e-3

# Cells of the lattice per unit of sensitivity and sqrt(coordinate): rounding costs 1/1000.
_CELLS: Final = 1000.0
# Samples made at once by one thread: 2 MiB of buffers. The arithmetic is numpy's, which runs on the
# calling thread alone: torch would open threads of its own under ours (for log and cos from 2^11
# elements on, for copies from 2^15), whose barriers on a busy machine cost ten times the work.
_CHUNK: Final = 2**16
_SEGMENT: Final = 2**15
_LARGEST_SUM_IN_STEPS: Final = 2.0**50
_LARGEST_NOISE_IN_STEPS: Final = 2.0**52
_LARGEST_NORMAL: Final = 9.5
_FLOATS: Final = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

# A run of coordinates: index of the tensor, first and last + 1 position in it.
_Segment: TypeAlias = tuple[int, int, int]


class _Words(Protocol):
    """Random words for one chunk. Read once."""

    def read_into(self, buffer: memoryview) -> None: ...


class _WordSource(Protocol):
    """Where random words come from."""

    name: str
    parallel: bool

    def reserve(self, sizes_bytes: Sequence[int]) -> Sequence[_Words]: ...


class GaussianNoise:
    """A source of Gaussian noise. No number is drawn twice, by this object or by another.

    Guarantees, for both `secure` and `fast`: torch's own generators are neither read nor changed,
    and `torch.manual_seed` has no influence; the source advances before its output is used; a new
    object has a new key, so a resumed run never repeats noise; after a fork the child takes a new
    key; pickling and copying are refused. `secure` uses as many threads as torch does, each with
    its own part of the key stream; the values do not depend on their number.
    """

    def __init__(self, source: _WordSource) -> None:
        self._source = source

    @classmethod
    def secure(cls, entropy: Entropy) -> Self:
        """Make noise that nobody can predict: AES-256-CTR under a fresh key from `entropy`."""
        return cls(_KeyStreamWords(KeyStream.fresh(entropy)))

    @classmethod
    def fast(cls, entropy: Entropy) -> Self:
        """Make noise from a private torch generator: for machines where AES is slow.

        The same distribution, tail and lattice as `secure`. It is *not* cryptographic: the
        generator has at most 2^32 streams and its state can be computed from its output, so the
        guarantee holds only against those who do not try. With AES instructions it is no faster.
        """
        return cls(_GeneratorWords(entropy))

    @property
    def is_secure(self) -> bool:
        """Whether the source is cryptographic."""
        return isinstance(self._source, _KeyStreamWords)

    def standard_normal(self, count: int) -> Tensor:
        """Return `count` independent N(0, 1) samples: float64, CPU, shape `(count,)`.

        For tests and measurements; what is released goes through `privatize`.

        Raises:
            InvalidParameter: `count` is negative.
        """
        if count < 0:
            raise InvalidParameter("count", found=count, expected="a whole number >= 0")
        z_N = np.empty(count, dtype=np.float64)
        chunks = list(_chunks([count]))
        ends = list(itertools.accumulate(_length(chunk) for chunk in chunks))

        def fill(at: int, span: _Words, scratch: _Scratch) -> None:
            scratch.normal_from(span, z_N[ends[at] - _length(chunks[at]) : ends[at]])

        self._for_each_chunk(chunks, fill)
        return torch.from_numpy(z_N)

    def privatize(
        self, sums: Sequence[Tensor], *, sensitivity: float, noise_multiplier: float
    ) -> list[Tensor]:
        """Return the sums plus Gaussian noise, rounded to one lattice: what may be released.

        Guarantee: if the sums of two neighbouring data sets differ by at most `sensitivity` in L2,
        over all tensors together, then this release is `Gaussian(noise_multiplier)`. Everything
        that shares one sensitivity goes in one call: the lattice is as fine as their number of
        coordinates needs.

        ==========================  ====================================================
        the sums are                the answer
        ==========================  ====================================================
        no tensors, or empty ones   the same shapes; no noise is drawn
        zero (an empty batch)       noise alone
        not finite, or beyond       refused; nothing is released. The engine never makes
        2^50 lattice steps          such a sum, so this is a fault in the program
        float16 or bfloat16         computed in float64, rounded to that type at the end
        on another device           moved to the CPU and back
        ==========================  ====================================================

        Args:
            sums: floating-point tensors of any shape; unchanged by the call.
            sensitivity: C > 0, in the units of the sums.
            noise_multiplier: > 0, as priced. The noise's standard deviation is
                `noise_multiplier * sensitivity * (1 + ROUNDING_MARGIN)`.

        Raises:
            InvalidParameter: an argument is outside its domain; nothing is released.

        Source: Dwork and Roth 2014, appendix A (Gaussian mechanism); Box and Muller 1958; the
        module docstring derives the lattice and the margin.
        """
        _require_floats(sums)
        step = lattice_step(sensitivity, coordinates=sum(part.numel() for part in sums))
        scale = _noise_scale(sensitivity, noise_multiplier, step=step)
        flat_sums = [part.detach().to("cpu").contiguous().view(-1) for part in sums]
        release = _Release(
            sums=flat_sums,
            outputs=[torch.empty_like(flat) for flat in flat_sums],
            step=step,
            scale=scale,
        )
        chunks = list(_chunks([flat.numel() for flat in flat_sums]))

        def release_one(at: int, span: _Words, scratch: _Scratch) -> None:
            _release_chunk(release, chunks[at], span, scratch)

        self._for_each_chunk(chunks, release_one)
        return [
            output.view(part.shape).to(part.device)
            for output, part in zip(release.outputs, sums, strict=True)
        ]

    def _for_each_chunk(
        self, chunks: Sequence[Sequence[_Segment]], act: Callable[[int, _Words, _Scratch], None]
    ) -> None:
        """Call `act` for every chunk with words of its own, spread over the threads."""
        lengths = [_length(chunk) for chunk in chunks]
        spans = self._source.reserve([_words_bytes(length) for length in lengths])
        workers = min(torch.get_num_threads() if self._source.parallel else 1, len(chunks))

        def work(worker: int) -> None:
            scratch = _Scratch(max(lengths))
            for at in range(worker, len(chunks), workers):
                act(at, spans[at], scratch)

        if workers == 1:
            work(0)
        elif workers > 1:
            with ThreadPoolExecutor(workers) as pool:  # per call: threads do not survive a fork
                list(pool.map(work, range(workers)))  # raises what a worker raised

    def __repr__(self) -> str:
        """Name the kind of source; never its state."""
        return f"GaussianNoise({self._source.name})"

    def __reduce__(self) -> NoReturn:
        """Refuse pickling and copying."""
        raise KeyStreamReused("a noise source cannot be copied: the copy would repeat its noise")


def lattice_step(sensitivity: float, *, coordinates: int) -> float:
    """Return s = sensitivity * 2^-k with the smallest k such that 2^k >= 1000 * sqrt(coordinates).

    Args:
        sensitivity: C > 0 and finite, large enough that s is a normal float64.
        coordinates: number of coordinates released together, >= 0 (0 counts as 1).

    Raises:
        InvalidParameter: `sensitivity` is outside its domain.
    """
    step = sensitivity * 2.0 ** -math.ceil(math.log2(_CELLS * math.sqrt(max(coordinates, 1))))
    if not sys.float_info.min <= step < math.inf:
        raise InvalidParameter(
            "sensitivity", found=sensitivity, expected="a finite number > 0 (and not below 1e-290)"
        )
    return step


class _KeyStreamWords:
    """Words from AES-256-CTR."""

    name = "AES-256-CTR"
    parallel = True

    def __init__(self, stream: KeyStream) -> None:
        self._stream = stream

    def reserve(self, sizes_bytes: Sequence[int]) -> Sequence[_Words]:
        return self._stream.reserve(sizes_bytes)


class _GeneratorWords:
    """Words from a torch generator of our own, seeded from entropy."""

    name = "torch.Generator"
    parallel = False

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self._reseed()

    def reserve(self, sizes_bytes: Sequence[int]) -> Sequence[_Words]:
        if self._process != process_mark():
            self._reseed()
        return [self] * len(sizes_bytes)

    def read_into(self, buffer: memoryview) -> None:
        words_W = torch.from_numpy(np.frombuffer(buffer, dtype=np.int64))
        words_W.random_(-(2**63), None, generator=self._generator)

    def _reseed(self) -> None:
        """Start another stream. A new `torch.Generator` has a constant seed until it is told."""
        seed = int.from_bytes(self._entropy.token_bytes(8), "little")
        self._generator = torch.Generator(device="cpu").manual_seed(seed)
        self._process = process_mark()


class _Scratch:
    """One thread's buffers, reused from chunk to chunk."""

    def __init__(self, count: int) -> None:
        self._words_W = np.empty(2 * _pairs(count), dtype=np.uint64)
        self.z_N = np.empty(count, dtype=np.float64)
        self.sum_N = np.empty(count, dtype=np.float64)

    def normal_from(self, span: _Words, out_N: Floats) -> None:
        """Fill `out_N` with the standard normal samples that the words of `span` stand for."""
        words_W = self._words_W[: 2 * _pairs(out_N.size)]
        span.read_into(words_W.data.cast("B"))
        box_muller(words_W, out_N)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Release:
    """One call of `privatize`: what is read, what is written, and the lattice between them."""

    sums: Sequence[Tensor]  # flat, contiguous, on the CPU
    outputs: Sequence[Tensor]  # as `sums`
    step: float  # s, in the units of the sums
    scale: float  # standard deviation of the noise, in steps


def _release_chunk(
    release: _Release, chunk: Sequence[_Segment], span: _Words, scratch: _Scratch
) -> None:
    """Write s * (round(g / s) + round(scale * Z)) for the coordinates of one chunk."""
    count = _length(chunk)
    noise_N, sum_N = scratch.z_N[:count], scratch.sum_N[:count]
    gathered_N = torch.from_numpy(sum_N)  # the same memory; torch converts every float type
    at = 0
    for index, start, stop in chunk:
        gathered_N[at : at + stop - start].copy_(release.sums[index][start:stop])
        at += stop - start
    sum_N *= 1.0 / release.step
    _require_on_lattice(sum_N, release)
    scratch.normal_from(span, noise_N)
    noise_N *= release.scale
    # Whole numbers below 2^53: float64 holds and adds them exactly.
    np.rint(sum_N, out=sum_N)
    np.rint(noise_N, out=noise_N)
    sum_N += noise_N
    sum_N *= release.step
    at = 0
    for index, start, stop in chunk:
        release.outputs[index][start:stop].copy_(gathered_N[at : at + stop - start])
        at += stop - start


def _chunks(sizes: Sequence[int]) -> Iterator[list[_Segment]]:
    """Cut tensors of these sizes into chunks of `_CHUNK` coordinates; small tensors share one."""
    chunk: list[_Segment] = []
    room = _CHUNK
    for index, size in enumerate(sizes):
        start = 0
        while start < size:
            stop = min(size, start + room, start + _SEGMENT)
            chunk.append((index, start, stop))
            room -= stop - start
            start = stop
            if room == 0:
                yield chunk
                chunk, room = [], _CHUNK
    if chunk:
        yield chunk


def _length(chunk: Sequence[_Segment]) -> int:
    return sum(stop - start for _, start, stop in chunk)


def _pairs(count: int) -> int:
    return -(-count // 2)


def _words_bytes(count: int) -> int:
    """Return the bytes of key stream that `count` samples take: 16 per pair, one AES block."""
    return 2 * _pairs(count) * WORD_BYTES


def _noise_scale(sensitivity: float, noise_multiplier: float, *, step: float) -> float:
    """Return the noise's standard deviation in lattice steps."""
    if not 0 < noise_multiplier < math.inf:
        raise InvalidParameter(
            "noise_multiplier", found=noise_multiplier, expected="a finite number > 0"
        )
    scale = noise_multiplier * (1 + ROUNDING_MARGIN) * (sensitivity / step)
    if scale * _LARGEST_NORMAL > _LARGEST_NOISE_IN_STEPS:
        limit = _LARGEST_NOISE_IN_STEPS * noise_multiplier / (scale * _LARGEST_NORMAL)
        raise InvalidParameter(
            "noise_multiplier", found=noise_multiplier, expected=f"at most {limit:.3g} here"
        )
    return scale


def _require_floats(sums: Sequence[Tensor]) -> None:
    for index, part in enumerate(sums):
        if part.dtype not in _FLOATS:
            raise InvalidParameter(
                f"sums[{index}]", found=part.dtype, expected="a floating-point tensor"
            )


def _require_on_lattice(steps_N: Floats, release: _Release) -> None:
    """Refuse a chunk with a coordinate that has no lattice point; name tensors, not values."""
    # Written so that NaN, which min and max pass on, is refused too.
    if steps_N.min() >= -_LARGEST_SUM_IN_STEPS and steps_N.max() <= _LARGEST_SUM_IN_STEPS:
        return
    limit = _LARGEST_SUM_IN_STEPS * release.step
    places = [
        index
        for index, flat in enumerate(release.sums)
        if not bool((flat.to(torch.float64).abs() <= limit).all())
    ]
    raise InvalidParameter(
        "sums",
        found=f"coordinates that are not finite or too large, in tensors {places}",
        expected=f"finite coordinates, at most {limit:.3g} in size; nothing is released",
    )
