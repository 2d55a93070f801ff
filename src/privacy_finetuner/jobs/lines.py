"""How a worker and the child that trains talk: JSON lines over two pipes.

The worker writes one line, the task, to the child's standard input, and keeps it open: its end is
the worker's end. The child writes events to what was its standard output, and one line, the end.

A secret (the address of a ledger) goes through the pipe: it is in no argument and no environment.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

from privacy_finetuner.jobs.model import Artefact, EventKind, TrainingSpec
from privacy_finetuner.jobs.store import dumps
from privacy_finetuner.jobs.telemetry import Telemetry, read

LINE_BYTES_MOST: Final = 1 << 20
END: Final = "end"
SAVED: Final = "saved_step"
"""Of a step's body, for the worker alone: the step of the newest checkpoint in the folder."""
DONE: Final = "done"
STOPPED: Final = "stopped"
FAILED: Final = "failed"
_TOLD: Final = frozenset(kind.value for kind in EventKind if kind is not EventKind.STATE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lent:
    """The model of another job, which a run begins from.

    Attributes:
        job: its id.
        artefacts: the files of its model, with their digests.
    """

    job: str
    artefacts: tuple[Artefact, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a child is to do.

    Attributes:
        job: its id.
        spec: as submitted; its names are for people.
        tenant: the organisation of the job.
        model, dataset: what they resolve to.
        lent: what `model` is fetched from first; `None`: it is here.
        eval_dataset: likewise; `None`: there is none.
        folder: of the run.
        ledger: where the run is charged; `None`: only to its own record.
        artefacts: the store that keeps what the run leaves; `None`: its folder alone does.
        keys: folder of the key that signs the certificate.
        worker_process: its parent; another one means that the worker died already.
        epochs_told, steps_told: what earlier attempts told of epochs and steps.
        telemetry: how it logs and traces; `None`: it does neither.
    """

    job: str
    spec: TrainingSpec
    model: str
    dataset: str
    eval_dataset: str | None
    folder: str
    ledger: str | None = field(repr=False)
    keys: str
    worker_process: int
    epochs_told: int = 0
    steps_told: int = 0
    telemetry: Telemetry | None = field(default=None, repr=False)
    tenant: str = ""
    lent: Lent | None = None
    artefacts: str | None = field(default=None, repr=False)

    def line(self) -> bytes:
        """The task as one line."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Self:
        """Read a task."""
        fields = json.loads(line)
        spec, telemetry = TrainingSpec(**fields["spec"]), read(fields.get("telemetry"))
        lent = fields.get("lent") and _lent(fields["lent"])
        return cls(**{**fields, "spec": spec, "telemetry": telemetry, "lent": lent})


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a child says it ended.

    Attributes:
        how: `done`, `stopped` (in order, to be resumed) or `failed`.
        code, message: of a failure: stable, and a sentence without data.
        may_pass: another attempt may get further.
        notes: what a reader of the result should know.
    """

    how: str
    code: str | None = None
    message: str | None = None
    may_pass: bool = False
    notes: tuple[str, ...] = ()

    def body(self) -> dict[str, Any]:
        """The end as JSON-ready data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Garbled:
    """What a child wrote is no line of this protocol."""

    reason: str


def _lent(fields: Mapping[str, Any]) -> Lent:
    artefacts = tuple(Artefact(**each) for each in fields["artefacts"])
    return Lent(job=fields["job"], artefacts=artefacts)


def event_line(kind: EventKind | str, body: Mapping[str, Any]) -> bytes:
    """One line of a child."""
    return dumps({"kind": str(kind), "body": body}).encode() + b"\n"


def parse(line: bytes) -> tuple[EventKind, Mapping[str, Any]] | End | Garbled:
    """Read one line of a child."""
    try:
        document = json.loads(line)
        kind, body = document["kind"], document["body"]
    except (ValueError, TypeError, KeyError):
        return Garbled("a line is not an event")
    if not isinstance(body, dict):
        return Garbled("an event has no body")
    if kind == END:
        try:
            return End(**{**body, "notes": tuple(body.get("notes", ()))})
        except TypeError:
            return Garbled("the end is not an end")
    if kind not in _TOLD:
        return Garbled("an event is of an unknown kind")
    return EventKind(kind), body
