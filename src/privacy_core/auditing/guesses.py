"""Which canaries the auditor guesses, and how that was decided before the answers were seen.

The auditor guesses "trained on" for the `k_in` highest scores and "left out" for the `k_out`
lowest, and abstains on the rest. A pair (k_in, k_out) picked after looking at the answers makes any
bound wrong, so how it is picked is a value that stands in the report:

============  =========================================================  =======================
choice        how                                                        what it costs
============  =========================================================  =======================
`Split`       a part of the canaries chooses, the other part is counted  the part that chooses
`Bonferroni`  every pair of a fixed list is tried on all canaries        level / length of list
`Ranks`       the pair is named beforehand                               nothing
============  =========================================================  =======================

Bounds that look at one threshold take a `Split`, or a `NamedThreshold`. A choice is a value that
can be written down (`choice_to_json`), so that whoever reads an audit can count it again.

Which canaries choose, and how ties are broken, comes from a public seed and never from the answers
or from the order of the rows.

Source: Steinke, Nasr & Jagielski 2023 (arXiv:2305.08846), Algorithm 1 (k+, k-).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy

from privacy_core.auditing.chance import Chance
from privacy_core.errors import InvalidParameter

Vector = npt.NDArray[np.float64]
Coins = npt.NDArray[np.bool_]

LEAST_CANARIES: Final = 20
_STEPS: Final = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """Guess the `k_in` highest scores as trained on and the `k_out` lowest as left out."""

    k_in: int
    k_out: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.k_in < 0 or self.k_out < 0 or self.k_in + self.k_out < 1:
            raise InvalidParameter(
                "ranks", found=(self.k_in, self.k_out), expected="two counts, not both zero"
            )

    def __str__(self) -> str:
        return (
            f"ranks named beforehand ({self.k_in} in, {self.k_out} out), ties by seed {self.seed}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A random `fraction` of the canaries chooses the pair; only the others are counted.

    `abstain_out` never guesses "left out" (k_out = 0), as the published audits do.
    """

    seed: int = 0
    fraction: float = 0.25
    abstain_out: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.fraction < 1:
            raise InvalidParameter("fraction", found=self.fraction, expected="a number in (0, 1)")

    def __str__(self) -> str:
        side = ", guesses of one side" if self.abstain_out else ""
        return f"split, {self.fraction:g} of the canaries choose (seed {self.seed}){side}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bonferroni:
    """Every pair (k, k), (k, 0), (0, k) for `steps` sizes k in geometric steps, on all canaries."""

    steps: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InvalidParameter("steps", found=self.steps, expected="a whole number >= 1")

    def __str__(self) -> str:
        return f"all pairs of {self.steps} sizes, level divided (ties by seed {self.seed})"


@dataclass(frozen=True, slots=True)
class NamedThreshold:
    """Scores of `value` or more are taken for trained on; named before the scores were seen."""

    value: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise InvalidParameter("threshold", found=self.value, expected="a finite number")

    def __str__(self) -> str:
        return f"threshold {self.value:g} named beforehand"


Choice: TypeAlias = Ranks | Split | Bonferroni
AnyChoice: TypeAlias = Choice | NamedThreshold

_KINDS: Final[Mapping[str, type[AnyChoice]]] = {
    "ranks": Ranks,
    "split": Split,
    "bonferroni": Bonferroni,
    "threshold": NamedThreshold,
}


def choice_to_json(choice: AnyChoice) -> dict[str, Any]:
    """A choice as JSON-ready data."""
    kind = next(name for name, made in _KINDS.items() if type(choice) is made)
    return {"kind": kind, **asdict(choice)}


def choice_from_json(data: Mapping[str, Any]) -> AnyChoice:
    """Read what `choice_to_json` wrote.

    Raises:
        InvalidParameter: it is no choice, or a field is missing, surplus or of another kind.
    """
    expected = f"a choice of kind {', '.join(_KINDS)}, with its own fields"
    fields = dict(data)
    made = _KINDS.get(str(fields.pop("kind", "")))
    usual = {} if made is None else {f.name: f.type for f in made.__dataclass_fields__.values()}
    kinds = {"int": int, "float": int | float, "bool": bool}
    if made is None or set(fields) != set(usual):
        raise InvalidParameter("choice", found="other fields", expected=expected)
    for name, value in fields.items():
        is_flag = usual[name] == "bool"
        if isinstance(value, bool) is not is_flag or not isinstance(value, kinds[str(usual[name])]):
            raise InvalidParameter(f"choice.{name}", found="another kind", expected=expected)
    return made(**fields)


@dataclass(frozen=True, slots=True)
class Tally:
    """What was counted: of `canaries` coins, `guesses` were guessed and `correct` guessed right.

    `level` is the share of the allowed error that this tally may use.
    """

    canaries: int
    guesses: int
    correct: int
    level: float = 1.0


def checked(scores: Vector, included: Coins) -> tuple[Vector, Coins]:
    """The two columns, as arrays of one length.

    Raises:
        InvalidParameter: fewer than 20 canaries, lengths differ, coins are not true or false, or a
            score is nan (a canary without a score must be left out of the plan, not of the audit).
    """
    values, coins = np.asarray(scores, dtype=np.float64), np.asarray(included)
    if coins.dtype != np.bool_:
        raise InvalidParameter("included", found=str(coins.dtype), expected="true or false each")
    if values.ndim != 1 or values.shape != coins.shape:
        raise InvalidParameter("scores", found=values.shape, expected=f"one a coin, {coins.shape}")
    if len(values) < LEAST_CANARIES:
        raise InvalidParameter(
            "canaries",
            found=len(values),
            expected=f"at least {LEAST_CANARIES}; nothing can be certified with fewer",
        )
    if np.any(np.isnan(values)):
        raise InvalidParameter("scores", found="a score that is nan", expected="numbers")
    return values, coins


def tallies(scores: Vector, included: Coins, choice: Choice) -> tuple[Tally, ...]:
    """What the auditor's guesses come to, under a choice that was made beforehand."""
    values, coins = checked(scores, included)
    order = Chance(choice.seed, purpose="auditing.guesses").permutation(len(values))
    values, coins = values[order], coins[order]
    match choice:
        case Ranks(k_in=k_in, k_out=k_out):
            return (_tally(values, coins, k_in, k_out),)
        case Split(fraction=fraction, abstain_out=abstain_out):
            first = cut(len(values), fraction)
            pair = _best_pair(values[:first], coins[:first], abstain_out=abstain_out)
            left = len(values) - first
            k_in, k_out = (min(max(round(k * left / first), int(k > 0)), left) for k in pair)
            return (_tally(values[first:], coins[first:], k_in, min(k_out, left - k_in)),)
        case Bonferroni(steps=steps):
            pairs = _pairs(_sizes(len(values), steps))
            return tuple(_tally(values, coins, a, b, 1 / len(pairs)) for a, b in pairs)


def hypotheses(choice: Choice, canaries: int) -> int:
    """How many tallies a choice makes of so many canaries: the error is divided among them."""
    if isinstance(choice, Bonferroni):
        return len(_pairs(_sizes(canaries, choice.steps)))
    return 1


def cut(canaries: int, fraction: float) -> int:
    """How many canaries choose; both parts keep at least one."""
    return min(max(1, round(canaries * fraction)), canaries - 1)


def _tally(values: Vector, coins: Coins, k_in: int, k_out: int, level: float = 1.0) -> Tally:
    if k_in + k_out > len(values):
        raise InvalidParameter(
            "ranks", found=k_in + k_out, expected=f"at most {len(values)} guesses"
        )
    ranked = coins[np.argsort(-values, kind="stable")]
    correct = int(ranked[:k_in].sum()) + int((~ranked[len(ranked) - k_out :]).sum())
    return Tally(len(values), k_in + k_out, correct, level)


def _sizes(canaries: int, steps: int) -> list[int]:
    """Sizes from the smallest that can reject anything at 95 % to half of the canaries."""
    most = max(1, canaries // 2)
    return sorted({round(k) for k in np.geomspace(min(5, most), most, steps)})


def _pairs(sizes: list[int]) -> list[tuple[int, int]]:
    return [pair for k in sizes for pair in ((k, k), (k, 0), (0, k))]


def _best_pair(values: Vector, coins: Coins, *, abstain_out: bool) -> tuple[int, int]:
    """The pair whose guesses are right with the highest one-sided 95 % limit."""
    ranked = coins[np.argsort(-values, kind="stable")]
    hits = np.concatenate([[0], np.cumsum(ranked)])
    misses = np.concatenate([[0], np.cumsum(~ranked[::-1])])
    most = max(1, len(values) // 2)
    sizes = sorted({round(k) for k in np.geomspace(1, most, _STEPS)})
    pairs = [(k, 0) for k in sizes] if abstain_out else _pairs(sizes)
    first, second = np.array(pairs).T
    correct, guesses = hits[first] + misses[second], first + second
    limit = scipy.special.betaincinv(np.maximum(correct, 1), guesses - correct + 1, 0.05)
    return pairs[int(np.argmax(np.where(correct > 0, limit, 0.0)))]
