"""Logs and traces of a child that trains: the same lines and the same trace as its worker's.

A worker hands on how it logs and traces (`Telemetry`), through the pipe, for an address may hold a
password; and which request, job and span the child belongs to, in its environment. The child writes
its lines to the worker's standard error and not to `job.log`: that holds whatever libraries print
and is for nobody's collector.

Traces tell how long steps took. That depends on the records a little, so they are for the operator,
as the step times of the metrics are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from privacy_runtime import logs, tracing
from privacy_runtime.secret import Secret
from privacy_runtime.world import Clock

if TYPE_CHECKING:
    from privacy_finetuner.training.loop import StepRecord

STEP_S: Final = 1.0
"""How far apart the steps lie that have a span, unless every one has."""
_LAST_SPANS_S: Final = 1.0  # of the three seconds between SIGTERM and SIGKILL


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """How a child logs and traces.

    Attributes:
        level, debug: as `logs.LogOptions` has them.
        endpoint: of the collector of traces; `None`: none.
        service, ratio: as `tracing.install` has them.
        every_step: whether each step has a span; else one a second at most.
        descriptor: where its lines go; `Child.start` fills it in.
    """

    level: str = "info"
    debug: bool = False
    endpoint: str | None = field(default=None, repr=False)
    service: str = "privacy-finetuner"
    ratio: float = 1.0
    every_step: bool = False
    descriptor: int | None = None


@contextmanager
def observed(handed: Telemetry | None, *, secrets: Iterable[Secret]) -> Iterator[None]:
    """Log and trace in this process as its worker said; without a word, do neither.

    What was logged is written, and spans are sent, when the block ends, for a second at most.
    """
    if handed is None or handed.descriptor is None:
        yield
        return
    with ExitStack() as closing:
        stream = closing.enter_context(os.fdopen(handed.descriptor, "w"))
        options = logs.LogOptions(level=handed.level, debug=handed.debug)
        running = logs.install(options, secrets=secrets, stream=stream, context=tracing.current_ids)
        closing.callback(running.close)
        traces = tracing.install(handed.endpoint, service=handed.service, ratio=handed.ratio)
        closing.callback(partial(traces.close, _LAST_SPANS_S))
        closing.enter_context(logs.adopted(os.environ))
        closing.enter_context(tracing.adopted(os.environ))
        yield


def handed_on() -> dict[str, str]:
    """The environment of a child: ours, with the request, the job and the span of this moment."""
    return {**os.environ, **logs.carried(), **tracing.carried()}


class StepSpans:
    """`on_step` that records steps as spans `training.step` beside what it passes on.

    A step's span begins when the step before it was told, so the first one has none.

    Args:
        tell: is passed on to.
        every_step: whether each has one; else one begins a second after the last at the earliest.
        clock: paces.
    """

    def __init__(
        self, tell: Callable[[StepRecord], None], *, every_step: bool, clock: Clock
    ) -> None:
        self._tell, self._every, self._clock = tell, every_step, clock
        self._open: tracing.OpenSpan | None = None
        self._next_s = 0.0

    def __call__(self, step: StepRecord) -> None:
        """Record the step that is over, and pass it on."""
        if self._open is not None:
            self._open.note(step=step.step, steps=step.steps, epoch=step.epoch)
            self._open.end()
            self._open = None
        self._tell(step)
        now_s = self._clock.monotonic_s()
        if self._every or now_s >= self._next_s:
            self._next_s = now_s + STEP_S
            self._open = tracing.begun("training.step")


def read(fields: Mapping[str, object] | None) -> Telemetry | None:
    """What a worker handed on, as it came through the pipe."""
    return None if fields is None else Telemetry(**fields)  # type: ignore[arg-type]  # our own line
