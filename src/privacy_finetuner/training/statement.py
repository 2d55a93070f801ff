"""What a finished run says of itself, in a form that anybody can recompute offline.

The statement holds the event, not a claim about it: an independent accountant prices the event at
the stated delta and compares. Nobody has signed it: `assessment.certificate` reads it, checks it
against the run, and makes the document that a person answers for.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from privacy_core import dp_events
from privacy_finetuner.training.plan import DPTrainingPlan

STATEMENT_VERSION: Final = 2
FILE_NAME: Final = "statement.json"
ASSUMPTIONS: Final = (
    "the number of examples is public",
    "the starting weights do not depend on these records",
    "hyper-parameters were not chosen by looking at these records",
)
_LIBRARIES: Final = ("privacy-finetuner", "torch", "transformers", "peft", "numpy", "scipy")


def statement_of(
    plan: DPTrainingPlan,
    *,
    charged_steps: int,
    folder: Path,
    engine: str,
    record_head: str,
    ledger: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """State what a run did to its data and what that guarantees.

    Args:
        plan: what the run was planned as.
        charged_steps: steps that count as taken. The price is that of the plan, also where they
            are fewer (docs/decisions/0006).
        folder: where the finished model lies; its weight files enter by digest.
        engine: how per-example gradients were computed.
        record_head: hash of the last entry of the run record.
        ledger: what the ledger says of the run: account, reservation, number and hash of the entry
            that settled it. Whoever has the ledger can look it up.
    """
    priced = plan.priced_steps(charged_steps)
    guarantee = plan.guarantee(priced)
    return {
        "version": STATEMENT_VERSION,
        "guarantee": {
            "epsilon": guarantee.epsilon,
            "delta": guarantee.delta,
            "relation": guarantee.relation.value,
            "unit": guarantee.unit.value,
            "max_examples_per_user": plan.max_examples_per_user,
            "accountant": plan.accountant,
        },
        "event": dp_events.to_json(plan.event(priced)),
        "plan": plan.to_json(),
        "charged_steps": charged_steps,
        "engine": engine,
        "noise": plan.noise_generator,
        "record_head": record_head,
        "ledger": None if ledger is None else dict(ledger),
        "weights": weight_digests(folder),
        "libraries": {name: version(name) for name in _LIBRARIES},
        "python": platform.python_version(),
        "assumptions": list(ASSUMPTIONS),
    }


def weight_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every weight file in a folder, by name."""
    digests = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests
