"""The picture of a comparison: epsilon over noise by scheme, and the error of every alternative."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from privacy_core.accounting import epsilon_of, scheme_event
from privacy_core.errors import InvalidParameter, UnsupportedEvent
from privacy_finetuner.cli.comparison import (
    ACCOUNTANTS,
    CORRELATED,
    SAMPLING,
    USERS,
    Comparison,
    RunSizes,
    schemes_of,
)

SUFFIXES: Final = (".png", ".svg", ".pdf")
_POINTS: Final = 9
_COLOURS: Final = {
    SAMPLING: "#2f6690",
    ACCOUNTANTS: "#8d99ae",
    CORRELATED: "#3a7d44",
    USERS: "#b5651d",
}
_CURVES: Final = ("#2f6690", "#b5651d", "#8d99ae", "#3a7d44", "#7a4988", "#111111")
STYLE: Final[dict[str, Any]] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}


def require_picture(path: Path) -> None:
    """Refuse a file name that says no format, before anything is computed.

    Raises:
        InvalidParameter: the suffix is none of `SUFFIXES`, or there is no such folder.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InvalidParameter(
            "plot", found=path.name, expected=f"a file that ends in {', '.join(SUFFIXES)}"
        )
    if not path.parent.is_dir():
        raise InvalidParameter("plot", found=str(path), expected="a file in a folder that exists")


def draw(comparison: Comparison, path: Path) -> None:
    """Write the picture. An existing file is replaced.

    Raises:
        InvalidParameter: see `require_picture`.
        OSError: the file cannot be written.
    """
    require_picture(path)
    bars = [row for row in comparison.alternatives if row.relative_error is not None]
    with rc_context(STYLE):
        figure = Figure(figsize=(11, max(4.2, 1.4 + 0.3 * len(bars))), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
        _epsilon_over_noise(left, comparison)
        _errors(right, comparison)
        figure.suptitle(_title(comparison.sizes), fontsize=11)
        seen = {row.group for row in bars}
        figure.legend(
            [Patch(color=colour) for group, colour in _COLOURS.items() if group in seen],
            [group for group in _COLOURS if group in seen],
            loc="outside lower right",
            ncols=len(seen),
            fontsize=9,
        )
        figure.savefig(path, dpi=120)


def _title(sizes: RunSizes) -> str:
    relation = sizes.relation.value.replace("_", " ")
    return (
        f"{sizes.examples:,} records, batches of {sizes.batch_size:,}, {sizes.steps:,} steps, "
        f"target ({sizes.epsilon:g}, {sizes.delta:g}), {relation}"
    )


def _epsilon_over_noise(axes: Any, comparison: Comparison) -> None:
    sizes, yardstick = comparison.sizes, comparison.noise_multiplier
    highest = max(
        [yardstick]
        + [
            row.noise_multiplier
            for row in comparison.alternatives
            if row.group == SAMPLING and row.noise_multiplier is not None
        ]
    )
    low, high = 0.7 * yardstick, max(2.5 * yardstick, 1.3 * highest)
    noises = [low * (high / low) ** (k / (_POINTS - 1)) for k in range(_POINTS)]
    for colour, (name, scheme, schedule, _) in zip(_CURVES, schemes_of(sizes), strict=False):
        try:
            prices = [
                epsilon_of(
                    scheme_event(scheme, schedule, noise_multiplier=noise),
                    sizes.delta,
                    relation=sizes.relation,
                )
                for noise in noises
            ]
        except UnsupportedEvent:
            continue
        # Curves can coincide: every other one is dashed, so that both are seen.
        dashed = name.startswith("poisson,")
        axes.plot(noises, prices, color=colour, lw=2, ls="--" if dashed else "-", label=name)
    axes.axhline(sizes.epsilon, color="#111111", lw=1, ls=":")
    axes.annotate(
        f"target {sizes.epsilon:g}",
        (low, sizes.epsilon),
        xytext=(0, -12),
        textcoords="offset points",
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("noise multiplier")
    axes.set_ylabel("epsilon")
    axes.set_title("What the same noise costs, by scheme", fontsize=10)
    axes.legend(fontsize=9)


def _errors(axes: Any, comparison: Comparison) -> None:
    rows = [
        (row, row.relative_error)
        for row in comparison.alternatives
        if row.relative_error is not None and math.isfinite(row.relative_error)
    ]
    furthest = 1.0
    for place, (row, error) in enumerate(rows):
        axes.barh(place, error, color=_COLOURS[row.group], height=0.7)
        most, label = error, f"{error:.2f}"
        if row.noise_multiplier_most is not None:
            most = row.noise_multiplier_most / comparison.noise_multiplier
            axes.barh(
                place, most - error, left=error, color=_COLOURS[row.group], alpha=0.35, height=0.7
            )
            label = f"{error:.2f} to {most:.2f}"
        axes.annotate(
            label,
            (most, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )
        furthest = max(furthest, most)
    axes.axvline(1, color="#111111", lw=1, ls=":")
    axes.set_yticks(range(len(rows)), [row.name for row, _ in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 1.22 * furthest)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("error of the sum of updates, Poisson by pld = 1")
    axes.set_title("What the target asks for, by alternative", fontsize=10)
