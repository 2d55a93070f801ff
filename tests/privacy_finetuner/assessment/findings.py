"""Findings whose every number follows from the others, for tests of whoever reads them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from privacy_core.auditing import EpsilonBound, Method, Ranks, ceiling, judge
from privacy_core.auditing.bounds import GAUSSIAN_SHAPE
from privacy_core.auditing.recount import recounted
from privacy_core.auditing.verdicts import AuditFinding

CANARIES = 1000


def a_finding(
    correct: int,
    *,
    theory: float,
    guesses: int = 200,
    cost: float | None = None,
    delta: float = 1e-5,
    is_gaussian: bool = False,
) -> AuditFinding:
    """An audit of 1000 canaries with guesses named beforehand, of which `correct` are right.

    At delta 1e-5, of 200 guesses 105 right ones certify nothing, 160 certify 1.09, 180 certify
    1.80, all 200 certify 4.17; an ideal attacker gets 1.35 of epsilon 4.

    Args:
        correct: right guesses.
        theory: the claim that it is held against.
        guesses: half of them "in", half of them "out".
        cost: the epsilon that the ceiling is of; default: the claim.
        delta: of bound and ceiling.
        is_gaussian: by the f-DP method, against claims of Gaussian shape.
    """
    method = Method.F_DP if is_gaussian else Method.ONE_RUN
    choice = Ranks(k_in=guesses // 2, k_out=guesses // 2)
    counted = EpsilonBound(
        method=method,
        epsilon=0.0,
        delta=delta,
        confidence=0.95,
        canaries=CANARIES,
        counted=CANARIES,
        guesses=guesses,
        correct=correct,
        choice=choice,
        assumes=(GAUSSIAN_SHAPE,) if is_gaussian else (),
        delta_floor=0.1 * delta if is_gaussian else 0.0,
    )
    epsilon, mu = recounted(counted)
    limit = ceiling(
        theory if cost is None else cost, delta, CANARIES, method=method, choice=choice, trials=10
    )
    return judge(
        replace(counted, epsilon=epsilon, mu=mu),
        theory=theory,
        theory_gaussian=theory,
        ceiling=limit,
    )


def written(finding: AuditFinding) -> dict[str, Any]:
    """As it stands in an audit's JSON."""
    found: dict[str, Any] = json.loads(finding.to_json())
    return found
