"""The picture of an account: what was spent and set aside over time, under its cap."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from privacy_finetuner.cli.comparison_plot import STYLE, require_picture
from privacy_runtime.budget_store import Standing

_SPENT: Final = "#2f6690"
_RESERVED: Final = "#a9c6dc"
_CAP: Final = "#b5651d"
_MARGIN: Final = 0.04  # of the time shown, so that the last entry can be seen


def draw(standings: Sequence[Standing], account: str, path: Path) -> None:
    """Write the picture.

    Raises:
        InvalidParameter: the suffix says no format, or there is no such folder.
    """
    require_picture(path)
    standings = [*standings, standings[-1]]
    times: list[Any] = [each.at for each in standings]
    times[-1] += max(timedelta(seconds=1), (times[-1] - times[0]) * _MARGIN)
    spent = [each.epsilon_committed for each in standings]
    held = [each.epsilon_if_all_commit for each in standings]
    caps = [each.epsilon_cap for each in standings]
    with rc_context(STYLE):
        figure = Figure(figsize=(8, 4.2), layout="constrained")
        axes = figure.add_subplot()
        axes.fill_between(times, spent, held, step="post", color=_RESERVED, label="set aside")
        axes.fill_between(times, 0, spent, step="post", color=_SPENT, label="spent")
        axes.step(times, caps, where="post", color=_CAP, linewidth=2, label="cap")
        left = max(0.0, caps[-1] - held[-1])
        axes.set_title(f"{account}: epsilon {left:.3g} of {caps[-1]:.3g} is left", loc="left")
        axes.set_ylabel("epsilon at the account's delta")
        axes.set_ylim(0, 1.12 * max(caps))
        locator = AutoDateLocator()
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        axes.legend(loc="upper left", ncols=3)
        figure.savefig(path, dpi=150)
