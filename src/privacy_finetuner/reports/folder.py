"""The files of one output folder as one value.

=======================  =====================================================================
file                     what is taken from it
=======================  =====================================================================
`run.jsonl`              the plan and the steps charged: the account that everything else must
                         agree with. Needed
`run-0001/`, ...         earlier runs in the same folder
`privacy_report.json`    what was reported at the end, where it belongs to this run
`training_result.json`   the released course of training, where it belongs to this run
`statement.json`         the event, epsilon and weights that the run stated, likewise
`privacy_state.json`     grants and releases, later evaluations included
=======================  =====================================================================
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from privacy_core.guarantee import NeighbouringRelation
from privacy_finetuner.errors import CheckpointError, ConfigurationError
from privacy_finetuner.training import run_record, statement
from privacy_finetuner.training.plan import DPTrainingPlan
from privacy_finetuner.training.privacy_book import PrivacyBook
from privacy_runtime.append_log import LogEntry, read_log

REPORT_FILE: Final = "privacy_report.json"
RESULT_FILE: Final = "training_result.json"
STATE_FILE: Final = "privacy_state.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierRun:
    """A finished run whose record was put aside."""

    file: str
    job_id: str
    steps: int
    epsilon: float
    delta: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """What a folder says about its run. What is missing is `None`."""

    folder: Path
    plan: DPTrainingPlan
    job_id: str
    charged_steps: int
    is_finished: bool
    entries: Sequence[LogEntry]
    earlier_runs: Sequence[EarlierRun]
    report: Mapping[str, Any] | None
    result: Mapping[str, Any] | None
    statement: Mapping[str, Any] | None
    book: PrivacyBook | None
    evaluation_book: PrivacyBook | None

    @property
    def status(self) -> str:
        """Whether the run is over."""
        if not self.is_finished:
            return "unfinished: resume it, or count every charged step as spent"
        if self.plan.steps < self.plan.steps_asked:
            return "ended by its budget"
        return "finished"

    @property
    def command(self) -> str:
        """The command that prices the run again, on any machine that has this program."""
        plan = self.plan
        sample_rate, steps = plan.as_dp_sgd(plan.priced_steps(self.charged_steps))
        words = [
            f"privacy-finetuner accountant epsilon --accountant {plan.accountant}",
            f"--noise-multiplier {plan.noise_multiplier!r}",
            f"--sample-rate {sample_rate!r}",
            f"--steps {steps}",
            f"--delta {plan.delta!r}",
        ]
        if plan.relation is not NeighbouringRelation.ADD_OR_REMOVE_ONE:
            words.append(f"--relation {plan.relation.value}")
        if plan.max_examples_per_user > 1:
            words.append(f"--max-examples-per-user {plan.max_examples_per_user}")
        return " ".join(words)


def read_folder(folder: Path) -> RunFolder:
    """Read the output folder of a run, finished or not. Changes nothing and takes no lock.

    Raises:
        ConfigurationError: there is no run, or its plan is of another version.
        CheckpointError: a file is damaged.
        RunRecordDamaged: the run record was changed by something else.
    """
    path = folder / run_record.FILE_NAME
    if not path.is_file():
        raise ConfigurationError(
            f"{str(folder)!r} holds no run: there is no {run_record.FILE_NAME} in it; expected the "
            "--output folder of a run"
        )
    entries = read_log(path)
    state = run_record.fold(entries)
    if state.plan is None:
        raise ConfigurationError(f"the run record in {str(folder)!r} has no plan: nothing was run")
    result = _document(folder / RESULT_FILE)
    # A result of an earlier run in the same folder is not about this one.
    is_current = result is not None and result.get("job_id") == state.job_id
    books = _document(folder / STATE_FILE)
    book = None if books is None else PrivacyBook.from_json(books.get("training"))
    if book is not None and all(r.job_id != state.job_id for r in book.releases):
        book = None
    return RunFolder(
        folder=folder,
        plan=DPTrainingPlan.from_json(dict(state.plan)),
        job_id=state.job_id,
        charged_steps=state.charged_steps,
        is_finished=state.is_finished,
        entries=entries,
        earlier_runs=[
            _earlier(old) for old in sorted(folder.glob(f"run-[0-9]*/{run_record.FILE_NAME}"))
        ],
        report=_document(folder / REPORT_FILE) if is_current else None,
        result=result if is_current else None,
        statement=_document(folder / statement.FILE_NAME) if is_current else None,
        book=book,
        evaluation_book=None if books is None else PrivacyBook.from_json(books.get("evaluations")),
    )


def _earlier(path: Path) -> EarlierRun:
    state = run_record.fold(read_log(path))
    if state.plan is None:
        return EarlierRun(
            file=path.parent.name, job_id=state.job_id, steps=0, epsilon=0.0, delta=0.0
        )
    plan = DPTrainingPlan.from_json(dict(state.plan))
    steps = state.charged_steps
    return EarlierRun(
        file=path.parent.name,
        job_id=state.job_id,
        steps=steps,
        epsilon=plan.epsilon(plan.priced_steps(steps)),
        delta=plan.delta if steps else 0.0,
    )


def _document(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: the file is damaged") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{path} holds a {type(document).__name__}, expected an object")
    return document
