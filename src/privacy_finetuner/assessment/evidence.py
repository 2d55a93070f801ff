"""What lies in a run's folder that a certificate is about: record, statement, weights.

Read here and compared; nothing is changed, no lock is taken, nothing is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from privacy_core import dp_events
from privacy_core.errors import MalformedEvent
from privacy_finetuner.assessment.certificate_errors import NothingToCertify
from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.training import run_record, statement
from privacy_finetuner.training.plan import DPTrainingPlan
from privacy_runtime.append_log import GENESIS_HASH, read_log


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A run as its record tells it, and what it stated at its end.

    `head` is the hash of the record's last entry; it stands for all of them. `statement` is `None`
    while the run has not written one.
    """

    folder: Path
    plan: DPTrainingPlan
    job_id: str
    charged_steps: int
    is_finished: bool
    head: str
    entries: int
    statement: Mapping[str, Any] | None


def read_evidence(folder: Path) -> Evidence:
    """Read a run's folder.

    Raises:
        NothingToCertify: there is no run in it, or its statement cannot be read.
        ConfigurationError: its plan is of another version.
        RunRecordDamaged: the record was changed by something else.
    """
    path = folder / run_record.FILE_NAME
    if not path.is_file():
        raise NothingToCertify(
            f"{str(folder)!r} holds no run: there is no {run_record.FILE_NAME} in it; expected the "
            "--output folder of a run"
        )
    entries = read_log(path)
    state = run_record.fold(entries)
    if state.plan is None:
        raise NothingToCertify(f"the run record in {str(folder)!r} has no plan: nothing was run")
    return Evidence(
        folder=folder,
        plan=DPTrainingPlan.from_json(dict(state.plan)),
        job_id=state.job_id,
        charged_steps=state.charged_steps,
        is_finished=state.is_finished,
        head=entries[-1].hash if entries else GENESIS_HASH,
        entries=len(entries),
        statement=_statement(folder / statement.FILE_NAME),
    )


def faults_of_statement(evidence: Evidence) -> list[str]:
    """Where a run's statement is not what its record and its files say. Sentences."""
    stated = evidence.statement
    if stated is None:
        return [f"the run wrote no {statement.FILE_NAME}"]
    faults = []
    if stated.get("record_head") != evidence.head:
        faults.append("the statement ends at another entry of the run record")
    if stated.get("charged_steps") != evidence.charged_steps:
        faults.append("the statement and the run record charge different numbers of steps")
    try:
        plan = DPTrainingPlan.from_json(dict(stated.get("plan") or {}))
        event = dp_events.from_json(stated.get("event"))
    except (ConfigurationError, MalformedEvent) as error:
        return [*faults, f"the statement cannot be read: {error}"]
    if plan != evidence.plan:
        faults.append("the statement has another plan than the run record")
    if event != evidence.plan.event(evidence.plan.priced_steps(evidence.charged_steps)):
        faults.append("the statement's event is not the one that the run record charges")
    return [*faults, *faults_of_weights(evidence.folder, stated.get("weights") or {})]


def faults_of_weights(folder: Path, stated: Mapping[str, Any]) -> list[str]:
    """Which weight files are not the ones that were stated. Every file is read."""
    found = statement.weight_digests(folder)
    faults = [f"the weight file {name} is missing" for name in sorted(set(stated) - set(found))]
    added = sorted(set(found) - set(stated))
    faults += [f"the weight file {name} was added after the run" for name in added]
    faults += [
        f"the weight file {name} was changed after the run"
        for name in sorted(set(found) & set(stated))
        if found[name] != stated[name]
    ]
    return faults


def _statement(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        raise NothingToCertify(f"{path} is not JSON: the file is damaged") from None
    if not isinstance(document, dict) or document.get("version") != statement.STATEMENT_VERSION:
        raise NothingToCertify(
            f"{path} is not a statement of version {statement.STATEMENT_VERSION}: another version "
            "of this program wrote it"
        )
    return document
