"""The protocol between worker and child, and what an end means."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_finetuner.jobs import JobState, TrainingSpec, lines
from privacy_finetuner.jobs.claims import Ending
from privacy_finetuner.jobs.lines import End, Garbled, Task, event_line, parse
from privacy_finetuner.jobs.model import EventKind
from privacy_finetuner.jobs.verdicts import Again, Outcome, verdict


def test_a_task_comes_back_from_its_line_and_hides_the_ledger() -> None:
    task = Task(
        job="job_1",
        spec=TrainingSpec(model="m", dataset="d", privacy={"epsilon": 1.0}),
        model="/m",
        dataset="/d",
        eval_dataset=None,
        folder="/f",
        ledger="postgresql://u:word@h/d",
        keys="/k",
        worker_process=7,
        epochs_told=2,
    )
    assert Task.parse(task.line()) == task
    assert task.line().count(b"\n") == 1
    assert "word" not in repr(task)


def test_events_and_ends_come_back_from_their_lines() -> None:
    assert parse(event_line(EventKind.STEP, {"step": 1})) == (EventKind.STEP, {"step": 1})
    end = End(how="failed", code="c", message="m", may_pass=True, notes=("n",))
    assert parse(event_line(lines.END, end.body())) == end
    kind, body = parse(event_line(EventKind.EPOCH, {"loss": float("nan")}))  # type: ignore[misc]
    assert (kind, body) == (EventKind.EPOCH, {"loss": None})


@pytest.mark.parametrize(
    "line",
    [
        b"", b"hello", b"[]", b"7", b'{"kind": "step"}', b'{"kind": "step", "body": 3}',
        b'{"kind": "state", "body": {}}', b'{"kind": "other", "body": {}}',
        b'{"kind": "end", "body": {"other": 1}}', b"\xff\xfe", b'{"kind": "step", "body": {}',
    ],
)  # fmt: skip
def test_anything_else_is_garbled(line: bytes) -> None:
    assert isinstance(parse(line), Garbled)


@given(st.binary(max_size=80))
def test_no_line_breaks_the_reader(line: bytes) -> None:
    parse(line)


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.floats() | st.text(max_size=5)))
def test_an_event_is_one_line_of_json(body: dict[str, Any]) -> None:
    line = event_line(EventKind.STEP, body)
    assert line.count(b"\n") == 1
    json.loads(line, parse_constant=pytest.fail)


DONE = End(how="done")
STOPPED = End(how="stopped")
FAILED = End(how="failed", code="dataset_error", message="m")
PASSING = End(how="failed", code="disk_full", message="m", may_pass=True)
BUSY = End(how="failed", code="folder_busy", message="m", may_pass=True)
CLOCK = End(how="failed", code="clock_went_back", message="m", may_pass=True)


@pytest.mark.parametrize(
    ("exit_code", "end", "more", "expected"),
    [
        (0, DONE, {}, ("succeeded", None)),
        (0, DONE, {"is_cancelled": True}, ("succeeded", None)),
        (-6, DONE, {}, ("succeeded", None)),
        (75, STOPPED, {"is_cancelled": True}, ("cancelled", None)),
        (-9, None, {"is_cancelled": True}, ("cancelled", None)),
        (-15, None, {"is_cancelled": True}, ("cancelled", None)),
        (1, FAILED, {"is_cancelled": True}, ("cancelled", None)),
        (75, STOPPED, {"is_stopping": True}, ("again", "worker_stopped")),
        (-9, None, {"is_stopping": True}, ("again", "worker_stopped")),
        (75, STOPPED, {}, ("again", "stopped_from_outside")),
        (1, FAILED, {}, ("failed", "dataset_error")),
        (1, FAILED, {"is_stopping": True}, ("failed", "dataset_error")),
        (1, PASSING, {}, ("accident", "disk_full")),
        (1, BUSY, {}, ("again", "folder_busy")),
        (1, CLOCK, {}, ("again", "clock_went_back")),
        (-9, None, {}, ("accident", "process_killed")),
        (-11, None, {}, ("accident", "process_crashed")),
        (-15, None, {}, ("accident", "process_crashed")),
        (1, None, {}, ("failed", "process_failed")),
        (0, None, {}, ("failed", "process_failed")),
        (-9, None, {"garbled": Garbled("g")}, ("failed", "events_unreadable")),
        (0, DONE, {"garbled": Garbled("g")}, ("failed", "events_unreadable")),
    ],
)
def test_what_an_end_means(
    exit_code: int, end: End | None, more: dict[str, Any], expected: tuple[str, str | None]
) -> None:
    found = verdict(Outcome(exit_code=exit_code, end=end, **more))
    if isinstance(found, Ending):
        assert (found.state.value, found.code) == expected
        assert (found.message is None) == (found.state is not JobState.FAILED)
    else:
        assert isinstance(found, Again)
        assert ("accident" if found.is_accident else "again", found.code) == expected
