"""A job as its page shows it: curves, a timeline, files. Made from events; nothing is invented."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from privacy_finetuner.dashboard.charts import Chart, Draw, Series
from privacy_finetuner.dashboard.languages import marked
from privacy_finetuner.dashboard.site import Asked
from privacy_finetuner.jobs import EventKind, Job, JobEvent, JobState
from privacy_finetuner.service import Service
from privacy_runtime.identity import Scope

EVENTS_MOST: Final = 20_000
_PAGE: Final = 1000
_CURVE: Final = 2
"""Fewer points are no curve; the newest figure stands above."""
_TONES: Final = {
    "succeeded": "good",
    "failed": "bad",
    "cancelled": "warn",
    "running": "info",
}
_REASONS: Final = {
    "submitted": marked("accepted"),
    "cancel_requested": marked("cancelling was asked for"),
    "worker_lost": marked("its worker died; the next one goes on from the checkpoint"),
    "lease_lost": marked("its worker died; the next one goes on from the checkpoint"),
    "claimed": marked("a worker took it"),
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a job's timeline."""

    at: datetime
    text: str
    tone: str = ""
    detail: str = ""


def events_of(service: Service, job: Job) -> list[JobEvent]:
    """The events of a job, all of them up to a bound that no run of this product reaches."""
    found: list[JobEvent] = []
    while len(found) < EVENTS_MOST:
        after = found[-1].seq if found else 0
        page = service.jobs.events(job.id, tenant=job.tenant, after=after, limit=_PAGE)
        found += page
        if len(page) < _PAGE:
            break
    return found


def visible(asked: Asked, events: Iterable[JobEvent]) -> list[JobEvent]:
    """Those that this reader may see: exact figures are for a scope of their own."""
    if asked.may(Scope.RESULTS_OUTSIDE_GUARANTEE):
        return list(events)
    return [each for each in events if each.kind is not EventKind.EXACT]


def curves(asked: Asked, job: Job, events: Sequence[JobEvent]) -> list[Chart]:
    """Epsilon by step, released loss by epoch, and what else was released or is public."""
    charts = [_epsilon(asked, job, events)]
    charts += _released(asked, events)
    if asked.may(Scope.RESULTS_OUTSIDE_GUARANTEE):
        charts += _exact(asked, events)
    return charts


def _epsilon(asked: Asked, job: Job, events: Sequence[JobEvent]) -> Chart:
    points = _points(events, EventKind.STEP, "step", "epsilon")
    steps = [0.0, *(x for x, _ in points)] if points else []
    values: list[float | None] = [0.0, *(y for _, y in points)] if points else []
    series = [Series(label=asked.say(marked("epsilon so far")), values=values, draw=Draw.STEP)]
    if job.epsilon_planned:
        cap: list[float | None] = [job.epsilon_planned] * len(steps)
        label = asked.say(marked("price of the whole plan"))
        series.append(Series(label=label, values=cap, draw=Draw.CAP))
    return Chart(
        name="chart-epsilon",
        title=asked.say(marked("Epsilon by step")),
        x_label=asked.say(marked("step")),
        y_label="ε",
        x=steps,
        series=series,
        note=asked.say(
            marked(
                "The price of a run that was planned to end at each step. A run that was planned "
                "to go on and stops early costs its whole plan."
            )
        ),
    )


def _released(asked: Asked, events: Sequence[JobEvent]) -> list[Chart]:
    shown = (
        ("loss", marked("Training loss"), EventKind.EPOCH),
        ("accuracy", marked("Training accuracy"), EventKind.EPOCH),
    )
    charts = []
    for key, title, kind in shown:
        points = _points(events, kind, "epoch", key)
        if len(points) < _CURVE:
            continue
        charts.append(
            Chart(
                name=f"chart-{key}",
                title=asked.say(title),
                x_label=asked.say(marked("epoch")),
                y_label=asked.say(title),
                x=[x for x, _ in points],
                series=[Series(label=asked.say(marked("released")), values=[y for _, y in points])],
                note=asked.say(marked("Released with noise, and paid for: inside the guarantee.")),
                y_from_zero=False,
            )
        )
    points = _points(events, EventKind.EVALUATION, "step", "loss")
    if len(points) >= _CURVE:
        charts.append(
            Chart(
                name="chart-evaluation",
                title=asked.say(marked("Loss on public records")),
                x_label=asked.say(marked("step")),
                x=[x for x, _ in points],
                series=[
                    Series(
                        label=asked.say(marked("public records")),
                        values=[y for _, y in points],
                        colour=3,
                    )
                ],
                note=asked.say(marked("Exact: the records are public, so it costs nothing.")),
                y_from_zero=False,
            )
        )
    return charts


def _exact(asked: Asked, events: Sequence[JobEvent]) -> list[Chart]:
    points = _points(events, EventKind.EXACT, "step", "loss")
    if not points:
        return []
    return [
        Chart(
            name="chart-exact",
            title=asked.say(marked("Exact loss, outside the guarantee")),
            x_label=asked.say(marked("step")),
            x=[x for x, _ in points],
            series=[
                Series(label=asked.say(marked("exact")), values=[y for _, y in points], colour=2)
            ],
            note=asked.say(
                marked(
                    "Computed from private records without noise. The guarantee does not cover it: "
                    "do not pass it on."
                )
            ),
            y_from_zero=False,
        )
    ]


def _points(
    events: Iterable[JobEvent], kind: EventKind, x: str, y: str
) -> list[tuple[float, float]]:
    """Places and values, each place once: a resumed run repeats none, a later figure wins."""
    found: dict[float, float] = {}
    for each in events:
        at, value = _number(each.body.get(x)), _number(each.body.get(y))
        if each.kind is kind and at is not None and value is not None:
            found[at] = value
    return sorted(found.items())


def _number(value: Any) -> float | None:
    """A figure of an event; `None` for whatever is none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else None


def timeline(asked: Asked, events: Sequence[JobEvent]) -> list[Line]:
    """The story of a job in lines: its states and what it left."""
    lines = []
    for each in events:
        if each.kind is not EventKind.STATE:
            continue
        state, reason = str(each.body.get("state", "")), str(each.body.get("reason") or "")
        text = asked.say(_STATES.get(state, state))
        detail = asked.say(_REASONS[reason]) if reason in _REASONS else reason.replace("_", " ")
        attempt = each.body.get("attempt")
        if attempt and int(attempt) > 1:
            said = asked.say(marked("attempt %(n)s")) % {"n": attempt}
            detail = f"{detail}, {said}" if detail else said
        lines.append(Line(each.at, text, _TONES.get(state, ""), detail))
    return lines


_STATES: Final = {
    JobState.QUEUED.value: marked("queued"),
    JobState.RUNNING.value: marked("running"),
    JobState.SUCCEEDED.value: marked("succeeded"),
    JobState.FAILED.value: marked("failed"),
    JobState.CANCELLED.value: marked("cancelled"),
}


def dataset_name(service: Service, job: Job) -> str:
    """What people call a job's data set: no path of this machine is shown."""
    return _name(service, job.spec.dataset, [service.homes.datasets, *service.deployment.datasets])


def model_name(service: Service, job: Job) -> str:
    """What people call a job's model."""
    return _name(service, job.spec.model, [service.homes.models, *service.deployment.models])


def _name(service: Service, text: str, roots: Sequence[Path]) -> str:
    path = Path(text)
    if not path.is_absolute():
        return text
    sample = service.catalogue.sample
    if path.is_relative_to(sample):
        return f"sample:{path.stem}"
    for root in roots:
        if path.is_relative_to(root):
            return path.relative_to(root).as_posix()
    return path.name


def fault_of(job: Job) -> str:
    """Why a job failed, with the organisation's accounts as its people write them."""
    text = job.error or ""
    for prefix in (f"protection/{job.tenant}:", f"{job.tenant}:"):
        text = text.replace(prefix, "")
    return text.replace(f"quota/{job.tenant}", "quota")


def names_of_people(asked: Asked) -> dict[str, str]:
    """Ids of users with their names, where the reader may know them."""
    if not asked.may(Scope.USERS_READ):
        return {}
    return {each.id: each.name for each in asked.service.identity.accounts.users(asked.who)}


def person(asked: Asked, names: dict[str, str], subject: str) -> str:
    """A person as this reader may know them."""
    if subject == asked.who.subject:
        return asked.say(marked("you"))
    return names.get(subject, subject[:12])
