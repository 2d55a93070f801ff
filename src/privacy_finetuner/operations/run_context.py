"""What `detect_threat` is told beside figures: a run's name, its records, its peers, its states."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from privacy_core.errors import InvalidParameter
from privacy_finetuner.operations.alerts import AccountFact
from privacy_finetuner.operations.quarantine import Quarantine, SourceDigest
from privacy_finetuner.operations.recent_acts import RecentActs
from privacy_finetuner.operations.run_rules import SealedFact
from privacy_runtime.blobs import SealedError, SealedSets
from privacy_runtime.budget_store import BudgetStore, Scope

RUN: Final = "run"
_KNOWN: Final = frozenset(
    {"run", "job", "clip_norm", "dataset", "source", "references", "updates", "sealed", "plan"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """The context, read. Keys that are not known are left alone: they are the caller's."""

    run: str = RUN
    figures: Mapping[str, float] = field(default_factory=dict)
    about: Mapping[str, str] = field(default_factory=dict)
    references: tuple[tuple[float, float], ...] = ()
    updates: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    dataset: Path | None = None
    name: str = ""
    series: tuple[SealedSets, str] | None = None

    @classmethod
    def of(cls, context: Mapping[str, Any]) -> Self:
        """Read a context.

        Raises:
            InvalidParameter: a key has another form than expected.
        """
        run, dataset = str(context.get("run", RUN)), context.get("dataset")
        about = {"run": run, **({"job": str(context["job"])} if context.get("job") else {})}
        clip_norm = context.get("clip_norm")
        return cls(
            run=run,
            figures={} if clip_norm is None else {"clip_norm": clip_norm},
            about=about | _plan(context.get("plan")),
            references=tuple(_reference(each) for each in context.get("references", ())),
            updates=_updates(context.get("updates", {})),
            dataset=None if dataset is None else Path(dataset),
            name=str(context.get("source", dataset)),
            series=_series(context.get("sealed")),
        )

    def source(self, quarantine: Quarantine, tenant: str) -> SourceDigest | None:
        """The records' digest beside the registered one; registered now, if it is new."""
        if self.dataset is None:
            return None
        return quarantine.register(tenant, self.name, self.dataset)

    def sealed(self) -> tuple[SealedFact, ...]:
        """What verifying the newest sealed state finds."""
        return () if self.series is None else (sealed_fact(*self.series),)


def sealed_fact(sets: SealedSets, series: str) -> SealedFact:
    """Verify the newest sealed state of a series: signature, digests, and that it is the newest."""
    number = 0
    try:
        manifest = sets.newest(series)
        number = manifest.number
        sets.verify(manifest)
    except SealedError as error:
        return SealedFact(series=series, number=number, code=error.code)
    return SealedFact(series=series, number=number, code=None)


def account_fact(ledger: BudgetStore, scope: Scope) -> Callable[[datetime], AccountFact]:
    """How an account stands whenever it is asked; the ledger is followed once."""
    recent = RecentActs(ledger)

    def fact(now: datetime) -> AccountFact:
        state = ledger.balance(scope)
        acts, share = recent.of(state, now)
        return AccountFact(
            account=str(scope),
            epsilon=state.guarantee.epsilon,
            epsilon_used=state.epsilon_if_all_commit,
            daily_shares=(),
            at=now,
            acts_last_hour=acts,
            share_last_hour=share,
        )

    return fact


def _plan(plan: Any) -> dict[str, str]:
    if plan is None:
        return {}
    try:
        return {name: repr(float(plan[name])) for name in ("sample_rate", "steps", "delta")}
    except (KeyError, TypeError, ValueError):
        raise InvalidParameter(
            "plan", found="another form", expected="numbers sample_rate, steps and delta"
        ) from None


def _reference(reference: Any) -> tuple[float, float]:
    try:
        return float(reference["accuracy"]), float(reference.get("accuracy_std", 0.0))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InvalidParameter(
            "references", found="another form", expected="mappings with accuracy and accuracy_std"
        ) from None


def _updates(updates: Any) -> dict[str, NDArray[np.float64]]:
    if not isinstance(updates, Mapping):
        raise InvalidParameter("updates", found=type(updates).__name__, expected="a mapping")
    return {str(silo): np.asarray(update, dtype=np.float64) for silo, update in updates.items()}


def _series(sealed: Any) -> tuple[SealedSets, str] | None:
    if sealed is None:
        return None
    if isinstance(sealed, Sequence) and len(sealed) == 2 and isinstance(sealed[0], SealedSets):
        return sealed[0], str(sealed[1])
    raise InvalidParameter("sealed", found="another form", expected="(SealedSets, series)")
