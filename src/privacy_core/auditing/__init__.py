"""Audits of privacy claims: scores, rates, lower bounds on epsilon, and what they could have found.

>>> import numpy as np
>>> included = np.arange(1000) % 2 == 0
>>> bound = one_run_epsilon(included.astype(float), included, delta=1e-5)  # a perfect attack
>>> round(bound.epsilon, 1)
4.3
"""

from __future__ import annotations

from privacy_core.auditing.blind import BlindBaseline, blind_baseline
from privacy_core.auditing.bounds import (
    EpsilonBound,
    Method,
    Shape,
    clopper_pearson_epsilon,
    gaussian_estimate,
    one_run_epsilon,
    one_run_f_dp_epsilon,
)
from privacy_core.auditing.canaries import CoinPlan, StepScores, step_log_likelihood_ratio
from privacy_core.auditing.ceilings import (
    Ceiling,
    ceiling,
    simulated_again,
    white_box_ceiling,
)
from privacy_core.auditing.exposure import (
    Exposure,
    exposure,
    extrapolated_exposure,
    sampled_exposure,
)
from privacy_core.auditing.guesses import Bonferroni, Choice, NamedThreshold, Ranks, Split
from privacy_core.auditing.rates import (
    Interval,
    TruePositives,
    auc,
    bootstrap,
    clopper_pearson,
    difference_of_shares,
    paired_difference,
    tpr_at_fpr,
)
from privacy_core.auditing.step_laws import WhiteBox
from privacy_core.auditing.verdicts import AuditFinding, Verdict, judge

__all__ = [
    "AuditFinding",
    "BlindBaseline",
    "Bonferroni",
    "Ceiling",
    "Choice",
    "CoinPlan",
    "EpsilonBound",
    "Exposure",
    "Interval",
    "Method",
    "NamedThreshold",
    "Ranks",
    "Shape",
    "Split",
    "StepScores",
    "TruePositives",
    "Verdict",
    "WhiteBox",
    "auc",
    "blind_baseline",
    "bootstrap",
    "ceiling",
    "clopper_pearson",
    "clopper_pearson_epsilon",
    "difference_of_shares",
    "exposure",
    "extrapolated_exposure",
    "gaussian_estimate",
    "judge",
    "one_run_epsilon",
    "one_run_f_dp_epsilon",
    "paired_difference",
    "sampled_exposure",
    "simulated_again",
    "step_log_likelihood_ratio",
    "tpr_at_fpr",
    "white_box_ceiling",
]
