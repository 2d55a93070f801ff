"""What a text in a configuration means: durations, sizes, limits that adjust themselves.

A field says its unit in its name: `wait_s` takes a duration, `size_bytes` a size. In YAML the key
may be written without the unit: `wait: 5m`, `size: 10GiB`.

=========  ===============================================================
a text     is
=========  ===============================================================
`10s`      ten seconds; also `ms`, `m`, `h`, `d`, and `1h30m`
`90`       a number without a unit is in seconds, or in bytes
`auto`     five times what is usual, as the probe has observed it
`auto*8`   eight times
`10GiB`    2**30 bytes each; `kB`, `MB`, `GB`, `TB` are powers of 1,000
=========  ===============================================================
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Final

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_BYTES: Final = {
    "B": 1,
    **{f"{letter}B": 1_000**power for power, letter in enumerate("kMGT", start=1)},
    **{f"{letter}iB": 1_024**power for power, letter in enumerate("KMGT", start=1)},
}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SIZE: Final = re.compile(rf"(\d+(?:\.\d+)?) ?({'|'.join(_BYTES)})")
_AUTOMATIC: Final = re.compile(r"auto(?:\*(\d+(?:\.\d+)?))?")

DURATION: Final = "a duration such as 10s, 5m, 1h or 1h30m"
SIZE: Final = "a size such as 512MiB or 10GB"


@dataclass(frozen=True, slots=True)
class Automatic:
    """A limit that a probe sets from what it has observed: `factor` times what is usual."""

    factor: float = 5.0

    def __post_init__(self) -> None:
        """Refuse a factor that would make everything too late."""
        if not (math.isfinite(self.factor) and self.factor > 1):
            raise ValueError("the factor of auto must be above 1")

    def __str__(self) -> str:
        return f"auto*{self.factor:g}"


@dataclass(frozen=True, slots=True)
class Within:
    """A domain of numbers, for `Annotated[float, Within(0, 1)]`; both ends belong to it.

    Args:
        low: the least.
        high: the most; infinite for "no most".
        is_open: whether `low` itself is outside.
    """

    low: float
    high: float = math.inf
    is_open: bool = False

    def has(self, number: float) -> bool:
        """Whether a number is in it; NaN is in none."""
        return (self.low < number if self.is_open else self.low <= number) and number <= self.high

    def __str__(self) -> str:
        least = f"above {self.low:g}" if self.is_open else f"at least {self.low:g}"
        return least if math.isinf(self.high) else f"{least} and at most {self.high:g}"


POSITIVE: Final = Within(0, is_open=True)


def seconds_of(value: Any) -> float | None:
    """The seconds of a duration; `None` where it is not one."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value) if math.isfinite(value) and value >= 0 else None
    if not isinstance(value, str) or not value:
        return None
    total, end = 0.0, 0
    for part in _PART.finditer(value):
        if part.start() != end:
            return None
        total += float(part[1]) * _SECONDS[part[2]]
        end = part.end()
    return total if end == len(value) else None


def bytes_of(value: Any) -> int | None:
    """The bytes of a size; `None` where it is not one."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if value >= 0 else None
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    return round(float(found[1]) * _BYTES[found[2]]) if found else None


def automatic_of(value: Any) -> Automatic | None:
    """The automatic limit that a text names; `None` where it is not one."""
    if isinstance(value, Automatic):
        return value
    found = _AUTOMATIC.fullmatch(value) if isinstance(value, str) else None
    if found is None or (found[1] and float(found[1]) <= 1):
        return None
    return Automatic(float(found[1])) if found[1] else Automatic()


def duration_text(seconds: float) -> str:
    """A duration as a configuration writes it: the largest unit that leaves a whole number."""
    for unit in ("d", "h", "m", "s"):
        count = seconds / _SECONDS[unit]
        if seconds and count == int(count):
            return f"{int(count)}{unit}"
    return f"{seconds:g}s"
