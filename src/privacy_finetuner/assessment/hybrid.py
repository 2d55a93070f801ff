"""Several privacy techniques on one tensor, each with its own guarantee, stated apart.

Weights divide the *budget* among the techniques that spend. They never average guarantees: a sum
that was encrypted on the way and has noise of epsilon 1 is encrypted on the way, and is epsilon 1.

===============  =================================  ============================================
technique        on updates (a row a contributor)   on a table (a row a person)
===============  =================================  ============================================
`dp`             rows clipped in L2, summed, with   noise on the centroids of groups
                 Gaussian noise
`k_anonymity`    released only if a noisy count     rows replaced by the centroid of their group
                 says that k contributed            of k neighbours
`homomorphic`    summed as CKKS ciphertexts         refused: rows are not summed
===============  =================================  ============================================

Which leaves, alone: `k_anonymity` an exact sum or exact centroids, `homomorphic` an exact sum:
neither has a differential guarantee, and the result says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from privacy_core.accounting import epsilon_of
from privacy_core.accounting.shares import epsilon_shares
from privacy_core.dp_events import Composed, DpEvent, NonPrivate, NoOp
from privacy_core.errors import PrivacyError
from privacy_core.guarantee import Guarantee, NeighbouringRelation
from privacy_core.mechanisms import Count, GaussianMechanism, gaussian_sigma
from privacy_core.mechanisms.microaggregation import Microaggregation
from privacy_finetuner.assessment.homomorphic import ERROR, encrypted_sum
from privacy_finetuner.errors import ConfigurationError
from privacy_runtime.world import Entropy

Numbers = NDArray[np.float64]

TECHNIQUES: Final = ("dp", "k_anonymity", "homomorphic")
_SPENDING: Final = ("dp", "k_anonymity")
FALSE_RELEASE: Final = 1e-3
"""Chance that a sum of fewer than k contributors passes the noisy count."""

# Norms are taken in float64; what clipping leaves above its bound is far below this.
_ROUNDING: Final = 1e-9


class Kind(StrEnum):
    """What the rows of a tensor are."""

    UPDATES = "updates"
    TABLE = "table"


class TooFewContributors(PrivacyError):
    """The count, noisy or exact, does not show that k contributed. Nothing of the sum was released.

    With a noisy count, its share of the budget is spent: charge `event`, which the refusal cost.

    Attributes:
        event: what was done to the data: the noisy count; `NonPrivate` where the refusal tells an
            exact count; `NoOp` where it tells what is public anyway, the size of a table.
        relation: that the event is priced under.
    """

    code: ClassVar[str] = "too_few_contributors"

    def __init__(self, words: str, *, event: DpEvent, relation: NeighbouringRelation) -> None:
        super().__init__(words)
        self.event = event
        self.relation = relation


@dataclass(frozen=True, slots=True)
class TechniqueGuarantee:
    """What one technique promises, in words, and its share of the budget (0: it spends none)."""

    technique: str
    promise: str
    epsilon: float


@dataclass(frozen=True, slots=True)
class HybridPrivacyResult:
    """What came out, and what may be said of it.

    Attributes:
        protected_data: for updates the sum [D]; for a table [N, D], rows in the order of groups.
        guarantees: one for each technique that was asked for.
        guarantee: of the whole release, or `None` where nothing differential was asked for.
        event: what was done to the data, for a ledger; `NonPrivate`, which costs infinity, where
            something exact came out.
    """

    protected_data: Tensor
    guarantees: tuple[TechniqueGuarantee, ...]
    guarantee: Guarantee | None
    event: DpEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class HybridSettings:
    """The public numbers of a hybrid mechanism.

    Attributes:
        epsilon: of the whole release.
        delta: of its Gaussian noise.
        kind: what the rows are.
        clip_norm: bound on an update's L2 norm.
        minimum_contributors: k of `k_anonymity`; on a table at least the root of the rows, which is
            taken where it is larger.
        bounds: least and largest value of each column of a table. Public.
    """

    epsilon: float = 1.0
    delta: float = 1e-5
    kind: Kind = Kind.UPDATES
    clip_norm: float = 1.0
    minimum_contributors: int = 5
    bounds: tuple[Sequence[float], Sequence[float]] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", Kind(self.kind))
        if not 0 < self.clip_norm < math.inf:
            raise ConfigurationError(f"clip_norm is {self.clip_norm}, expected a number > 0")
        if self.minimum_contributors < 1:
            raise ConfigurationError(
                f"minimum_contributors is {self.minimum_contributors}, expected at least 1"
            )


def apply_techniques(
    data: Tensor,
    techniques: Sequence[str],
    weights: Sequence[float] | None,
    settings: HybridSettings,
    entropy: Entropy,
) -> HybridPrivacyResult:
    """Protect a tensor of one row a contributor (or person) by several techniques at once.

    Guarantee: see the result's `guarantee`: for updates, under adding or removing one row; for a
    table, under exchanging one. Rows that are not finite count as zeros, so that none can stop a
    release.

    Args:
        data: [N, D].
        techniques: of `TECHNIQUES`.
        weights: one for each technique, >= 0: how the budget is divided among those that spend.
            `None`: equally.
        settings: the public numbers.
        entropy: chance.

    Raises:
        ConfigurationError: the techniques, weights or numbers contradict each other; nothing was
            released or spent.
        TooFewContributors: see there.

    That a `homomorphic` sum has at most `homomorphic.ROWS_MOST` rows is taken to be public: more
    are refused, and the refusal is not paid for.
    """
    if data.dim() != 2 or not data.is_floating_point():
        raise ConfigurationError(
            f"data has {data.dim()} axes of {data.dtype}, expected [rows, columns] of floats: one "
            "row a contributor; nothing was released"
        )
    budgets = _budgets(techniques, weights, settings.epsilon)
    rows_ND = data.detach().double().cpu().numpy()
    if settings.kind is Kind.TABLE:
        return _table(rows_ND, budgets, settings, entropy)
    return _updates(rows_ND, budgets, settings, entropy)


def _budgets(
    techniques: Sequence[str], weights: Sequence[float] | None, epsilon: float
) -> dict[str, float]:
    """What each technique may spend; 0 for those that spend nothing."""
    unknown = [name for name in techniques if name not in TECHNIQUES]
    if unknown or not techniques or len(set(techniques)) != len(techniques):
        raise ConfigurationError(
            f"privacy_techniques are {list(techniques)}, expected different ones of "
            f"{', '.join(TECHNIQUES)}; nothing was released"
        )
    given = [1.0] * len(techniques) if weights is None else list(weights)
    if len(given) != len(techniques) or not all(0 <= w < math.inf for w in given):
        raise ConfigurationError(
            f"technique_weights are {given}, expected one finite number >= 0 for each of "
            f"{len(techniques)} techniques; nothing was released"
        )
    budgets = dict.fromkeys(techniques, 0.0)
    if "dp" not in techniques:
        return budgets
    spending = {n: w for n, w in zip(techniques, given, strict=True) if n in _SPENDING}
    if not spending["dp"] > 0 or min(spending.values()) == 0:
        raise ConfigurationError(
            f"technique_weights are {given}: a technique that spends budget needs a weight above "
            "0; nothing was released"
        )
    most = max(spending.values())
    parts = epsilon_shares(
        [w / most for w in spending.values()], epsilon, allocation="proportional"
    )
    return budgets | dict(zip(spending, parts, strict=True))


def _updates(
    rows_ND: Numbers, budgets: dict[str, float], settings: HybridSettings, entropy: Entropy
) -> HybridPrivacyResult:
    private, minimum = "dp" in budgets, settings.minimum_contributors
    guarantees, events = [], list[DpEvent]()
    if "k_anonymity" in budgets:
        promise, event = _require_contributors(
            len(rows_ND), minimum, budgets["k_anonymity"] if private else None, entropy
        )
        guarantees.append(TechniqueGuarantee("k_anonymity", promise, budgets["k_anonymity"]))
        events += [event] if event is not None else []
    clipped_ND = _clipped(rows_ND, settings.clip_norm)
    error = 0.0
    if "homomorphic" in budgets:
        total_D = encrypted_sum(clipped_ND) if len(clipped_ND) else np.zeros(rows_ND.shape[1])
        error = ERROR * math.sqrt(rows_ND.shape[1])
        promise = "whoever sums sees CKKS ciphertexts; the sum itself is decrypted"
        guarantees.append(TechniqueGuarantee("homomorphic", promise, 0.0))
    else:
        total_D = clipped_ND.sum(axis=0)
    if private:
        # Neighbours may be off by one error each, in opposite directions.
        sensitivity = (1 + _ROUNDING) + 2 * error
        sigma = gaussian_sigma(epsilon=budgets["dp"], delta=settings.delta, sensitivity=sensitivity)
        noise = GaussianMechanism(sigma=sigma, sensitivity=sensitivity)
        total_D = noise.release(total_D, entropy)
        events.append(noise.event)
        promise = (
            f"the sum of rows within L2 norm {settings.clip_norm:g} has Gaussian noise of standard "
            f"deviation {sigma * settings.clip_norm:.4g}"
        )
        guarantees.append(TechniqueGuarantee("dp", promise, budgets["dp"]))
    protected = torch.from_numpy(total_D * settings.clip_norm)
    relation = NeighbouringRelation.ADD_OR_REMOVE_ONE
    return _result(protected, guarantees, events, settings, relation)


def _table(
    rows_ND: Numbers, budgets: dict[str, float], settings: HybridSettings, entropy: Entropy
) -> HybridPrivacyResult:
    if "homomorphic" in budgets or "k_anonymity" not in budgets:
        raise ConfigurationError(
            "a table is protected by k_anonymity, with or without dp: rows are not summed, and "
            "noise on single rows would need the whole range of each column; nothing was released"
        )
    if settings.bounds is None:
        raise ConfigurationError(
            "a table needs bounds=(lower, upper), one public number for each column: the range of "
            "the data would tell about its extremes; nothing was released"
        )
    lower, upper = (tuple(map(float, side)) for side in settings.bounds)
    count = len(rows_ND)
    size = max(settings.minimum_contributors, math.isqrt(max(count - 1, 0)) + 1)
    if count < size:
        raise TooFewContributors(
            f"the table has {count} rows, expected at least {size} to hide among; nothing was "
            "released",
            event=NoOp(),
            relation=NeighbouringRelation.REPLACE_ONE,
        )
    numbers = {"lower": lower, "upper": upper, "rows": count, "group_size": size}
    spent = budgets["k_anonymity"] + budgets.get("dp", 0.0)
    words = f"every row stands for a group of at least {size}"
    guarantees = [TechniqueGuarantee("k_anonymity", words, 0.0)]
    if "dp" not in budgets:
        exact = Microaggregation(**numbers, sigma=1.0)  # type: ignore[arg-type]  # one dictionary
        widths = np.array(upper) - np.array(lower)
        centroids = np.array(lower) + exact.centroids(rows_ND) * widths
        sizes = [size] * (len(centroids) - 1) + [count - size * (len(centroids) - 1)]
        protected = torch.from_numpy(np.repeat(centroids, sizes, axis=0))
        return _result(protected, guarantees, [], settings, exact.relation)
    mechanism = Microaggregation.meeting(epsilon=spent, delta=settings.delta, **numbers)  # type: ignore[arg-type]
    protected = torch.from_numpy(mechanism.release(rows_ND, entropy))
    promise = (
        f"centroids have Gaussian noise of {mechanism.sigma:.4g} of a column's width; groups are "
        "formed without looking at other rows, so k-anonymity spends nothing"
    )
    guarantees.append(TechniqueGuarantee("dp", promise, spent))
    return _result(protected, guarantees, [mechanism.event], settings, mechanism.relation)


def _require_contributors(
    count: int, minimum: int, epsilon: float | None, entropy: Entropy
) -> tuple[str, DpEvent | None]:
    """Let a sum pass only where k contributed: by an exact count, or by a noisy one."""
    if epsilon is None:
        if count < minimum:
            raise TooFewContributors(
                f"fewer than {minimum} contributed; nothing was released. The count is exact, so "
                "this refusal has no differential guarantee",
                event=NonPrivate(),
                relation=NeighbouringRelation.ADD_OR_REMOVE_ONE,
            )
        return f"at least {minimum} contributed (an exact count)", None
    mechanism = Count(scale=1 / epsilon)
    margin = math.ceil(math.log(1 / FALSE_RELEASE) / epsilon)
    noisy = mechanism.release(np.ones(count), entropy)
    if noisy < minimum + margin:
        raise TooFewContributors(
            f"the noisy count is below {minimum + margin}, which would show {minimum} contributors"
            f"; nothing of the sum was released, epsilon {epsilon:.4g} of the count is spent",
            event=mechanism.event,
            relation=NeighbouringRelation.ADD_OR_REMOVE_ONE,
        )
    promise = f"fewer than {minimum} contributors pass with probability below {FALSE_RELEASE:g}"
    return promise, mechanism.event


def _clipped(rows_ND: Numbers, clip_norm: float) -> Numbers:
    """Rows in units of the clip norm, of L2 norm at most 1; rows that are not finite are zero."""
    with np.errstate(over="ignore", invalid="ignore"):
        units_ND = rows_ND / clip_norm
        norms_N = np.linalg.norm(units_ND, axis=1)
        factors_N = np.where(np.isfinite(norms_N), 1 / np.maximum(norms_N, 1.0), 0.0)
        scaled_ND = units_ND * factors_N[:, None]
    clipped: Numbers = np.where(factors_N[:, None] > 0, scaled_ND, 0.0)
    return clipped


def _result(
    protected: Tensor,
    guarantees: list[TechniqueGuarantee],
    events: list[DpEvent],
    settings: HybridSettings,
    relation: NeighbouringRelation,
) -> HybridPrivacyResult:
    if not events:
        return HybridPrivacyResult(protected, tuple(guarantees), None, NonPrivate())
    event = events[0] if len(events) == 1 else Composed(tuple(events))
    price = epsilon_of(event, settings.delta, "pld", relation=relation)
    # The shares add up to epsilon; joint pricing may show that less was spent, never more.
    whole = Guarantee(epsilon=min(price, settings.epsilon), delta=settings.delta, relation=relation)
    return HybridPrivacyResult(protected, tuple(guarantees), whole, event)
