"""What a configuration may hold, and the words in which a value is refused.

Each check returns `None`, or one fault: what was found and what was expected.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Final

from privacy_finetuner.errors import ConfigurationError

OPTIMIZERS: Final = (
    "adamw", "adambc", "sgd", "adam", "adafactor", "adadelta", "adagrad", "adamax", "asgd",
    "muon", "nadam", "radam", "rmsprop", "rprop",
)  # fmt: skip
GRAD_NORM_LEAST: Final = 1e-8
"""An adaptive bound may fall to a ten-thousandth of it; below that, float32 squares are zero."""
AVERAGES: Final = ("auto", "none", "ema", "polynomial")
SCHEDULES: Final = ("constant", "linear", "cosine")
ADAPTERS: Final = ("lora", "dora", "ia3", "prompt", "biases", "head", "last_layers")
AUDIT_KINDS: Final = ("random-token", "new-token", "synthetic")
AUDIT_SCORES: Final = ("black-box", "white-box")
NOISES: Final = ("auto", "independent", "banded", "blt", "lambda_cgd")


def at_least(name: str, value: float, least: float) -> str | None:
    """A finite number, `least` or more."""
    if _is_number(value) and least <= value < math.inf:
        return None
    return f"{name} is {value!r}, expected a finite number >= {least:g}"


def above_zero(name: str, value: float) -> str | None:
    """A finite number above zero."""
    if _is_number(value) and 0 < value < math.inf:
        return None
    return f"{name} is {value!r}, expected a finite number > 0"


def rate(name: str, value: float | str) -> str | None:
    """`auto`, or a finite number above zero."""
    if isinstance(value, str):
        return None if value == "auto" else f"{name} is {value!r}, expected 'auto' or a number > 0"
    return above_zero(name, value)


def inside_zero_one(name: str, value: float) -> str | None:
    """A number above 0 and below 1."""
    if _is_number(value) and 0 < value < 1:
        return None
    return f"{name} is {value!r}, expected a number above 0 and below 1"


def whole_from(name: str, value: int, least: int) -> str | None:
    """A whole number, not below `least`."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return None
    return f"{name} is {value!r}, expected a whole number >= {least}"


def one_of(name: str, value: str, known: tuple[str, ...]) -> str | None:
    """One of the known names."""
    return None if value in known else f"{name} is {value!r}, expected one of {', '.join(known)}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def given(check: Callable[[str, float], str | None], name: str, value: float | None) -> str | None:
    """What `check` asks for, unless the value was left open."""
    return None if value is None else check(name, value)


def raise_if_any(faults: Iterable[str | None]) -> None:
    """Raise one `ConfigurationError` for all faults; `None` is no fault."""
    found = [fault for fault in faults if fault is not None]
    if found:
        raise ConfigurationError("; ".join(found) + "; nothing was started")


def zeroth_order_faults(
    *,
    gradient: str,
    optimizer: str,
    learning_rate: float | str,
    weight_average: str,
    user_sampling: bool,
) -> list[str | None]:
    """What gradient `forward` cannot be combined with, each with its reason."""
    if gradient != "forward":
        return []
    return [
        None
        if optimizer == "sgd"
        else f"optimizer is {optimizer!r}, expected 'sgd' without options with gradient 'forward': "
        "moments along directions that are drawn anew would mean nothing",
        None
        if weight_average in ("auto", "none")
        else f"weight_average is {weight_average!r}, expected 'none' with gradient 'forward': it "
        "would keep a second copy of the weights",
        "learning_rate is 'auto', expected a number with gradient 'forward': it has no rule yet"
        if learning_rate == "auto"
        else None,
        "user_sampling is not there with gradient 'forward'" if user_sampling else None,
    ]
