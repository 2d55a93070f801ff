"""Rules over one run: what is public or released of it, in one look. Facts in, alerts out.

Each rule names its evidence, what it may look at and what looks the same and is harmless.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import NormalDist
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from privacy_core.errors import InvalidParameter
from privacy_finetuner.operations.alerts import Alert, Severity, ThreatType
from privacy_finetuner.operations.confidence import confidence
from privacy_finetuner.operations.evidence import alert_id
from privacy_finetuner.operations.figures import RunFigures
from privacy_finetuner.operations.quarantine import SourceDigest

NORM_TIMES: Final = 3.0
"""Clip norms that a noisy gradient may have where its noise is not told."""
NORM_STDS: Final = 4.0
FELL_STDS: Final = 2.0
RUN_TO_RUN: Final = 0.03
"""Standard deviation of a final accuracy between clean runs of one plan, beside the noise."""
OUTLIER_TIMES: Final = 3.0
SILOS_LEAST: Final = 4
_WARN, _HIGH, _FULL = 0.8, 0.9, 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedFact:
    """What verifying the newest sealed state of a series found; without a `code` it is intact."""

    series: str
    number: int
    code: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """All that the rules may look at of one run.

    Attributes:
        tenant, run: whose run, and its name.
        now: when it is looked at.
        figures: public or released figures.
        references: released accuracies of earlier runs of the same plan, with their noise.
        updates: by silo, what it sent for one round: clipped and noised where the silo is.
        source: the records' digest, registered and found.
        sealed: the newest sealed states.
    """

    tenant: str
    run: str
    now: datetime
    figures: RunFigures = field(default_factory=RunFigures)
    references: Sequence[tuple[float, float]] = ()
    updates: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    source: SourceDigest | None = None
    sealed: Sequence[SealedFact] = ()
    about: Mapping[str, str] = field(default_factory=dict)


Rule: TypeAlias = Callable[[RunFacts], Iterable[Alert]]


def judged_run(facts: RunFacts) -> list[Alert]:
    """Every alert that the facts give, the worst first."""
    found = [alert for rule in RUN_RULES for alert in rule(facts)]
    return sorted(found, key=lambda each: (-each.severity.rank, each.id))


def run_budget(facts: RunFacts) -> Iterable[Alert]:
    """Four fifths of the run's epsilon are spent; high from nine tenths on.

    Evidence: the ledger's or the plan's own numbers. Harmless: a plan near its end. A fact.
    """
    used, total = facts.figures.epsilon_used, facts.figures.epsilon_total
    if used is None or total is None or total <= 0 or used / total < _WARN:
        return
    share = used / total
    level = Severity.HIGH if share >= _HIGH else Severity.MEDIUM
    level = Severity.CRITICAL if share >= _FULL else level
    yield _alert(
        facts,
        "run_budget",
        level.value,
        ThreatType.PRIVACY_BUDGET_EXHAUSTION,
        level,
        f"{share:.0%} of the run's epsilon of {total:g} is spent",
        {"epsilon_used": used, "epsilon_total": total},
        (
            "Let the plan end: it was priced before the first step and cannot pass its epsilon",
            "For more steps or more noise, make a new plan; a run's noise is never changed",
        ),
    )


def gradient_strength(figures: RunFigures) -> float | None:
    """The gradient's norm in what clipping and its noise admit; None where it was not given."""
    if figures.gradient_norm is None:
        return None
    clip_norm = 1.0 if figures.clip_norm is None else figures.clip_norm
    std = figures.gradient_norm_std
    most = NORM_TIMES * clip_norm if std is None else clip_norm + NORM_STDS * std
    return figures.gradient_norm / most if most > 0 else None


def gradient_bound(facts: RunFacts) -> Iterable[Alert]:
    """A gradient's norm is above what clipping and its noise admit.

    Evidence: the released norm; the clip norm (1.0 unless given). Harmless: a norm that was taken
    before clipping, which should not have been passed; very small batches, whose noise is large.
    """
    strength = gradient_strength(facts.figures)
    if strength is None or strength < 1:
        return
    norm = facts.figures.gradient_norm
    yield _alert(
        facts,
        "gradient_bound",
        "",
        ThreatType.DATA_POISONING,
        Severity.HIGH,
        f"the gradient's norm {norm:.3g} is {strength:.1f} times what clipping admits",
        {"gradient_norm": norm, "clip_norm": facts.figures.clip_norm or 1.0},
        (
            "Check that clipping is on, and that the figure was released and not taken before it",
            "Look at where the newest records or updates came from",
        ),
        strength=strength,
    )


def fall_stds(facts: RunFacts) -> float | None:
    """How far the accuracy lies below earlier runs', in standard deviations; None: unknown."""
    accuracy, std = facts.figures.accuracy, facts.figures.accuracy_std
    if accuracy is None or not facts.references:
        return None
    count = len(facts.references)
    mean = sum(value for value, _ in facts.references) / count
    noise = sum(each**2 for _, each in facts.references) / count**2
    if std is None:  # the callback's logs do not say: the same plan has the same noise
        std = max(each for _, each in facts.references)
    spread = math.sqrt(std**2 + noise + RUN_TO_RUN**2 * (1 + 1 / count))
    return (mean - accuracy) / spread


def scores_fell(facts: RunFacts) -> Iterable[Alert]:
    """The released accuracy lies two standard deviations below that of earlier runs of the plan.

    Evidence: noisy releases that were paid for, and their noise. Flipped labels and poisoned
    records look like this; so do harder records, which are harmless: compare the sources. The
    confidence is the share of honest runs that would lie above, by the noise's own distribution: at
    the threshold, one honest run in 44 lies below.
    """
    stds = fall_stds(facts)
    if stds is None or stds < FELL_STDS:
        return
    yield _alert(
        facts,
        "scores_fell",
        "",
        ThreatType.DATA_POISONING,
        Severity.HIGH,
        f"the released accuracy lies {stds:.1f} standard deviations below that of "
        f"{len(facts.references)} earlier runs of this plan",
        {"accuracy": facts.figures.accuracy, "standard_deviations": round(stds, 2)},
        (
            "Compare the records' source with the one of the earlier runs",
            "Do not promote the model before somebody has read a sample of the new records",
        ),
        sure=NormalDist().cdf(stds),
    )


def outlier_strengths(updates: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    """How far each update lies from the middle of all, in thrice the usual distance.

    The middle is the median of each coordinate and the usual distance the median of the distances
    to it, so fewer than half of the silos cannot move either.

    Raises:
        InvalidParameter: the updates have several lengths, or are not finite.

    Source: Yin et al. 2018 (arXiv:1803.01498), coordinate-wise median.
    """
    if len(updates) < SILOS_LEAST:
        return {}
    arrays = [np.asarray(update, dtype=np.float64).ravel() for update in updates.values()]
    if len({array.shape for array in arrays}) > 1:
        raise InvalidParameter("updates", found="several lengths", expected="one length")
    sent_SP = np.stack(arrays)  # S silos, P parameters
    if not np.isfinite(sent_SP).all():
        raise InvalidParameter("updates", found="NaN or infinite", expected="finite numbers")
    distances_S = np.linalg.norm(sent_SP - np.median(sent_SP, axis=0), axis=1)
    usual = float(np.median(distances_S))
    if usual == 0:
        return {silo: 0.0 for silo in updates}
    return {
        silo: float(distance) / (OUTLIER_TIMES * usual)
        for silo, distance in zip(updates, distances_S, strict=True)
    }


def silo_outlier(facts: RunFacts) -> Iterable[Alert]:
    """One silo's update lies thrice as far from the middle as the median silo's.

    Evidence: updates as they arrive: clipped and noised where the silo is, so released. Harmless: a
    silo with other patients than the rest.
    """
    for silo, strength in outlier_strengths(facts.updates).items():
        if strength < 1:
            continue
        yield _alert(
            facts,
            "silo_outlier",
            silo,
            ThreatType.DATA_POISONING,
            Severity.HIGH,
            f"one silo's update lies {OUTLIER_TIMES * strength:.1f} times as far from the middle "
            "as the median silo's",
            {"silo": silo, "strength": round(strength, 2), "silos": len(facts.updates)},
            ("Leave the silo out of this round", "Ask it for the digest of its records"),
            strength=strength,
        )


def source_changed(facts: RunFacts) -> Iterable[Alert]:
    """A source of records is not the file that was registered under its name.

    Evidence: two digests. Harmless: a new export; then its owner accepts it. A fact.
    """
    source = facts.source
    if source is None or not source.is_changed:
        return
    yield _alert(
        facts,
        "source_changed",
        source.found,
        ThreatType.DATA_POISONING,
        Severity.HIGH,
        "a source of records is not the file that was registered under its name",
        {"source": source.name, "registered": source.registered[:12], "found": source.found[:12]},
        (
            "Ask who answers for the source whether it was changed on purpose",
            "If it was, accept the new digest; if not, restore the old file",
        ),
    )


def sealed_state(facts: RunFacts) -> Iterable[Alert]:
    """The newest sealed state of a run is not what was sealed: changed, cut, mixed or wound back.

    Evidence: signature, digests and the journal's memory of the newest. Harmless: a broken disk. A
    fact.
    """
    for sealed in facts.sealed:
        if sealed.code is None:
            continue
        yield _alert(
            facts,
            "sealed_state",
            f"{sealed.series}/{sealed.number}/{sealed.code}",
            ThreatType.TAMPERING,
            Severity.CRITICAL,
            f"the newest sealed state of a run does not verify ({sealed.code})",
            {"series": sealed.series, "number": sealed.number, "code": sealed.code},
            (
                "Keep the store as it is, and restore from a replica that verifies",
                "Look at who can write to the store",
            ),
        )


RUN_RULES: Final[tuple[Rule, ...]] = (
    run_budget,
    gradient_bound,
    scores_fell,
    silo_outlier,
    source_changed,
    sealed_state,
)


def _alert(  # noqa: PLR0913  # what an alert consists of
    facts: RunFacts,
    rule: str,
    topic: str,
    threat_type: ThreatType,
    severity: Severity,
    description: str,
    evidence: Mapping[str, Any],
    actions: tuple[str, ...],
    *,
    strength: float = 1.0,
    sure: float | None = None,
    about: Mapping[str, str] | None = None,
) -> Alert:
    return Alert(
        id=alert_id(rule, facts.tenant, facts.run, topic),
        tenant=facts.tenant,
        rule=rule,
        threat_type=threat_type,
        severity=severity,
        description=description,
        at=facts.now,
        evidence=(evidence,),
        count=1,
        recommended_actions=actions,
        confidence=confidence(rule, strength) if sure is None else sure,
        about={"run": facts.run, **facts.about, **_known(facts), **(about or {})},
    )


def _known(facts: RunFacts) -> dict[str, str]:
    """What responses may need: the records' digest, and what a new plan could spend."""
    used, total = facts.figures.epsilon_used, facts.figures.epsilon_total
    source = {} if facts.source is None else {"sha256": facts.source.found}
    if used is None or total is None:
        return source
    return {**source, "epsilon_left": repr(max(0.0, total - used))}
