"""The process that trains one job: `python -m privacy_finetuner.jobs.child`, started by a worker.

It leads a process group of its own and dies with its worker: the kernel sends it SIGTERM, and the
end of its standard input says so as well. SIGTERM stops the run at the next step boundary with a
checkpoint; a second one would not wait for the boundary, so only one is sent. Three seconds after
its worker's end it kills its own group. It holds the lock of the run's folder for as long as it
lives, so no run is ever driven twice at once.

torch is loaded here, and nowhere else in the service.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline_guard.heartbeat import dump_stacks_on_signal
from privacy_core.errors import BudgetExhausted, PrivacyError
from privacy_finetuner.jobs import lines
from privacy_finetuner.jobs.errors import ArtefactsUnavailable, FolderBusy
from privacy_finetuner.jobs.folder import CERTIFICATE_FILE, REPORT_FILE, artefacts_in, locked
from privacy_finetuner.jobs.lines import End, Task
from privacy_finetuner.jobs.model import EventKind
from privacy_finetuner.jobs.progress import Progress
from privacy_finetuner.jobs.shelf import Shelf
from privacy_finetuner.jobs.submission import privacy_of
from privacy_finetuner.jobs.telemetry import StepSpans, observed
from privacy_runtime import logs, tracing
from privacy_runtime.blobs.stores import store_at
from privacy_runtime.files import errno_of, write_atomic
from privacy_runtime.secret import Secret
from privacy_runtime.world import Clock, Entropy, SystemClock, SystemEntropy

if TYPE_CHECKING:
    from privacy_finetuner.results import TrainingResult
    from privacy_finetuner.trainer import PrivateTrainer

_log = logs.logger(__name__)
STOPPED_EXIT: Final = 75
FAILED_EXIT: Final = 1
GRACE_S: Final = 3.0
_LOCK_WAIT_S: Final = 5.0
_REPARENTED_S: Final = 0.2
_PR_SET_PDEATHSIG: Final = 1
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_FAILING: Final = (errno.EIO, errno.EFBIG, errno.EROFS, errno.ESTALE)
_PASSING: Final = frozenset(
    {
        "store_unavailable",
        "folder_busy",
        "run_record_locked",
        "checkpoint_not_written",
        "clock_went_back",
        "write_failed",
    }
)
"""Codes of refusals that another attempt may not meet."""


class Story:
    """What the child says to its worker. When nobody listens any more, words are lost."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def tell(self, kind: EventKind | str, body: Mapping[str, Any]) -> None:
        """Write one line."""
        rest = memoryview(lines.event_line(kind, body))
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except BrokenPipeError:
            return


def main(*, clock: Clock | None = None, entropy: Entropy | None = None) -> int:
    """Run the task on standard input; returns the exit code.

    Args:
        clock: measures, and stamps what is written; `None`: the machine's.
        entropy: for the run and its keys; `None`: the machine's.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    os.umask(0o077)
    story = Story(os.dup(1))
    os.dup2(2, 1)  # what libraries print is no event
    source = sys.stdin.buffer
    line = source.readline()
    if not line:
        return STOPPED_EXIT
    task = Task.parse(line)
    if os.getppid() != task.worker_process:
        return STOPPED_EXIT
    threading.Thread(
        target=_follow, args=(source.fileno(), task.worker_process), daemon=True
    ).start()
    addresses = (task.ledger, None if task.telemetry is None else task.telemetry.endpoint)
    with observed(task.telemetry, secrets=[Secret(each) for each in addresses if each]):
        try:
            dump_stacks_on_signal(Path(task.folder))  # SIGUSR1, for whoever sees it hang
        except OSError as error:
            _log.warning("stacks cannot be written on a signal", errno=error.errno)
        with tracing.span("job.train", job_id=task.job):
            _log.info("training begins", job_id=task.job)
            end = _ended(task, story, clock or SystemClock(), entropy or SystemEntropy())
            _log.info("training ended", job_id=task.job, outcome=end.how, code=end.code)
        story.tell(lines.END, end.body())
    return {lines.DONE: 0, lines.STOPPED: STOPPED_EXIT}.get(end.how, FAILED_EXIT)


def _follow(source: int, worker: int) -> None:
    """Die with the worker: stop in order, and after a moment kill the group, oneself included."""
    while os.read(source, 4096):
        continue
    threading.Event().wait(_REPARENTED_S)
    if os.getppid() == worker:  # else the kernel has sent it already
        os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(GRACE_S)
    os.killpg(os.getpgid(0), signal.SIGKILL)


def _ended(task: Task, story: Story, clock: Clock, entropy: Entropy) -> End:
    """Run a task; whatever happens, say how it ended, without a word that may hold data."""
    try:
        with locked(Path(task.folder), clock=clock, wait_s=_LOCK_WAIT_S):
            return _run(_with_model(task, clock), story, clock, entropy)
    except (FolderBusy, ArtefactsUnavailable) as error:
        return End(how=lines.FAILED, code=error.code, message=str(error), may_pass=True)
    except KeyboardInterrupt:
        return End(how=lines.STOPPED)
    except PrivacyError as error:
        return _refused(error, task)
    except Exception as error:  # noqa: BLE001 -- the process's last line; nothing is swallowed
        traceback.print_exc()
        _log.exception("training failed", job_id=task.job)
        return _broken(error)


def _run(task: Task, story: Story, clock: Clock, entropy: Entropy) -> End:
    """Train, or go on training; then report, certificate, artefacts."""
    from privacy_finetuner.errors import (  # noqa: PLC0415 -- only to run
        PrivacyBudgetExhaustedException,
        TrainingInterrupted,
    )

    trainer = _trainer(task, clock, entropy)
    progress = Progress(
        story.tell,
        Path(task.folder),
        lambda: trainer.history,
        clock=clock,
        epochs_told=task.epochs_told,
        steps_told=task.steps_told,
    )
    told = task.telemetry
    spans = StepSpans(progress, every_step=told is not None and told.every_step, clock=clock)
    notes: list[str] = []
    try:
        result = trainer.train(task.dataset, on_step=spans, **_options(task))
    except TrainingInterrupted:
        return End(how=lines.STOPPED)
    except PrivacyBudgetExhaustedException as error:
        if error.result is None:
            raise
        result = error.result  # the noise was given, and the plan ends before the epochs
        notes.append(_public(str(error), task))
    story.tell(EventKind.EXACT, _exact(result, trainer))
    notes += [_public(note, task) for note in result.notes]
    return _handed_over(task, story, clock, entropy, tuple(notes))


def _with_model(task: Task, clock: Clock) -> Task:
    """The task with its model here: that of a job which another machine ran is fetched first."""
    if task.lent is None:
        return task
    shelf = _shelf(task, clock)
    model = shelf.folder(task.lent.artefacts, tenant=task.tenant, job=task.lent.job)
    return replace(task, model=str(model))


def _shelf(task: Task, clock: Clock) -> Shelf:
    store = None if task.artefacts is None else store_at(task.artefacts)
    return Shelf(Path(task.folder).parent, store, clock=clock)


def _trainer(task: Task, clock: Clock, entropy: Entropy) -> PrivateTrainer:
    from privacy_finetuner.trainer import PrivateTrainer  # noqa: PLC0415 -- only to run

    spec = task.spec
    return PrivateTrainer(
        task.model,
        privacy_of(spec),
        enable_context_guard="redact" in spec.training,
        ledger=task.ledger if spec.account is not None else None,
        account=spec.account,
        quota=spec.quota,
        clock=clock,
        entropy=entropy,
    )


def _options(task: Task) -> dict[str, Any]:
    """The keywords of `train`: a run that the folder holds is resumed."""
    from privacy_finetuner.training.run_record import read_state  # noqa: PLC0415 -- only to run

    earlier = read_state(Path(task.folder))
    options = dict(task.spec.training)
    if "batch_size" not in options:
        options["batch_size"] = _usual_batch(task)
    if task.eval_dataset is not None:
        options["eval_dataset"] = task.eval_dataset
    is_begun = earlier is not None and earlier.plan is not None
    return {**options, "output_dir": task.folder, "resume": is_begun}


def _usual_batch(task: Task) -> int:
    """The expected batch that suits the number of records, as the command line takes it."""
    from privacy_finetuner.training.sizes import (  # noqa: PLC0415 -- only to run
        Sizes,
        default_batch_size,
    )

    said = task.spec.training
    known = ("text_field", "label_field", "user_field", "unit", "max_examples_per_user")
    sizes = Sizes.of(task.dataset, **{name: said[name] for name in known if name in said})
    return default_batch_size(sizes.drawn(user_sampling=bool(said.get("user_sampling"))))


def _exact(result: TrainingResult, trainer: PrivateTrainer) -> dict[str, Any]:
    """Figures outside the guarantee."""
    exact: dict[str, Any] = {
        "truncated": result.truncated,
        "dropped": result.dropped,
        "unsupervised": result.unsupervised,
        "duration_s": result.duration_s,
    }
    if trainer.redaction is not None:
        exact["redacted"] = dict(trainer.redaction.counts)
    return exact


def _handed_over(
    task: Task, story: Story, clock: Clock, entropy: Entropy, notes: tuple[str, ...]
) -> End:
    """Write report and certificate, and list what there is."""
    from privacy_finetuner.assessment import certificate_issue  # noqa: PLC0415 -- after torch
    from privacy_finetuner.reports import write_html  # noqa: PLC0415
    from privacy_runtime.signing import KeyHome  # noqa: PLC0415

    folder, end = Path(task.folder), End(how=lines.DONE, notes=notes)
    if task.spec.certificate:
        try:
            now = clock.now()
            keys = KeyHome(Path(task.keys))
            key, _ = keys.own_key(entropy, now=now)
            keys.trust(key.public)
            made = certificate_issue.issue(folder, key, now=now, entropy=entropy)
            write_atomic(folder / CERTIFICATE_FILE, made.content)
        except PrivacyError as error:
            if error.code in _PASSING or _disk_trouble(error) is not None:
                raise  # the run is finished: another attempt only hands over
            end = End(
                how=lines.FAILED,
                code="not_certified",
                message="the model was trained and what it cost is spent; there is no certificate: "
                + _public(str(error), task),
                notes=notes,
            )
    write_html(folder, folder / REPORT_FILE)
    found = artefacts_in(folder)
    # Before anything is told: what a job is said to have left is in the store, or is not said.
    _shelf(task, clock).put(folder, found, tenant=task.tenant, job=task.job)
    for artefact in found:
        story.tell(EventKind.ARTEFACT, asdict(artefact))
    return end


def _refused(error: PrivacyError, task: Task) -> End:
    """A refusal of this program: it has a code, and its message holds no data."""
    from privacy_finetuner.errors import (  # noqa: PLC0415 -- keeps the start of a child short
        PrivacyBudgetExhaustedException,
    )

    if (trouble := _disk_trouble(error)) is not None:
        return trouble
    is_budget = isinstance(error, BudgetExhausted | PrivacyBudgetExhaustedException)
    code = "budget_exhausted" if is_budget else error.code
    message = _public(str(error), task)
    return End(how=lines.FAILED, code=code, message=message, may_pass=code in _PASSING)


def _broken(error: Exception) -> End:
    """Anything else: its words may quote records, so they stay in the log."""
    if (trouble := _disk_trouble(error)) is not None:
        return trouble
    name = type(error).__name__
    if isinstance(error, MemoryError) or name == "OutOfMemoryError":
        return End(
            how=lines.FAILED,
            code="out_of_memory",
            message="the machine or its accelerator had too little memory; smaller "
            "micro_batch_tokens or max_memory_gb need less; what was charged stays charged",
            may_pass=False,
        )
    return End(
        how=lines.FAILED,
        code="internal_error",
        message=f"{name}: the job's log says more; what was charged stays charged",
    )


def _disk_trouble(error: BaseException | None) -> End | None:
    """The end of a run at whose bottom a disk is full or fails: another attempt may pass."""
    while error is not None:
        number = errno_of(error)
        if number in _FULL:
            return End(
                how=lines.FAILED,
                code="disk_full",
                message="the disk of the runs is full; older checkpoints are intact",
                may_pass=True,
            )
        if number in _FAILING:
            return End(
                how=lines.FAILED,
                code="disk_error",
                message=f"the disk of the runs failed ({os.strerror(number)}); older checkpoints "
                "are intact",
                may_pass=True,
            )
        error = error.__cause__ or error.__context__
    return None


def _public(message: str, task: Task) -> str:
    """A message with names in the place of this machine's paths."""
    named = {
        task.folder: "the job's folder",
        task.dataset: task.spec.dataset,
        task.model: task.spec.model,
        task.ledger or "": "LEDGER",
    }
    for path in sorted(filter(None, named), key=len, reverse=True):
        message = message.replace(path, named[path])
    return message


if __name__ == "__main__":
    sys.exit(main())
