"""The course of a run on stderr: steps, epsilon so far, time of a step, time to go."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from privacy_finetuner.training.plan import DPTrainingPlan
from privacy_finetuner.training.run_record import read_state
from privacy_runtime.world import Clock

if TYPE_CHECKING:
    from privacy_finetuner.training.loop import StepRecord

# Pricing may take this share of the time of a run at most.
_PRICING_SHARE: Final = 0.05
_LEAST_PAUSE_S: Final = 1.0
_SMOOTHING: Final = 0.9
_LINES: Final = 10


class StepProgress:
    """Shows each step: a live bar on a terminal, ten lines in a log.

    The epsilon shown is priced from the plan in the run record, at most once a second; the live bar
    names the step that it belongs to, so that an older figure cannot pass for the newest.
    """

    def __init__(self, console: Console, folder: Path, clock: Clock) -> None:
        self._console = console
        self._folder = folder
        self._clock = clock
        self._plan: DPTrainingPlan | None = None
        self._epsilon = "..."
        self._priced_step = 0
        self._priced_next_s = 0.0
        self._seen_s: float | None = None
        self._step_s: float | None = None
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("epsilon {task.fields[epsilon]}"),
            TextColumn("{task.fields[pace]}"),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=False,
        )
        self._task = self._bar.add_task("training", total=None, epsilon="...", pace="")

    def __enter__(self) -> Self:
        """Start to show."""
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the last state on the screen."""
        self._bar.stop()

    def __call__(self, record: StepRecord) -> None:
        """Show a step that was taken."""
        now = self._clock.monotonic_s()
        self._measure(now)
        is_last = record.step == record.steps
        if self._console.is_terminal:
            if is_last or now >= self._priced_next_s:
                self._price(record.step, now)
            self._bar.update(
                self._task,
                completed=record.step,
                total=record.steps,
                epsilon=f"{self._epsilon} after step {self._priced_step}",
                pace=self._pace(),
            )
        elif is_last or record.step % max(1, record.steps // _LINES) == 0:
            self._price(record.step, now)
            to_go = (self._step_s or 0.0) * (record.steps - record.step)
            self._console.print(
                f"step {record.step}/{record.steps}  epsilon {self._epsilon}  {self._pace()}  "
                f"ETA {to_go:.0f} s",
                soft_wrap=True,
            )

    def _measure(self, now: float) -> None:
        if self._seen_s is not None:
            took = now - self._seen_s
            before = took if self._step_s is None else self._step_s
            self._step_s = _SMOOTHING * before + (1 - _SMOOTHING) * took
        self._seen_s = now

    def _pace(self) -> str:
        return "" if self._step_s is None else f"{self._step_s:.3g} s/step"

    def _price(self, step: int, now: float) -> None:
        if self._plan is None:
            state = read_state(self._folder)
            if state is None or state.plan is None:
                return
            self._plan = DPTrainingPlan.from_json(dict(state.plan))
        self._epsilon, self._priced_step = f"{self._plan.epsilon(step):.4g}", step
        took = self._clock.monotonic_s() - now
        self._priced_next_s = now + max(_LEAST_PAUSE_S, took / _PRICING_SHARE)
