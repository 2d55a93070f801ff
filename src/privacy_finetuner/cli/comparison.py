"""One planned run beside its alternatives: what each asks in noise, or costs in epsilon.

Every alternative keeps the examples a batch, the steps and the target; what changes is who may be
in a batch, who does the sums, how the noise of different steps hangs together, and whom the
guarantee protects. The yardstick is DP-SGD on Poisson batches, priced by the tight accountant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from privacy_core.accounting import (
    SamplingScheme,
    Schedule,
    accountant_names,
    calibrate,
    calibrate_noise_multiplier,
    dp_sgd_event,
    epsilon_of,
    gdp_epsilon_bound,
    scheme_event,
)
from privacy_core.dp_events import DpEvent
from privacy_core.errors import CalibrationFailed, InvalidParameter, UnsupportedEvent
from privacy_core.guarantee import NeighbouringRelation, PrivacyUnit
from privacy_core.mechanisms.matrix_factorization import optimise_banded

SAMPLING: Final = "How batches are made"
ACCOUNTANTS: Final = "Who does the sums"
CORRELATED: Final = "How noise hangs together"
USERS: Final = "Whom it protects: a user"

_NOISE_LOWEST, _NOISE_HIGHEST = 1e-2, 1e6
_CAPS: Final = (1.1, 1.5)
_GROUPS: Final = 4
_BANDS: Final = (2, 4, 8, 16, 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSizes:
    """The run that is planned. `records_per_user` is the most records that one user owns."""

    examples: int
    batch_size: int
    steps: int
    epsilon: float
    delta: float
    relation: NeighbouringRelation
    records_per_user: int

    @property
    def schedule(self) -> Schedule:
        """The sizes that a sampling scheme reads."""
        return Schedule(examples=self.examples, batch_size=self.batch_size, steps=self.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """One row.

    `noise_multiplier` is what the target asks for; it is at most `noise_multiplier_most`, where it
    depends on how many records a cap leaves. `relative_error` is the expected error of the
    sum of all updates so far (root mean square, averaged over the steps), divided by that of the
    yardstick. `epsilon` is what the alternative costs with the yardstick's noise instead. What was
    refused has a reason and no figures.
    """

    group: str
    name: str
    unit: PrivacyUnit = PrivacyUnit.EXAMPLE
    noise_multiplier: float | None = None
    noise_multiplier_most: float | None = None
    relative_error: float | None = None
    epsilon: float | None = None
    note: str = ""
    refused: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON-ready data."""
        return {
            "group": self.group,
            "name": self.name,
            "unit": self.unit.value,
            "noise_multiplier": self.noise_multiplier,
            "noise_multiplier_most": self.noise_multiplier_most,
            "relative_error": self.relative_error,
            "epsilon_at_yardstick_noise": self.epsilon,
            "note": self.note,
            "refused": self.refused,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The run, the noise of its yardstick, and the alternatives."""

    sizes: RunSizes
    noise_multiplier: float
    alternatives: tuple[Alternative, ...]


def compare_run(sizes: RunSizes) -> Comparison:
    """Price the run and its alternatives. Reads no data and spends nothing.

    Raises:
        InvalidParameter: a number is outside its domain.
        CalibrationFailed: no noise meets the target even for the yardstick.
    """
    if sizes.records_per_user < 1:
        raise InvalidParameter(
            "records_per_user", found=sizes.records_per_user, expected="a whole number >= 1"
        )
    yardstick = calibrate_noise_multiplier(
        epsilon=sizes.epsilon,
        delta=sizes.delta,
        sample_rate=sizes.schedule.sample_rate,
        steps=sizes.steps,
        relation=sizes.relation,
    )
    rows = [
        *_sampling(sizes, yardstick),
        *_accountants(sizes, yardstick),
        *_correlated(sizes, yardstick),
    ]
    if sizes.records_per_user > 1:
        rows += _users(sizes, yardstick)
    return Comparison(sizes=sizes, noise_multiplier=yardstick, alternatives=tuple(rows))


def schemes_of(sizes: RunSizes) -> Iterator[tuple[str, SamplingScheme, Schedule, str]]:
    """The sampling schemes that can make these batches: name, scheme, schedule, condition."""
    schedule = sizes.schedule
    yield "poisson", SamplingScheme.POISSON, schedule, "batch sizes vary; what the trainer does"
    for factor in _CAPS:
        cap = min(math.ceil(factor * sizes.batch_size - 1e-9), sizes.examples)
        yield (
            f"poisson, cut at {cap}",
            SamplingScheme.TRUNCATED_POISSON,
            replace(schedule, batch_cap=cap),
            "what a loader that drops the surplus does",
        )
    groups = min(_GROUPS, sizes.examples // sizes.batch_size)
    if groups > 1:
        yield (
            f"cyclic poisson, {groups} groups",
            SamplingScheme.CYCLIC_POISSON,
            replace(schedule, groups=groups),
            "for correlated noise; a record's group is its own and fixed",
        )
    yield "fixed size", SamplingScheme.FIXED_SIZE, schedule, "a fresh uniform subset every step"
    yield (
        "shuffle",
        SamplingScheme.SHUFFLE,
        schedule,
        "no credit for the order"
        + (
            "; an absent record leaves its place empty"
            if sizes.relation is NeighbouringRelation.ADD_OR_REMOVE_ONE
            else ""
        ),
    )


def _sampling(sizes: RunSizes, yardstick: float) -> Iterator[Alternative]:
    for name, scheme, schedule, note in schemes_of(sizes):

        def event(
            noise: float, scheme: SamplingScheme = scheme, schedule: Schedule = schedule
        ) -> DpEvent:
            return scheme_event(scheme, schedule, noise_multiplier=noise)

        row = Alternative(group=SAMPLING, name=name, note=note)
        yield _priced(row, event, sizes, yardstick)


def _accountants(sizes: RunSizes, yardstick: float) -> Iterator[Alternative]:
    def event(noise: float) -> DpEvent:
        return dp_sgd_event(
            noise_multiplier=noise, sample_rate=sizes.schedule.sample_rate, steps=sizes.steps
        )

    notes = {"pld": "the tight one", "rdp": "what a ledger adds up; looser"}
    for name in accountant_names():
        row = Alternative(group=ACCOUNTANTS, name=name, note=notes.get(name, ""))
        yield _priced(row, event, sizes, yardstick, accountant=name)
    try:
        epsilon = gdp_epsilon_bound(event(yardstick), sizes.delta, relation=sizes.relation)
    except (UnsupportedEvent, InvalidParameter) as error:
        yield _refused(Alternative(group=ACCOUNTANTS, name="gdp, dominating"), error)
        return
    yield Alternative(
        group=ACCOUNTANTS,
        name="gdp, dominating",
        epsilon=epsilon,
        note="a Gaussian that bounds the run at every delta above a tenth of yours",
    )


def _correlated(sizes: RunSizes, yardstick: float) -> Iterator[Alternative]:
    """Banded noise on cyclic batches: with b groups, one unit meets each band of C once at most.

    Source: Choquette-Choo et al. 2023 (arXiv:2306.08153), Theorem 4, for the price; it is stated
    for units that join or leave, and the rows are refused for another relation.
    """
    independent = yardstick * optimise_banded(sizes.steps, 1).error(sizes.steps)
    most = min(sizes.examples // sizes.batch_size, sizes.steps)
    for bands in (b for b in _BANDS if b <= most):
        row = Alternative(
            group=CORRELATED,
            name=f"{bands} bands",
            note=f"keeps {bands - 1} past noise vectors; batches are cyclic poisson",
        )
        if sizes.relation is not NeighbouringRelation.ADD_OR_REMOVE_ONE:
            yield replace(row, refused=f"no price is proved under {sizes.relation.value}")
            continue

        def event(noise: float, bands: int = bands) -> DpEvent:
            return scheme_event(
                SamplingScheme.CYCLIC_POISSON,
                replace(sizes.schedule, groups=bands),
                noise_multiplier=noise,
            )

        found = _priced(row, event, sizes, yardstick)
        if found.noise_multiplier is not None:
            error = found.noise_multiplier * optimise_banded(sizes.steps, bands).error(sizes.steps)
            found = replace(found, relative_error=error / independent)
        yield found


def _users(sizes: RunSizes, yardstick: float) -> Iterator[Alternative]:
    """Caps on the records of one user, between few users above the cap and all of them; groups.

    At a fixed batch the noise depends on how many records a cap leaves: with all of them left the
    rate of one record is lowest. Which it is, only the data know.
    """
    most = sizes.records_per_user
    for cap in sorted({*(1 << k for k in range(most.bit_length())), most}):
        row = Alternative(
            group=USERS, name=f"at most {cap} record{'s' * (cap > 1)}", unit=PrivacyUnit.USER
        )
        row = _priced(row, _capped(sizes, cap, sizes.examples), sizes, yardstick)
        kept = sizes.examples * cap // most
        if row.refused is None and cap < most:
            yield replace(row, **_if_all_own_the_most(sizes, cap, kept, yardstick))
        else:
            yield row
    yield _group_bound(sizes, yardstick)


def _capped(sizes: RunSizes, cap: int, kept: int) -> Callable[[float], DpEvent]:
    def event(noise: float) -> DpEvent:
        return dp_sgd_event(
            noise_multiplier=noise,
            sample_rate=sizes.batch_size / kept,
            steps=sizes.steps,
            max_examples_per_user=cap,
        )

    return event


def _if_all_own_the_most(sizes: RunSizes, cap: int, kept: int, yardstick: float) -> dict[str, Any]:
    """The other end: every user is above the cap, which drops all but `kept` records."""
    if kept < sizes.batch_size:
        return {"note": f"if every user owns {sizes.records_per_user}: too few are left"}
    end = _priced(Alternative(group=USERS, name=""), _capped(sizes, cap, kept), sizes, yardstick)
    return {
        "noise_multiplier_most": end.noise_multiplier,
        "note": f"noise {end.noise_multiplier:.4g} if every user owns {sizes.records_per_user}: "
        f"{kept:,} are left",
    }


def _group_bound(sizes: RunSizes, yardstick: float) -> Alternative:
    """Every record by itself, tightened until a user's whole group has the target.

    (e, d)-privacy of a record is (k e, k exp((k-1) e) d)-privacy of k records. Source: Vadhan 2017,
    "The Complexity of Differential Privacy", Lemma 2.2.
    """
    k = sizes.records_per_user
    row = Alternative(
        group=USERS,
        name=f"group of {k} records",
        unit=PrivacyUnit.USER,
        note="the textbook bound, for comparison",
    )
    single = replace(
        sizes,
        epsilon=sizes.epsilon / k,
        delta=sizes.delta / k * math.exp(-(k - 1) * sizes.epsilon / k),
    )

    def event(noise: float) -> DpEvent:
        return dp_sgd_event(
            noise_multiplier=noise, sample_rate=sizes.schedule.sample_rate, steps=sizes.steps
        )

    return replace(_priced(row, event, single, yardstick), epsilon=None)


def _priced(
    row: Alternative,
    event: Callable[[float], DpEvent],
    sizes: RunSizes,
    yardstick: float,
    *,
    accountant: str = "pld",
) -> Alternative:
    """The row with its figures, or with the reason why there are none."""
    try:
        noise = calibrate(
            event,
            epsilon=sizes.epsilon,
            delta=sizes.delta,
            lowest=_NOISE_LOWEST,
            highest=_NOISE_HIGHEST,
            increasing=False,
            accountant=accountant,
            relation=sizes.relation,
            parameter="noise_multiplier",
        )
        epsilon = epsilon_of(event(yardstick), sizes.delta, accountant, relation=sizes.relation)
    except (UnsupportedEvent, CalibrationFailed) as error:
        return _refused(row, error)
    return replace(row, noise_multiplier=noise, relative_error=noise / yardstick, epsilon=epsilon)


def _refused(row: Alternative, error: Exception) -> Alternative:
    return replace(row, refused=error.reason if isinstance(error, UnsupportedEvent) else str(error))


def of_group(alternatives: Sequence[Alternative], group: str) -> list[Alternative]:
    """The rows of one group, in order."""
    return [row for row in alternatives if row.group == group]
