"""What a job would promise and cost, before it is started: the plan itself, nothing estimated.

The plan is made by the same function as the run's. It needs the number of records, which the
product treats as public (docs/sharp_edges.md), and nothing else of them. Nothing is spent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from privacy_core.errors import PrivacyError
from privacy_finetuner.config import PrivacyConfig, TrainingConfig
from privacy_finetuner.dashboard.languages import UNKNOWN, marked
from privacy_finetuner.training.plan import DPTrainingPlan, make_plan
from privacy_finetuner.training.records import read_records
from privacy_finetuner.training.sizes import default_batch_size, default_delta

COUNTED_MOST_BYTES: Final = 64 * 1024 * 1024
"""A larger file is not read for a preview; its plan is made when the job starts."""
_BATCH_LEAST: Final = 8
_DELTA_MOST: Final = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the form says, as numbers; where a field is empty, what is usual for the data.

    Attributes:
        delta: `None` is the smaller of 1e-5 and a tenth of 1/n, to one digit.
        batch_size: `None` is a sixteenth of the records, within 8 and 512.
        faults: by field, what is wrong with it.
    """

    epsilon: float = 3.0
    delta: float | None = None
    epochs: float = 3.0
    batch_size: int | None = None
    learning_rate: float | None = None
    accountant: str = "pld"
    canaries: int = 0
    faults: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, form: Mapping[str, str]) -> Wish:
        """Read a form. What cannot be read is a fault, and the default stands in its place."""
        faults: dict[str, str] = {}

        def number(name: str, least: float, most: float) -> float | None:
            text = form.get(name, "").strip().replace(",", ".")
            if not text:
                return None
            try:
                value = float(text)
            except ValueError:
                value = math.nan
            if not least <= value <= most:
                faults[name] = f"{least:g} {UNKNOWN} {most:g}"
                return None
            return value

        def whole(name: str, least: int, most: int) -> int | None:
            value = number(name, least, most)
            if value is not None and value != int(value):
                faults[name] = f"{least} {UNKNOWN} {most}"
                return None
            return None if value is None else int(value)

        epsilon, epochs = number("epsilon", 0.001, 1000), number("epochs", 0.01, 1000)
        return cls(
            epsilon=3.0 if epsilon is None else epsilon,
            delta=number("delta", 1e-14, 0.5),
            epochs=3.0 if epochs is None else epochs,
            batch_size=whole("batch_size", 1, 1_000_000),
            learning_rate=number("learning_rate", 1e-9, 100),
            accountant="rdp" if form.get("accountant") == "rdp" else "pld",
            canaries=whole("canaries", 0, 100_000) or 0,
            faults=faults,
        )

    def settled(self, records: int | None) -> Wish:
        """The same with what is usual for so many records filled in."""
        if records is None:
            return self
        return Wish(
            epsilon=self.epsilon,
            delta=default_delta(max(1, records)) if self.delta is None else self.delta,
            epochs=self.epochs,
            batch_size=default_batch_size(records) if self.batch_size is None else self.batch_size,
            learning_rate=self.learning_rate,
            accountant=self.accountant,
            canaries=self.canaries,
            faults=self.faults,
        )

    def privacy(self) -> dict[str, Any]:
        """As keywords of `PrivacyConfig`."""
        return {
            "epsilon": self.epsilon,
            "delta": _DELTA_MOST if self.delta is None else self.delta,
            "accounting_mode": self.accountant,
        }

    def training(self) -> dict[str, Any]:
        """As keywords of `PrivateTrainer.train`."""
        rate = "auto" if self.learning_rate is None else self.learning_rate
        keywords: dict[str, Any] = {"epochs": self.epochs, "learning_rate": rate}
        if self.batch_size is not None:
            keywords["batch_size"] = self.batch_size
        if self.canaries:
            keywords["audit_canaries"] = self.canaries
        return keywords


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """A plan, or why there is none."""

    plan: DPTrainingPlan | None
    records: int | None
    reason: str = ""

    @property
    def odds(self) -> float | None:
        """How sure somebody may become, from even odds, that a record was in; delta aside.

        Source: Dwork & Roth 2014, Definition 2.4, by Bayes' rule.
        """
        if self.plan is None:
            return None
        return 1 / (1 + math.exp(-min(700.0, self.plan.epsilon())))


def preview(wish: Wish, records: int | None) -> Preview:
    """The plan of a wish on so many records."""
    if records is None:
        return Preview(
            plan=None, records=None, reason=marked("the file is too large to count here")
        )
    settled = wish.settled(records)
    try:
        plan = _plan(
            settled.epsilon,
            settled.delta or _DELTA_MOST,
            settled.epochs,
            settled.batch_size or _BATCH_LEAST,
            settled.learning_rate is None,
            settled.accountant,
            records,
            settled.canaries,
        )
    except PrivacyError as error:
        return Preview(plan=None, records=records, reason=str(error))
    return Preview(plan=plan, records=records)


def count_of(path: Path) -> int | None:
    """How many records a file holds; `None` where it is too large to be read for that.

    Raises:
        DatasetError: the file holds no records that training could use.
    """
    if path.is_dir():
        return None
    status = path.stat()
    if status.st_size > COUNTED_MOST_BYTES:
        return None
    return _count(str(path), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _count(path: str, _modified_ns: int, _size: int) -> int:
    return len(read_records(path))


@lru_cache(maxsize=256)
def _plan(  # the key of a cache: plain values
    epsilon: float,
    delta: float,
    epochs: float,
    batch_size: int,
    is_automatic: bool,
    accountant: str,
    records: int,
    canaries: int,
) -> DPTrainingPlan:
    privacy = PrivacyConfig(epsilon=epsilon, delta=delta, accounting_mode=accountant)
    training = TrainingConfig(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate="auto" if is_automatic else 1e-3,
        clip_rule="normalise" if is_automatic else "bound",
    )
    return make_plan(privacy, training, examples=records, canaries=canaries)
