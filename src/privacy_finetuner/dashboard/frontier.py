"""Utility against epsilon, over the finished runs of one data set and model.

Each point is one run. Runs are not repetitions of each other and no interval can be had from one
run, so none is drawn; a difference between two points may be chance.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response

from privacy_finetuner.dashboard.charts import Chart, Draw, Series
from privacy_finetuner.dashboard.job_views import dataset_name, model_name
from privacy_finetuner.dashboard.languages import marked
from privacy_finetuner.dashboard.pages import Pages
from privacy_finetuner.dashboard.site import Asked
from privacy_finetuner.jobs import Job, JobState
from privacy_runtime.identity import Scope

_RUNS: Final = 500
_MEASURES: Final = (
    ("loss", marked("Training loss, released"), False),
    ("accuracy", marked("Training accuracy, released"), True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One run: what it cost and how well it did."""

    job: Job
    epsilon: float
    value: float
    is_best: bool


def register(pages: Pages) -> None:
    """Add the pages of this module."""
    pages.get("/frontier", _frontier, Scope.RESULTS_READ)


def _frontier(asked: Asked) -> Response:
    jobs = asked.service.jobs.find(asked.tenant, states=[JobState.SUCCEEDED], limit=_RUNS)
    groups: defaultdict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        groups[_group(asked, job)].append(job)
    names = list(groups)
    chosen = asked.query.get("runs", "")
    chosen = chosen if chosen in groups else (names[0] if names else "")
    measure = next((m for m in _MEASURES if m[0] == asked.query.get("measure")), _MEASURES[0])
    points = frontier(groups.get(chosen, []), measure[0], is_larger_better=measure[2])
    return asked.show(
        "frontier.html",
        kinds=names,
        chosen=chosen,
        measures=_MEASURES,
        measure=measure[0],
        points=points,
        chart=_chart(asked, points, measure[1]) if points else None,
    )


def _group(asked: Asked, job: Job) -> str:
    return f"{dataset_name(asked.service, job)} · {model_name(asked.service, job)}"


def frontier(jobs: Sequence[Job], measure: str, *, is_larger_better: bool) -> list[Point]:
    """The runs that have the figure, by epsilon; on the frontier is what no cheaper run equals.

    Args:
        jobs: finished runs of one data set and model.
        measure: name of a released figure.
        is_larger_better: as for accuracy; else as for a loss.
    """
    known = [job for job in jobs if measure in job.metrics and job.epsilon > 0]
    points, best = [], None
    for job in sorted(known, key=lambda each: (each.epsilon, each.metrics[measure])):
        value = float(job.metrics[measure])
        gain = value if is_larger_better else -value
        is_best = best is None or gain > best
        best = gain if is_best else best
        points.append(Point(job=job, epsilon=job.epsilon, value=value, is_best=is_best))
    return points


def _chart(asked: Asked, points: Sequence[Point], title: str) -> Chart:
    rest: list[float | None] = [None if each.is_best else each.value for each in points]
    best: list[float | None] = [each.value if each.is_best else None for each in points]
    return Chart(
        name="chart-frontier",
        title=asked.say(title),
        x_label="ε",
        y_label=asked.say(title),
        x=[each.epsilon for each in points],
        series=[
            Series(label=asked.say(marked("on the frontier")), values=best, draw=Draw.DOTS),
            Series(label=asked.say(marked("other runs")), values=rest, draw=Draw.DOTS, colour=2),
        ],
        labels=[each.job.name for each in points],
        note=asked.say(
            marked("One point a run, without intervals: one run has none. A small difference may "
                   "be chance, and the figures themselves were released with noise.")
        ),
        y_from_zero=False,
    )  # fmt: skip
