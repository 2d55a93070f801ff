"""Membership scores: how much a text looks like one that the model was trained on.

Every score is larger for a text that is more likely a member. They are computed from arrays, so
this module knows no model: `privacy_finetuner.assessment.attacks` measures, this one scores.

=================  ===========================================  ==================================
score              needs                                        source
=================  ===========================================  ==================================
`loss`             log-probabilities of the tokens              Yeom et al. 2018 (1709.01604)
`zlib_ratio`       and the compressed sizes                     Carlini et al. 2021 (2012.07805)
`min_k`            log-probabilities of the tokens              Shi et al. 2024 (2310.16789)
`min_k_plus_plus`  and their mean and deviation under the model Zhang et al. 2025 (2404.02936)
`reference_ratio`  another model that did not see the texts     Carlini et al. 2021 (2012.07805)
`rmia`             k reference models, a population             Zarifzadeh et al. 2024 (2312.03262)
`lira_online`      shadow models with and without each text     Carlini et al. 2022 (2112.03570)
`lira_offline`     shadow models without the texts              Carlini et al. 2022 (2112.03570)
=================  ===========================================  ==================================

A score that depends on private texts is itself private: it stays outside the guarantee.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy

from privacy_core.errors import InvalidParameter

Vector = npt.NDArray[np.float64]

MOST_SHADOWS_FOR_SHARED_VARIANCE: Final = 64
"""Below this many shadow models a side LiRA estimates one variance for all texts."""

_LEAST_DEVIATION: Final = 1e-8


def loss(log_probs: Sequence[Vector]) -> Vector:
    """Minus the loss: the mean log-probability of each text's tokens.

    Raises:
        InvalidParameter: a text has no token, or a log-probability is not finite.
    """
    return np.array([np.mean(_tokens(row)) for row in log_probs], dtype=np.float64)


def zlib_sizes(texts: Sequence[str]) -> Vector:
    """How many bytes zlib needs for each text: what is predictable without any model."""
    return np.array([len(zlib.compress(text.encode())) for text in texts], dtype=np.float64)


def zlib_ratio(log_probs: Sequence[Vector], sizes: Vector) -> Vector:
    """Total log-probability of each text, a byte of its compressed form.

    Args:
        log_probs: of the tokens, one vector a text.
        sizes: compressed sizes in bytes, > 0; see `zlib_sizes`.
    """
    bytes_each = _column("sizes", sizes, len(log_probs))
    if np.any(bytes_each <= 0):
        raise InvalidParameter("sizes", found=float(bytes_each.min()), expected="numbers > 0")
    totals = np.array([np.sum(_tokens(row)) for row in log_probs], dtype=np.float64)
    return totals / bytes_each


def min_k(log_probs: Sequence[Vector], fraction: float = 0.2) -> Vector:
    """Mean log-probability of the least likely `fraction` of each text's tokens, at least one."""
    return np.array([_lowest_mean(_tokens(row), fraction) for row in log_probs], dtype=np.float64)


def min_k_plus_plus(
    log_probs: Sequence[Vector],
    means: Sequence[Vector],
    deviations: Sequence[Vector],
    fraction: float = 0.2,
) -> Vector:
    """As `min_k`, each token standardised by the law of the log-probability at its position.

    Args:
        log_probs: log p(token | prefix).
        means: E[log p(z | prefix)] over z drawn from the model, of the same shapes.
        deviations: standard deviation of the same; raised to 1e-8 where the model is certain.
        fraction: of the tokens, in (0, 1].
    """
    if not len(log_probs) == len(means) == len(deviations):
        raise InvalidParameter(
            "means", found=(len(means), len(deviations)), expected=f"{len(log_probs)} vectors each"
        )
    found = []
    for row, mean, deviation in zip(log_probs, means, deviations, strict=True):
        tokens = _tokens(row)
        centre = _column("means", mean, len(tokens))
        spread = _column("deviations", deviation, len(tokens))
        standard = (tokens - centre) / np.maximum(spread, _LEAST_DEVIATION)
        found.append(_lowest_mean(standard, fraction))
    return np.array(found, dtype=np.float64)


def reference_ratio(target: Vector, reference: Vector) -> Vector:
    """Log of the likelihood ratio a token between the model and one that did not see the texts.

    For a fine-tuned model the base model is such a reference, free and usually the strongest of the
    cheap attacks.

    Args:
        target: mean log-probability of each text under the model.
        reference: the same under the reference.
    """
    tested = _column("target", target, None)
    return tested - _column("reference", reference, len(tested))


def rmia(
    target: Vector,
    population: Vector,
    references: Vector,
    population_references: Vector,
    *,
    offline_a: float = 0.3,
    gamma: float = 1.0,
) -> Vector:
    """The share of population texts z that a text beats by a likelihood-ratio of `gamma`.

    Offline: the references saw none of the texts, so Pr(x) is approximated from Pr_out(x) as
    ((1 + a) Pr_out + (1 - a)) / 2 as in the source, on probabilities in (0, 1]; here the
    probability of a text is its geometric mean a token.

    Args:
        target: mean log-probability of the n tested texts under the model, <= 0.
        population: of p texts that nobody trained on, under the model, <= 0.
        references: shape (k, n), under k >= 1 reference models.
        population_references: shape (k, p).
        offline_a: in [0, 1]; 0.3 for language models, 1 where references are as good as the model.
        gamma: >= 1; the source uses 1 to 2.

    Source: Zarifzadeh, Liu & Shokri 2024 (arXiv:2312.03262).
    """
    if not 0 <= offline_a <= 1:
        raise InvalidParameter("offline_a", found=offline_a, expected="a number in [0, 1]")
    if not 1 <= gamma < math.inf:
        raise InvalidParameter("gamma", found=gamma, expected="a number >= 1")
    tested, others = _column("target", target, None), _column("population", population, None)
    if len(others) == 0:
        raise InvalidParameter("population", found=0, expected="at least one text")
    in_text = tested - _log_average(_models("references", references, len(tested)), offline_a)
    in_population = others - _log_average(
        _models("population_references", population_references, len(others)), offline_a
    )
    beaten = np.searchsorted(np.sort(in_population), in_text - math.log(gamma), side="right")
    return np.asarray(beaten, dtype=np.float64) / len(others)


def lira_online(
    target: Vector, inside: Vector, outside: Vector, *, shared_variance: bool | None = None
) -> Vector:
    """Log likelihood ratio of two Gaussians: shadow models that saw the text, and that did not.

    Args:
        target: the statistic of each of n texts under the model, larger for members; for a
            classifier the logit-scaled confidence log(p / (1 - p)), for text minus the loss.
        inside: shape (k, n): under shadow models trained with the text; nan where it was not in.
        outside: shape (k', n): under shadow models trained without it; nan likewise.
        shared_variance: one variance for all texts; `None`: below 64 shadow models a side.

    Raises:
        InvalidParameter: a text has no shadow model on one side, or a single one on each side in
            total, so that no variance can be estimated.

    Source: Carlini et al. 2022 (arXiv:2112.03570), Algorithm 1, and its variance for few
    shadow models.
    """
    tested = _column("target", target, None)
    with_text = _gaussians("inside", inside, len(tested), shared_variance)
    without = _gaussians("outside", outside, len(tested), shared_variance)
    return _log_density(tested, *with_text) - _log_density(tested, *without)


def lira_offline(target: Vector, outside: Vector, *, shared_variance: bool | None = None) -> Vector:
    """How far each text is above what models that never saw it say: a one-sided z score.

    The source reports 1 - Pr[Z > target]; this is the same order, without its rounding to 1.
    Arguments and errors as in `lira_online`.

    Source: Carlini et al. 2022 (arXiv:2112.03570), the offline attack.
    """
    tested = _column("target", target, None)
    mean, deviation = _gaussians("outside", outside, len(tested), shared_variance)
    return (tested - mean) / deviation


def _tokens(row: Vector) -> Vector:
    values = np.asarray(row, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise InvalidParameter("log_probs", found=values.shape, expected="at least one token")
    if not np.all(np.isfinite(values)):
        raise InvalidParameter("log_probs", found="a number not finite", expected="finite numbers")
    return values


def _lowest_mean(values: Vector, fraction: float) -> float:
    if not 0 < fraction <= 1:
        raise InvalidParameter("fraction", found=fraction, expected="a number in (0, 1]")
    count = max(1, int(len(values) * fraction))
    return float(np.mean(np.partition(values, count - 1)[:count]))


def _column(name: str, values: Vector, length: int | None) -> Vector:
    column = np.asarray(values, dtype=np.float64)
    if column.ndim != 1 or (length is not None and len(column) != length):
        expected = "one number a text" if length is None else f"{length} numbers"
        raise InvalidParameter(name, found=column.shape, expected=expected)
    if not np.all(np.isfinite(column)):
        raise InvalidParameter(name, found="a number not finite", expected="finite numbers")
    return column


def _models(name: str, values: Vector, texts: int) -> Vector:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] < 1 or table.shape[1] != texts:
        raise InvalidParameter(name, found=table.shape, expected=f"shape (k >= 1, {texts})")
    if not np.all(np.isfinite(table)):
        raise InvalidParameter(name, found="a number not finite", expected="finite numbers")
    return table


def _log_average(references: Vector, offline_a: float) -> Vector:
    """Log of the approximated Pr(x), from log-probabilities of models that never saw x."""
    outside = scipy.special.logsumexp(references, axis=0) - math.log(len(references))
    with np.errstate(divide="ignore"):
        constant = np.log((1 - offline_a) / 2)
    found: Vector = np.logaddexp(outside + math.log((1 + offline_a) / 2), constant)
    return found


def _gaussians(
    name: str, values: Vector, texts: int, shared_variance: bool | None
) -> tuple[Vector, Vector]:
    """Mean and standard deviation of each text's statistic over the shadow models."""
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != texts:
        raise InvalidParameter(name, found=table.shape, expected=f"shape (k, {texts})")
    known = np.isfinite(table)
    counts = known.sum(axis=0)
    if texts and counts.min() < 1:
        raise InvalidParameter(
            name, found="a text without a shadow model", expected="at least one for each text"
        )
    filled = np.where(known, table, 0.0)
    mean = filled.sum(axis=0) / counts
    squares = (np.where(known, table - mean, 0.0) ** 2).sum(axis=0)
    few = texts > 0 and counts.min() < MOST_SHADOWS_FOR_SHARED_VARIANCE
    if few if shared_variance is None else shared_variance:
        freedom = int((counts - 1).sum())
        if freedom < 1:
            raise InvalidParameter(
                name, found="one shadow model a text", expected="two or more, for a variance"
            )
        variance = np.full(texts, squares.sum() / freedom)
    else:
        if counts.min() < 2:
            raise InvalidParameter(
                name, found=int(counts.min()), expected="two or more shadow models a text"
            )
        variance = squares / (counts - 1)
    return mean, np.maximum(np.sqrt(variance), _LEAST_DEVIATION)


def _log_density(values: Vector, mean: Vector, deviation: Vector) -> Vector:
    return -0.5 * ((values - mean) / deviation) ** 2 - np.log(deviation)
