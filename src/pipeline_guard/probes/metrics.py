"""Metrics: a figure of the store over a window, against thresholds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final, Literal

from pipeline_guard.config.values import POSITIVE, Within
from pipeline_guard.model import Moment, Reading
from pipeline_guard.probes.inputs import (
    MetricReader,
    ProbeInputs,
    critical,
    ok,
    refused,
    unknown,
    warning,
)

Function = Literal[
    "last_over_time", "avg_over_time", "min_over_time", "max_over_time", "sum_over_time",
    "count_over_time", "stddev_over_time", "quantile_over_time", "delta", "increase", "rate",
    "absent",
]  # fmt: skip
_SILENT: Final = ("absent", "count_over_time")
"""These answer also where there is no series at all."""


@dataclass(frozen=True, kw_only=True)
class MetricProbe:
    """A metric over a window: no series of it is beyond a threshold.

    The worst series counts. A window without an answer is unknown, as `absent` says it: a metric
    that nobody reports any more is not a metric that is well.

    Args:
        metric: its name in the store.
        source: the component whose metric it is; without, that of the check.
        labels: only series with these.
        function: of the window, named after PromQL's.
        window_s: how far back it looks.
        quantile: of `quantile_over_time`, from 0 to 1.
        warn_above, crit_above, warn_below, crit_below: thresholds; at least one.
    """

    metric: str
    source: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    function: Function = "last_over_time"
    window_s: Annotated[float, POSITIVE] = 300.0
    quantile: Annotated[float, Within(0, 1)] | None = None
    warn_above: float | None = None
    crit_above: float | None = None
    warn_below: float | None = None
    crit_below: float | None = None
    _metrics: MetricReader | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse a question without an answer."""
        limits = (self.warn_above, self.crit_above, self.warn_below, self.crit_below)
        if all(limit is None for limit in limits):
            raise refused("crit_above", None, "a threshold: crit_above, crit_below, warn_...")
        if (self.function == "quantile_over_time") != (self.quantile is not None):
            raise refused("quantile", self.quantile, "a share, with quantile_over_time alone")

    def bind(self, inputs: ProbeInputs) -> MetricProbe:
        """With the store.

        Raises:
            ConfigurationError: the guard keeps none.
        """
        if inputs.metrics is None:
            raise refused("metric", self.metric, "a guard with a metrics store (key `store`)")
        return replace(self, source=self.source or inputs.component, _metrics=inputs.metrics)

    def look(self, moment: Moment) -> Reading:
        """Ask the store."""
        if self._metrics is None:
            return unknown("the check was not given the metrics store")
        found = self._metrics.over(
            self.function,
            component=self.source,
            metric=self.metric,
            window_s=self.window_s,
            until_s=moment.at.timestamp(),
            labels=self.labels,
            quantile=self.quantile,
        )
        if not found and self.function in _SILENT:
            found = [({}, 1.0 if self.function == "absent" else 0.0)]
        known = [
            (dict(labels), value)
            for labels, value in found
            if value is not None and not math.isnan(value)
        ]
        words = f"{self.function}({self.metric}[{self.window_s:g}s])"
        if not known:
            return unknown(f"{words} has no answer", evidence={"series": len(found)})
        return self._judged(words, known)

    def _judged(self, words: str, known: list[tuple[dict[str, str], float]]) -> Reading:
        worst = max(known, key=lambda each: self._rank(each[1]))
        labels, value = worst
        more: dict[str, Any] = {
            "evidence": {"value": value, "labels": labels, "series": len(known)}
        }
        shown = f"{words} is {value:g}"
        for above, below, made in (
            (self.crit_above, self.crit_below, critical),
            (self.warn_above, self.warn_below, warning),
        ):
            if above is not None and value > above:
                return made(f"{shown}, above {above:g}", **more)
            if below is not None and value < below:
                return made(f"{shown}, below {below:g}", **more)
        return ok(shown, **more)

    def _rank(self, value: float) -> tuple[int, float]:
        """How bad a value is: by its verdict, then by how far it is from what is well."""
        critical_ = (self.crit_above is not None and value > self.crit_above) or (
            self.crit_below is not None and value < self.crit_below
        )
        warning_ = (self.warn_above is not None and value > self.warn_above) or (
            self.warn_below is not None and value < self.warn_below
        )
        has_above = self.crit_above is not None or self.warn_above is not None
        return (2 if critical_ else 1 if warning_ else 0), value if has_above else -value
