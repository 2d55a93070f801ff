"""One data set, one ledger: everything that touches the records is charged to it, or refused.

    python examples/budget.py --output runs/budget

An officer opens an account, an analyst counts and takes a mean, a training is reserved as a whole
and stops early, and in the end the ledger refuses what no longer fits. Needs no torch.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from privacy_core.accounting import dp_sgd_event
from privacy_core.dp_events import DpEvent
from privacy_core.errors import BudgetExhausted
from privacy_core.guarantee import Guarantee, NeighbouringRelation, PrivacyUnit
from privacy_core.mechanisms import BoundedMean, Count
from privacy_finetuner.demo import ASSETS
from privacy_runtime.budget_store import (
    BudgetStore,
    Signature,
    charge_of,
    declared_target,
    protection,
    timeline,
)
from privacy_runtime.world import SystemEntropy

PROMISE = Guarantee(
    epsilon=8.0,
    delta=1e-5,
    relation=NeighbouringRelation.ADD_OR_REMOVE_ONE,
    unit=PrivacyUnit.EXAMPLE,
)
NOTES = protection("sample-notes", "2026")
HOUR_S = 3600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("runs/budget"))
    folder = parser.parse_args().output
    folder.mkdir(parents=True)
    with (ASSETS / "records.jsonl").open() as lines:
        words = np.array([len(json.loads(line)["text"].split()) for line in lines])

    with BudgetStore.open(folder / "ledger.db") as store:
        officer = Signature(person="A. Officer", reason="ethics vote 17")
        store.open_account("open", NOTES, PROMISE, signature=officer)

        long_notes = Count(scale=4.0)
        length = BoundedMean(lower=0.0, upper=200.0, scale=400.0, count_scale=4.0)
        figures = (
            ("long notes", long_notes, words > 60),
            ("mean length", length, words),
        )
        for name, mechanism, column in figures:
            store.reserve(
                name, protection=(NOTES,), charge=charge_of(mechanism.event), ttl_s=HOUR_S
            )
            answer = mechanism.release(column, SystemEntropy())
            store.commit(f"{name}: done", name)
            print(f"{name}: about {answer:.0f}")
        print(f"two figures cost epsilon {store.balance(NOTES).epsilon_committed:.3f}")

        # A training is declared as a whole, at the half of delta that belongs to declared acts.
        _, delta = declared_target(PROMISE)
        whole = charge_of(run_of(1000), delta=delta)
        store.reserve("training", protection=(NOTES,), charge=whole, ttl_s=HOUR_S)
        store.watermark("training: 400", "training", consumed=charge_of(run_of(400)))
        store.commit("training: done", "training", actual=charge_of(run_of(400)))

        try:
            for number in range(100):
                store.reserve(f"more {number}", protection=(NOTES,), charge=whole, ttl_s=HOUR_S)
                store.commit(f"more {number}: done", f"more {number}")
        except BudgetExhausted as refusal:
            print(f"after {number} more trainings: {refusal}")
        for entry in timeline(store.history(), NOTES)[:8]:
            spent = f"spent {entry.epsilon_committed:.3f}"
            print(f"  {entry.seq:3} {entry.kind:14} {entry.key:18} {spent}")
        print(f"the chain of {store.verify().seq} entries is intact")


def run_of(steps: int) -> DpEvent:
    return dp_sgd_event(noise_multiplier=1.0, sample_rate=0.01, steps=steps)


if __name__ == "__main__":
    main()
