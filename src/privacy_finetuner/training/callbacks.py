"""`transformers.TrainerCallback`s around a private run.

The events come in the order in which `transformers.Trainer` sends them, and `TrainerControl` is
obeyed. A callback sees what is public or released: the noisy gradients, the model after private
steps, the learning rate, the released figures of an epoch, scores on the *public* `eval_dataset`.
It is given no batch, no loss of a step and no unclipped gradient: `train_dataloader` is `None`, and
hooks on the model or its weights are refused. A callback is the caller's own code all the same:
what it does beside these events is up to who wrote it.

======================  ==========================================================================
`TrainerControl`        what it does here
======================  ==========================================================================
`should_training_stop`  the run ends in order after this step, with a model and a report. Such a
                        stop may follow from what was released, so the price is that of
                        the whole plan (`DPTrainingPlan.priced_steps`)
`should_save`           a checkpoint now
`should_evaluate`       the public `eval_dataset` is scored now; without one, nothing
`should_log`            `on_log` with the newest released figures
`should_epoch_stop`     refused: with Poisson sampling there is no epoch to cut short
======================  ==========================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.training import loop
from privacy_finetuner.training.loop import Run, StepRecord

__all__ = ["Callbacks"]

# Of two scores of a public evaluation the better one is: these grow, everything else falls.
_GROWING: Final = ("accuracy",)
_HOOKS: Final = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_post_accumulate_grad_hooks",
)


class Callbacks:
    """The callbacks of one run.

    Args:
        callbacks: instances or classes, called in this order.
        metric_for_best_model: the public score by which `TrainerState.best_metric` is kept, which
            `EarlyStoppingCallback` reads.

    Raises:
        ConfigurationError: something that is not a `TrainerCallback`; nothing was started.
    """

    def __init__(self, callbacks: Sequence[Any], metric_for_best_model: str = "loss") -> None:
        made = [each() if isinstance(each, type) else each for each in callbacks]
        for each in made:
            if not isinstance(each, TrainerCallback):
                raise ConfigurationError(
                    f"callbacks holds a {type(each).__name__}, expected transformers callbacks; "
                    "nothing was started"
                )
        self._callbacks = made
        self._metric = metric_for_best_model

    def around(self, run: Run, steps: Iterator[StepRecord]) -> Iterator[StepRecord]:
        """Send the events of a run around its steps; ends early when a callback asks for it."""
        if not self._callbacks:
            yield from steps
            return
        events = _Events(self._callbacks, run, metric=self._metric)
        with events.optimizer_observed():
            events.send("on_init_end")
            events.send("on_train_begin")
            events.begin_step()
            for step in steps:
                events.end_step(step)
                yield step
                if events.control.should_training_stop or step.step >= step.steps:
                    break
                events.begin_step()
            events.send("on_train_end")


class _Events:
    """Sends events with the state that `transformers` documents."""

    def __init__(self, callbacks: Sequence[TrainerCallback], run: Run, *, metric: str) -> None:
        self._callbacks = callbacks
        self._run = run
        self._arguments = _arguments(run, metric)
        self._metric = metric.removeprefix("eval_")
        self._evaluations = len(run.state.evaluations)
        self._epochs = len(run.state.epochs)
        self._saved = run.record.state.checkpoint
        self._hooks = _hooks_of(run.loaded.model)
        self.control = TrainerControl()
        self.state = TrainerState(
            max_steps=run.plan.steps,
            num_train_epochs=math.ceil(run.plan.steps / run.steps_per_epoch),
            global_step=run.state.step,
            epoch=run.state.step / run.steps_per_epoch,
            train_batch_size=run.plan.expected_batch_size,
            eval_steps=run.training.eval_steps,
            save_steps=run.training.save_steps,
            logging_steps=run.steps_per_epoch,
            is_hyper_param_search=False,
        )

    def optimizer_observed(self) -> _Hooks:
        """Send the events before and after each update, when gradients are noisy already."""
        return _Hooks(
            self._run.update.optimizer,
            before=lambda: self.send("on_pre_optimizer_step"),
            after=lambda: self.send("on_optimizer_step"),
        )

    def begin_step(self) -> None:
        control = self.control
        control.should_log = control.should_evaluate = control.should_save = False
        if self._run.state.step % self._run.steps_per_epoch == 0:
            self.send("on_epoch_begin")
        self.send("on_step_begin")
        if _hooks_of(self._run.loaded.model) != self._hooks:
            raise ConfigurationError(
                "a callback put hooks on the model or its weights (as wandb.watch does), which "
                "could see gradients before the noise; take them off, for instance with "
                "WANDB_WATCH=false; the next step was not taken"
            )

    def end_step(self, step: StepRecord) -> None:
        run = self._run
        self.state.global_step = step.step
        self.state.epoch = step.step / run.steps_per_epoch
        self.send("on_step_end")
        epoch_ended = len(run.state.epochs) > self._epochs
        if epoch_ended:
            self.send("on_epoch_end")
        if epoch_ended or self.control.should_log:
            self._log(step)
        self._evaluate()
        self._save()
        self._epochs = len(run.state.epochs)

    def send(self, event: str, **details: Any) -> None:
        for callback in self._callbacks:
            answer = getattr(callback, event)(
                self._arguments,
                self.state,
                self.control,
                model=self._run.loaded.model,
                processing_class=self._run.loaded.tokenizer,
                optimizer=self._run.update.optimizer,
                lr_scheduler=None,
                train_dataloader=None,
                eval_dataloader=None,
                **details,
            )
            if answer is not None:
                self.control = answer
        if self.control.should_epoch_stop:
            raise ConfigurationError(
                "a callback set should_epoch_stop, and Poisson batches have no epoch to cut short: "
                "use should_training_stop; what was trained so far is saved at the next checkpoint "
                "and stays charged"
            )

    def _log(self, step: StepRecord) -> None:
        logs: dict[str, Any] = {"learning_rate": step.learning_rate, "clip_norm": step.clip_norm}
        if self._run.state.epochs:
            released = asdict(self._run.state.epochs[-1])
            logs |= {name: released[name] for name in ("loss", "accuracy", "epsilon")}
        self._keep(logs)
        self.send("on_log", logs=logs)

    def _evaluate(self) -> None:
        run = self._run
        if self.control.should_evaluate and len(run.state.evaluations) == self._evaluations:
            loop.evaluate(run)
        for scores in run.state.evaluations[self._evaluations :]:
            metrics = {f"eval_{name}": score for name, score in scores.items() if name != "step"}
            self._keep(metrics)
            self.send("on_evaluate", metrics=metrics)
            self._keep_best(metrics)
        self._evaluations = len(run.state.evaluations)

    def _save(self) -> None:
        run = self._run
        if self.control.should_save and run.state.step < run.plan.steps:
            loop.save(run)
        if run.record.state.checkpoint != self._saved:
            self._saved = run.record.state.checkpoint
            self.send("on_save")

    def _keep(self, figures: dict[str, Any]) -> None:
        self.state.log_history.append({**figures, "step": self.state.global_step})

    def _keep_best(self, metrics: dict[str, Any]) -> None:
        """After `on_evaluate`, as in `transformers`: a callback compares with the one before."""
        score = metrics.get(f"eval_{self._metric}")
        best = self.state.best_metric
        if score is None or not math.isfinite(score):
            return
        grows = self._arguments.greater_is_better
        if best is None or (score > best if grows else score < best):
            self.state.best_metric = score
            self.state.best_global_step = self.state.global_step


class _Hooks:
    """Calls around `optimizer.step`, for as long as it is entered."""

    def __init__(
        self, optimizer: Any, *, before: Callable[[], None], after: Callable[[], None]
    ) -> None:
        self._optimizer, self._before, self._after = optimizer, before, after
        self._handles: list[Any] = []

    def __enter__(self) -> None:
        self._handles = [
            self._optimizer.register_step_pre_hook(lambda *_: self._before()),
            self._optimizer.register_step_post_hook(lambda *_: self._after()),
        ]

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()


def _hooks_of(model: Any) -> int:
    """How many functions torch would call while a step runs."""
    holders = [*model.modules(), *model.parameters()]
    return sum(len(getattr(holder, name, None) or ()) for holder in holders for name in _HOOKS)


def _arguments(run: Run, metric: str) -> TrainingArguments:
    """What a callback may read about the configuration; all of it public."""
    training = run.training
    cadence: dict[str, Any] = {"eval_strategy": "no"}
    if training.eval_steps is not None:
        cadence = {"eval_strategy": "steps", "eval_steps": training.eval_steps}
    return TrainingArguments(
        output_dir=str(run.folder),
        max_steps=run.plan.steps,
        learning_rate=float(run.update.training.learning_rate),
        weight_decay=training.weight_decay,
        save_steps=training.save_steps,
        metric_for_best_model=metric,
        greater_is_better=metric.removeprefix("eval_") in _GROWING,
        use_cpu=run.loaded.device.type == "cpu",
        report_to=[],
        **cadence,
    )
