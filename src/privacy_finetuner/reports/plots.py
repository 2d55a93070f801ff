"""Plots as SVG to stand inside a page: no pyplot, no global state, colours of the page.

Figures are drawn with marker colours that are replaced by the page's CSS variables, so that one
picture is right in the light and in the dark.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from privacy_finetuner.training.plan import DPTrainingPlan

_INK, _LINE, _ONE, _TWO = "#111111", "#222222", "#333301", "#333302"
_COLOURS: Final = {
    _INK: "currentColor",
    _LINE: "var(--line)",
    _ONE: "var(--series-1)",
    _TWO: "var(--series-2)",
}
_STYLE: Final[dict[str, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "privacy-finetuner",
    "font.size": 10,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _LINE,
    "grid.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "legend.frameon": False,
}
_POINTS: Final = 24


def epsilon_over_steps(plan: DPTrainingPlan, charged_steps: int, budget: float | None) -> Markup:
    """Epsilon after each step, up to the plan's end, with the budget as a line."""
    last = max(plan.steps, charged_steps)
    steps = sorted({0, charged_steps, *(round(last * k / _POINTS) for k in range(_POINTS + 1))})
    epsilons = [plan.epsilon(step) for step in steps]
    taken = [k for k, step in enumerate(steps) if step <= charged_steps]
    with rc_context(_STYLE):
        figure, axes = _axes("step", "epsilon spent")
        axes.plot([steps[k] for k in taken], [epsilons[k] for k in taken], color=_ONE, lw=2)
        if charged_steps < last:
            rest = range(taken[-1], len(steps))
            axes.plot(
                [steps[k] for k in rest], [epsilons[k] for k in rest], color=_ONE, lw=1.5, ls=":"
            )
        if budget is not None and math.isfinite(budget):
            axes.axhline(budget, color=_TWO, lw=1.5, ls="--")
            axes.annotate(
                f"budget {budget:g}", (0, budget), xytext=(4, -12), textcoords="offset points"
            )
        axes.set_xlim(0, last * 1.02)
        axes.set_ylim(0, max([*epsilons, budget or 0.0]) * 1.12)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        return _svg(figure, "epsilon")


def released_course(
    epochs: Sequence[Mapping[str, Any]], name: str, label: str, *, is_noisy: bool = True
) -> Markup:
    """One released figure of every epoch, with the noise in it as bars of two deviations."""
    x = [epoch["epoch"] for epoch in epochs]
    y = [epoch[name] for epoch in epochs]
    with rc_context(_STYLE):
        figure, axes = _axes("epoch", label)
        if is_noisy:
            spread = [2 * epoch[f"{name}_std"] for epoch in epochs]
            bars = {"ecolor": _TWO, "elinewidth": 1.5, "capsize": 4}
            axes.errorbar(x, y, yerr=spread, color=_ONE, lw=2, marker="o", **bars)
        else:
            axes.plot(x, y, color=_ONE, lw=2, marker="o")
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.set_xlim(min(x) - 0.5, max(x) + 0.5)
        if axes.get_ylim()[0] < 0.5 * axes.get_ylim()[1]:
            # None of these can be negative, only the bars of their noise.
            axes.set_ylim(bottom=0)
        return _svg(figure, name)


def canary_ranks(ranks: Mapping[str, Sequence[int]], candidates: int) -> Markup:
    """How high each planted secret ranks among the candidates that an attacker would try."""
    with rc_context(_STYLE):
        figure, axes = _axes("rank of the true secret (1 = the attacker's first guess)", "")
        figure.set_figheight(1.3 + 0.5 * len(ranks))
        for row, values in enumerate(ranks.values()):
            # Spread by position, not by chance: equal ranks stay visible and the page repeatable.
            heights = [row + 0.36 * ((k * 0.618034) % 1 - 0.5) for k in range(len(values))]
            axes.plot(
                values, heights, "o", ms=6, alpha=0.75, color=_TWO if row % 2 else _ONE, mew=0
            )
        axes.axvline((candidates + 1) / 2, color=_INK, lw=1, ls=":")
        axes.set_xscale("log")
        axes.set_xlim(0.8, candidates * 1.3)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_yticks(range(len(ranks)), list(ranks))
        axes.set_ylim(len(ranks) - 0.5, -0.5)
        return _svg(figure, "ranks")


def audit_numbers(rows: Sequence[tuple[str, float, float, float]]) -> Markup:
    """For each bound of an audit: certified, findable and claimed epsilon, on one line."""
    with rc_context(_STYLE):
        figure, axes = _axes("epsilon", "")
        figure.set_figheight(1.6 + 0.5 * len(rows))
        for row, (_, found, ceiling, claim) in enumerate(rows):
            label = row == 0
            axes.plot(
                [0, found], [row, row], color=_ONE, lw=5, label="certified" if label else None
            )
            axes.plot(
                ceiling, row, "D", color=_INK, ms=6, label="an ideal attacker" if label else None
            )
            if math.isfinite(claim):
                axes.plot(
                    claim, row, "|", color=_TWO, ms=18, mew=3, label="claimed" if label else None
                )
        axes.set_xlim(left=0)
        axes.set_yticks(range(len(rows)), [name for name, *_ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        figure.legend(loc="outside upper center", ncols=3)
        return _svg(figure, "numbers")


def score_histogram(
    edges: Sequence[float], inside: Sequence[int], outside: Sequence[int]
) -> Markup:
    """Scores of canaries that were in, and of those that were out."""
    with rc_context(_STYLE):
        figure, axes = _axes("score: higher looks more like trained on", "canaries")
        for counts, colour, label in ((inside, _ONE, "in"), (outside, _TWO, "out")):
            axes.stairs(counts, edges, color=colour, lw=1.5, label=label)
            axes.stairs(counts, edges, color=colour, fill=True, alpha=0.25)
        axes.legend()
        return _svg(figure, "scores")


def _axes(x_label: str, y_label: str) -> tuple[Any, Any]:
    figure = Figure(figsize=(5.0, 2.9), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return figure, axes


def _svg(figure: Any, name: str) -> Markup:
    """The figure as an inline element: no addresses, its own identifiers, the page's colours."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r'(<svg[^>]*?) (?:width|height)="[^"]*"', r"\1", text)
    text = re.sub(r'(<svg[^>]*?) (?:width|height)="[^"]*"', r"\1", text)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = text.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    for marker, colour in _COLOURS.items():
        text = text.replace(marker, colour)
    text = text.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1)
    # Made by matplotlib from numbers and our own labels; its text nodes are escaped by its writer.
    return Markup(text)  # noqa: S704
