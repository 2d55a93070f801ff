"""What an audit says about a claim, in three words and one honest sentence.

=================  ==============================================================================
`VIOLATION`        the certified lower bound is above the claimed epsilon
`INCONCLUSIVE`     it is not, and an ideal attacker would have certified less than a quarter of it
`CONSISTENT`       it is not, although the audit could have certified a quarter of it or more
=================  ==============================================================================

No audit shows that a claim is true. A run with a violation has a bug, or an audit that broke its
own rules, except in at most one of twenty honest runs (at 95 %).
"""

from __future__ import annotations

import dataclasses
import json
import math
import operator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self

from privacy_core.auditing.bounds import GAUSSIAN_SHAPE, EpsilonBound, Method
from privacy_core.auditing.ceilings import Ceiling
from privacy_core.auditing.guesses import choice_from_json, choice_to_json
from privacy_core.auditing.recount import require_counted
from privacy_core.auditing.step_laws import WhiteBox
from privacy_core.errors import InvalidParameter

ENOUGH: Final = 0.25
"""The share of the claim that the ceiling must reach for an audit to mean anything."""

_VERSION: Final = 2


class Verdict(StrEnum):
    """What the audit found."""

    VIOLATION = "violation"
    CONSISTENT = "consistent"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFinding:
    """One bound, the claim that it was held against, and what could have been found.

    `theory` is the claim that was compared: the accountant's epsilon at the bound's delta, or for a
    bound of Gaussian shape the price of the dominating Gaussian.
    """

    verdict: Verdict
    bound: EpsilonBound
    theory: float
    ceiling: Ceiling

    @property
    def text(self) -> str:
        """The finding in words."""
        found, claim = self.bound, f"{self.theory:.3g}"
        least = (
            f"With {100 * found.confidence:.3g}% confidence epsilon is at least "
            f"{found.epsilon:.3g} at delta {found.delta:.3g} ({found.canaries} canaries, "
            f"{found.correct} of {found.guesses} guesses right"
            + (f"; if {' and '.join(found.assumes)})." if found.assumes else ").")
        )
        most = (
            f"An ideal attacker with as many canaries would have certified "
            f"{self.ceiling.expected:.2f} on average (simulated, +- "
            f"{self.ceiling.standard_error:.2f})."
        )
        match self.verdict:
            case Verdict.VIOLATION:
                end = f"The claim of epsilon {claim} is refuted."
            case Verdict.CONSISTENT:
                end = (
                    f"This is consistent with the claim of epsilon {claim}; it does not show that "
                    "the claim is true."
                )
            case Verdict.INCONCLUSIVE if math.isinf(self.theory):
                end = "Nothing was claimed, so nothing can be refuted."
            case Verdict.INCONCLUSIVE:
                end = (
                    f"That is less than a quarter of the claimed {claim}: an audit of this size "
                    "cannot speak about the claim. Use more canaries or a stronger score."
                )
        return f"{least} {most} {end}"

    def to_json(self) -> str:
        """The finding as JSON with sorted keys; an infinite number is the string "inf"."""
        data = {
            "version": _VERSION,
            "verdict": self.verdict.value,
            "theory": _number(self.theory),
            "bound": _plain(self.bound),
            "ceiling": _plain(self.ceiling),
            "text": self.text,
        }
        return json.dumps(data, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote, count the bound again from its guesses, and judge it again.

        The ceiling is taken as written: `ceilings.simulated_again` repeats its simulation.

        Raises:
            InvalidParameter: it is not a finding of this version, its bound is not what its counts
                come to, its verdict or its text are not those of its numbers, or bound and ceiling
                are of different audits.
        """
        expected = f"an audit finding of version {_VERSION}"
        try:
            data = json.loads(text)
            if data["version"] != _VERSION:
                raise InvalidParameter("finding", found=data["version"], expected=expected)
            bound = EpsilonBound(**_read(data["bound"]))
            limit = Ceiling(**_read(data["ceiling"]))
            theory, verdict = _claim(data["theory"]), Verdict(data["verdict"])
            require_counted(bound)
            _require_alike(bound, limit)
            finding = cls(verdict=verdict, bound=bound, theory=theory, ceiling=limit)
            follows = _verdict(bound, theory, limit) is verdict and data["text"] == finding.text
        except (ValueError, TypeError, KeyError) as error:
            if isinstance(error, InvalidParameter):
                raise
            raise InvalidParameter("finding", found="no such JSON", expected=expected) from error
        if not follows:
            raise InvalidParameter(
                "finding", found="a verdict that does not follow", expected="that of its numbers"
            )
        return finding


def judge(
    bound: EpsilonBound,
    *,
    theory: float,
    ceiling: Ceiling,
    theory_gaussian: float | None = None,
) -> AuditFinding:
    """Hold a bound against the claim.

    Args:
        bound: from `one_run_epsilon` or `one_run_f_dp_epsilon`; Clopper-Pearson's only if every
            row was a training run of its own.
        theory: the accountant's epsilon at the bound's delta, for adding or removing one example;
            inf where nothing was claimed.
        ceiling: of the same method, number of canaries, delta and confidence.
        theory_gaussian: `accounting.gdp_epsilon_bound` of the run; needed for a bound of Gaussian
            shape, which may lie above `theory` in an honest run that is not Gaussian.

    Raises:
        InvalidParameter: the bound is an estimate, the ceiling is that of another audit, or
            `theory_gaussian` is missing. Nothing was judged.
    """
    _require_alike(bound, ceiling)
    claim = _claim(theory)
    if GAUSSIAN_SHAPE in bound.assumes:
        if theory_gaussian is None:
            raise InvalidParameter(
                "theory_gaussian",
                found=None,
                expected="the price of the dominating Gaussian (accounting.gdp_epsilon_bound), "
                "since the bound is of Gaussian shape",
            )
        claim = _claim(theory_gaussian)
    verdict = _verdict(bound, claim, ceiling)
    return AuditFinding(verdict=verdict, bound=bound, theory=claim, ceiling=ceiling)


def _claim(value: Any) -> float:
    """A claim as a number: nan is none, since nothing is above it and everything "consistent"."""
    claim = math.inf if value == "inf" else value
    is_number = isinstance(claim, int | float) and not isinstance(claim, bool)
    if not is_number or not claim >= 0:
        raise InvalidParameter("theory", found=value, expected="a number >= 0 or inf")
    return float(claim)


def _require_alike(bound: EpsilonBound, ceiling: Ceiling) -> None:
    """Refuse an estimate, and the ceiling of another audit."""
    if not bound.is_certified:
        raise InvalidParameter(
            "bound", found=bound.method.value, expected="a bound: an estimate has no verdict"
        )
    for name in ("method", "delta", "canaries", "confidence", "choice"):
        if getattr(ceiling, name) != getattr(bound, name):
            raise InvalidParameter(
                f"ceiling.{name}", found=getattr(ceiling, name), expected=getattr(bound, name)
            )


def _verdict(bound: EpsilonBound, theory: float, ceiling: Ceiling) -> Verdict:
    if bound.epsilon > theory:
        return Verdict.VIOLATION
    if math.isinf(theory) or ceiling.expected < ENOUGH * theory:
        return Verdict.INCONCLUSIVE
    return Verdict.CONSISTENT


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else "inf"


def _plain(value: EpsilonBound | Ceiling) -> dict[str, Any]:
    return {
        **_numbers(dataclasses.asdict(value)),
        "choice": choice_to_json(value.choice),
    }


def _numbers(data: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _numbers(item)
        if isinstance(item, dict)
        else _number(item)
        if isinstance(item, float)
        else item
        for name, item in data.items()
    }


def _read(data: dict[str, Any]) -> dict[str, Any]:
    """The fields of a bound or a ceiling. What is no number of the right kind is refused."""
    fields: dict[str, Any] = {k: math.inf if v == "inf" else v for k, v in data.items()}
    fields["method"] = Method(fields["method"])
    fields["choice"] = choice_from_json(fields["choice"])
    for name in ("canaries", "counted", "guesses", "correct", "trials", "seed"):
        if name in fields and (isinstance(fields[name], bool) or not isinstance(fields[name], int)):
            raise InvalidParameter(name, found=type(fields[name]).__name__, expected="a count")
    if "assumes" in fields:
        fields["assumes"] = tuple(fields["assumes"])
    if fields.get("counts") is not None:
        true, members, false, others = (operator.index(count) for count in fields["counts"])
        fields["counts"] = (true, members, false, others)
    if fields.get("run") is not None:
        watched: dict[str, Any] = dict(fields["run"])
        if watched.get("epsilon") == "inf":
            watched["epsilon"] = math.inf
        fields["run"] = WhiteBox(**watched)
    return fields
