"""`detect`: what a detector says of every row of a file."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Final

import typer

from pipeline_guard.cli import output
from pipeline_guard.detection import SeriesWatch, series_file, watch
from pipeline_guard.detection.choice import Choice, choose
from pipeline_guard.detection.series_file import Finding, Point
from pipeline_guard.detection.stream import profile_of
from pipeline_guard.errors import MonitoringError

AUTO: Final = "auto"
ALARMS_SHOWN: Final = 50


def detect(
    file: Annotated[Path, typer.Argument(help="CSV with the columns timestamp and value.")],
    profile: Annotated[
        str,
        typer.Option(
            help="recall, precision, or auto: the one that does best on the file's own history."
        ),
    ] = "recall",
    threshold: Annotated[
        float | None, typer.Option(help="Score from which a row may alarm. Default: the profile's.")
    ] = None,
    period: Annotated[
        float | None, typer.Option(help="Seconds after which the series repeats (recall only).")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw values and alarms into this file.")
    ] = None,
    as_json: output.Json = False,
) -> None:
    """Score every row of a file, and say which ones alarm.

    Rows are shown to the detector one after the other, as the guard sees them: the first ones are
    learned (`learning`), nothing looks ahead. An alarm informs; it is not a fault.

    Exit codes: 0 the file was looked at, with or without alarms; 2 a wrong option; 3 the file is
    not a series: each fault is named by its line.
    """
    with output.faults_reported(as_json):
        points = series_file.read_series(file)
        watched = _watch(points, profile, threshold, period)
        found = series_file.findings(points, watched)
        if plot is not None:
            _draw(points, found, plot)
        if as_json:
            output.say_json([series_file.to_json(each) for each in found])
        else:
            _show(found, watched)


def _watch(
    points: list[Point], profile: str, threshold: float | None, period: float | None
) -> SeriesWatch:
    if profile != AUTO:
        return watch(profile, threshold=threshold, period_s=period)
    choice = choose([each.time_s for each in points], [each.value for each in points])
    _explain(choice)
    chosen = choice.chosen
    return watch(chosen.profile, threshold=threshold, period_s=period or chosen.period_s)


def _explain(choice: Choice) -> None:
    for trial in choice.trials:
        mark = "*" if trial == choice.chosen else " "
        period = f", period {trial.period_s:.0f} s" if trial.period_s else ""
        sys.stderr.write(
            f"{mark} {trial.profile}{period}: {trial.alarms_per_day:.2f} alarms a day, finds "
            f"{trial.found:.0%} of planted faults\n"
        )


def _show(found: list[Finding], watched: SeriesWatch) -> None:
    alarms = [each for each in found if each.alarm]
    states = Counter(each.state for each in found)
    seen = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    unit = profile_of(watched.profile).unit
    output.say(
        f"{len(found)} rows ({seen}); profile {watched.profile}, threshold {watched.threshold:g} "
        f"({unit}); {len(alarms)} alarms"
    )
    if not alarms:
        return
    width = max(len(each.timestamp) for each in alarms)
    output.say(f"{'timestamp':{width}}  {'value':>14}  {'score':>8}")
    for each in alarms[:ALARMS_SHOWN]:
        value = "inf" if each.value is None else f"{each.value:.6g}"
        output.say(f"{each.timestamp:{width}}  {value:>14}  {each.score:>8.2f}")
    if len(alarms) > ALARMS_SHOWN:
        output.say(f"... and {len(alarms) - ALARMS_SHOWN} more; --json lists all")


def _draw(points: list[Point], found: list[Finding], path: Path) -> None:
    """Values over row numbers with the alarms marked, and the scores below."""
    from matplotlib.figure import Figure  # noqa: PLC0415 -- only where a plot is asked for

    rows = range(len(points))
    alarms = [row for row in rows if found[row].alarm]
    figure = Figure(figsize=(11, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot(rows, [each.value for each in points], linewidth=0.8, color="#35618e")
    above.plot(alarms, [points[row].value for row in alarms], "o", color="#b3261e", label="alarm")
    above.set_ylabel("value")
    above.legend(loc="upper right")
    below.plot(rows, [each.score for each in found], linewidth=0.8, color="#666666")
    below.set_ylabel("score")
    below.set_xlabel(f"row, from {points[0].timestamp} to {points[-1].timestamp}")
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise MonitoringError(
            f"{path} cannot be drawn: expected a writable path that ends in .png, .svg or .pdf; "
            "no plot was written"
        ) from error
