"""Utility over epsilon, with intervals and the frontier."""

from __future__ import annotations

import math
from itertools import groupby
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

if TYPE_CHECKING:
    from privacy_finetuner.assessment.benchmark_results import BenchmarkPoint, BenchmarkResult

_COLOURS = ("#2f6fb2", "#c2571a", "#3d8b54", "#8a4fa0", "#7a6a00")
"""Five that differ in lightness too, for print and for colour-blind readers."""


def frontier_figure(result: BenchmarkResult) -> Figure:
    """One line a model over a logarithmic epsilon; without privacy at the right edge.

    Bars are 95 % intervals of the mean; rings mark the frontier.
    """
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.subplots()
    finite = [p.epsilon for p in result.points if math.isfinite(p.epsilon)]
    edge = 4 * max(finite, default=1.0)
    metric = result.utility_metric
    shown = [p for p in result.points if metric in p.figures]
    for colour, (name, group) in zip(
        _COLOURS * len(shown), groupby(shown, key=lambda p: p.model), strict=False
    ):
        points = sorted(group, key=lambda p: p.epsilon)
        places = [min(p.epsilon, edge) for p in points]
        means = [p.figures[metric].mean for p in points]
        below, above = zip(*[_bar(p, metric) for p in points], strict=True)
        axes.errorbar(
            places,
            means,
            yerr=(below, above),
            color=colour,
            marker="o",
            ms=5,
            capsize=3,
            label=name,
        )
        rings = [(x, y) for x, y, p in zip(places, means, points, strict=True) if p.is_on_frontier]
        axes.scatter(
            [x for x, _ in rings], [y for _, y in rings], s=110, facecolors="none",
            edgecolors=colour, linewidths=1.5,
        )  # fmt: skip
    axes.set_xscale("log")
    ticks = sorted({*finite, *([edge] if any(math.isinf(p.epsilon) for p in shown) else [])})
    axes.set_xticks(ticks, [_label(tick, edge) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("epsilon of the training (less is more private)")
    axes.set_ylabel(metric.replace("_", " "))
    axes.set_title("Utility and privacy: rings are on the frontier", loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    if shown:
        axes.legend(frameon=False)
    return figure


def _bar(point: BenchmarkPoint, metric: str) -> tuple[float, float]:
    found = point.figures[metric]
    if found.repetitions < 2:
        return 0.0, 0.0
    return found.mean - found.low, found.high - found.mean


def _label(tick: float, edge: float) -> str:
    return "no privacy" if tick == edge else f"{tick:g}"
