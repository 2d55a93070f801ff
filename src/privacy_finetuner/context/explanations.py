"""Why each finding is replaced or left, in sentences."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final

from privacy_core.redaction.entities import ENTITIES
from privacy_core.redaction.findings import Finding
from privacy_core.redaction.operators import Operator
from privacy_core.redaction.policies import policy
from privacy_finetuner.context.results import Decision, RedactionReport, score_of
from privacy_finetuner.context.strategies import LEAKS

_WHAT: Final = {
    "low": "identifiers that are certain by themselves, and secrets",
    "medium": "certain identifiers and secrets, and what points at one person (names, phones, "
    "addresses, records, births)",
    "high": "certain identifiers and secrets, what points at one person, and what narrows the "
    "circle (places, dates, ages, organisations, sums)",
}


def explained(
    *,
    notes: Sequence[str],
    counting: Sequence[Finding],
    noticed: Sequence[Finding],
    preserved: Collection[str],
    level: str,
    threshold: float,
    choose: Callable[[Finding], Operator],
) -> RedactionReport:
    """Turn findings into decisions.

    Args:
        notes: what the detector could not look for.
        counting: what counts at `level`.
        noticed: what would count at the level `high`.
        preserved: labels that are left on purpose.
        level: what was asked for.
        threshold: the lowest score that counts at it.
        choose: the operator of a finding.
    """
    decisions = [_decision(each, preserved, level, choose) for each in counting]
    more = [f for f in noticed if not any(f.start < c.end and c.start < f.end for c in counting)]
    decisions += [_left(each, _reason_to_leave(each, level, threshold)) for each in more]
    decisions.sort(key=lambda each: each.finding.start)
    return RedactionReport(
        decisions=decisions,
        level=level,
        threshold=threshold,
        sensitivity_score=score_of(counting),
        policy=f"{level}: {_WHAT[level]}; from a probability of {threshold:g}",
        limits=[*notes, *_limits(decisions, level)],
    )


def _decision(
    found: Finding, preserved: Collection[str], level: str, choose: Callable[[Finding], Operator]
) -> Decision:
    if found.label in preserved:
        return _left(found, f"{found.label} is among the types to preserve")
    operator = choose(found)
    return Decision(
        finding=found,
        action="replace",
        reason=f"{found.label} counts from level {ENTITIES[found.label].level} on; "
        f"{_sureness(found)}",
        operator=operator.name,
        leaks=LEAKS.get(operator.name, ""),
    )


def _left(found: Finding, reason: str) -> Decision:
    return Decision(finding=found, action="leave", reason=reason, operator="", leaks="all of it")


def _reason_to_leave(found: Finding, level: str, threshold: float) -> str:
    if found.label not in policy(level).labels:
        need = ENTITIES[found.label].level
        return f"{found.label} counts from level {need} on, and {level} was asked for"
    return f"its probability, {found.score:.2f}, is below {threshold:g}"


def _sureness(found: Finding) -> str:
    why = f", because of {', '.join(found.evidence)}" if found.evidence else ""
    return f"rule {found.rule} is right {share(found.score)} of the time{why}"


def share(score: float) -> str:
    """A score for people. No rule is always right."""
    return "> 99 %" if score >= 0.995 else f"{100 * score:.0f} %"


def _limits(decisions: Sequence[Decision], level: str) -> list[str]:
    limits = ["what no rule or model noticed is not listed here, and would stay"]
    left = sum(each.action == "leave" for each in decisions)
    if left:
        limits.append(f"{left} of {len(decisions)} findings would stay in clear")
    if level != "high":
        limits.append(f"places, dates and ages stay at level {level}: together they can name one")
    used = {each.operator for each in decisions if each.operator}
    limits += [f"{name} leaves: {LEAKS[name]}" for name in sorted(used & set(LEAKS))]
    return limits
