"""What a benchmark measured: means with intervals, and which points no other one beats."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy

from privacy_finetuner.assessment.frontier_plot import frontier_figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The mean over repetitions, with the 95 % interval of Student's t; one alone has none."""

    mean: float
    low: float
    high: float
    repetitions: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Measured:
        """Of the figures of each repetition."""
        mean, count = float(np.mean(values)), len(values)
        if count < 2:
            return cls(mean=mean, low=-math.inf, high=math.inf, repetitions=count)
        half = float(scipy.stats.t.ppf(0.975, count - 1)) * float(np.std(values, ddof=1))
        half /= math.sqrt(count)
        return cls(mean=mean, low=mean - half, high=mean + half, repetitions=count)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkPoint:
    """One model at one budget; `epsilon` is infinite without privacy. Larger losses are worse."""

    model: str
    baseline: str
    epsilon: float
    figures: Mapping[str, Measured]
    is_on_frontier: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkResult:
    """What a benchmark measured. Outside the guarantee."""

    points: tuple[BenchmarkPoint, ...]
    utility_metric: str
    notes: tuple[str, ...]
    outside_guarantee: bool = field(default=True, init=False)

    @property
    def pareto_frontier(self) -> tuple[BenchmarkPoint, ...]:
        """Points that no other beats in epsilon and mean utility at once."""
        return tuple(point for point in self.points if point.is_on_frontier)

    def plot_pareto_frontier(self, path: str | Path | None = None) -> Any:
        """Draw utility over epsilon with intervals; returns the figure, and saves it to `path`."""
        figure = frontier_figure(self)
        if path is not None:
            figure.savefig(path, bbox_inches="tight")
        return figure

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data; an infinite number is `None`."""
        return {
            "outside_guarantee": True,
            "utility_metric": self.utility_metric,
            "notes": list(self.notes),
            "points": [_finite(asdict(point)) for point in self.points],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacyEvaluationResult:
    """What theory promises and what an audit found, side by side.

    `empirical_epsilon` is a lower bound, `None` where nobody audited; that it is below the
    theoretical one proves nothing. `verified` is that of `PrivacyValidator`.
    """

    theoretical_epsilon: float
    empirical_epsilon: float | None
    delta: float
    verified: bool
    findings: tuple[str, ...]
    faults: tuple[str, ...]


def with_frontier(points: Sequence[BenchmarkPoint], metric: str) -> tuple[BenchmarkPoint, ...]:
    """Mark the points that no other one beats in epsilon and mean utility at once."""
    sign = -1.0 if metric == "loss" else 1.0

    def utility(point: BenchmarkPoint) -> float:
        found = point.figures.get(metric)
        return -math.inf if found is None else sign * found.mean

    def is_beaten(point: BenchmarkPoint) -> bool:
        return any(
            other.epsilon <= point.epsilon
            and utility(other) >= utility(point)
            and (other.epsilon, utility(other)) != (point.epsilon, utility(point))
            for other in points
        )

    return tuple(
        BenchmarkPoint(
            model=point.model,
            baseline=point.baseline,
            epsilon=point.epsilon,
            figures=point.figures,
            is_on_frontier=not is_beaten(point),
        )
        for point in points
    )


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
