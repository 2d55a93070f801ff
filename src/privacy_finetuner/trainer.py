"""`PrivateTrainer`: fine-tune a language model on private text, and say what it cost.

This is the facade. The story of a run is `training/session.py`; what is promised is
`training/plan.py`; the private step is `training/dp_step.py`. torch is loaded on first use, so that
`import privacy_finetuner` stays cheap.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from privacy_core import dp_events
from privacy_core.guarantee import PrivacyUnit
from privacy_finetuner.config import (
    PerformanceFlags,
    PrivacyConfig,
    Source,
    TrainingConfig,
    TrainOptions,
)
from privacy_finetuner.errors import (
    ConfigurationError,
    PrivacyBudgetExhaustedException,
)
from privacy_finetuner.results import (
    EvaluationResult,
    PrivacyReport,
    TrainingHistory,
    TrainingResult,
)
from privacy_finetuner.training.accounts import Accounts, RunTargets, draft, run_privacy
from privacy_finetuner.training.privacy_book import Release
from privacy_runtime.world import Clock, Entropy, SystemClock, SystemEntropy

if TYPE_CHECKING:
    from privacy_finetuner.training.models import LoadedModel
    from privacy_finetuner.training.plan import DPTrainingPlan
    from privacy_finetuner.training.session import OpenedRun

_NO_REDACTION = (
    "no redaction was applied: ContextGuard is not part of this version; what protects the records "
    "is the differential privacy of training"
)

# An evaluation without a price of its own gets this share of the configured epsilon.
_EVALUATION_SHARE = 0.1


class PrivateTrainer:
    """Fine-tunes a language model with differential privacy (DP-SGD).

    Guarantee: everything that `train` writes, returns or prints is covered by the (epsilon, delta)
    it reports, under the relation and unit it reports. What is not is named: exact evaluations,
    the counts `truncated`, `dropped` and `unsupervised` of a result, and the duration of a run.

    Args:
        model_name: Hugging Face name, or a folder with a model.
        privacy_config: the budget of the data set, and how it is accounted.
        device: `"auto"` (also `None`), `"cpu"`, `"cuda"`, `"mps"`.
        use_mcp_gateway: permits data sets at `mcp://` addresses. The gateway is not part of this
            version: such an address is refused.
        enable_context_guard: asks for redaction before training. ContextGuard is not part of this
            version: texts are used as they are, and the result says so in its `notes`.
        clock, entropy: the outside world; only tests replace them.
    """

    def __init__(
        self,
        model_name: str,
        privacy_config: PrivacyConfig,
        device: str | None = None,
        use_mcp_gateway: bool = True,
        enable_context_guard: bool = True,
        *,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
    ) -> None:
        self.model_name = model_name
        self.privacy_config = privacy_config
        self.device = device or "auto"
        self.use_mcp_gateway = use_mcp_gateway
        self.enable_context_guard = enable_context_guard
        self._clock = clock or SystemClock()
        self._entropy = entropy or SystemEntropy()
        self._loaded: LoadedModel | None = None
        self._plan: DPTrainingPlan | None = None
        self._history = TrainingHistory()
        self._steps_charged = 0
        self._trained_on = ""
        self._accounts = Accounts.opened(privacy_config, at=self._now())

    def train(  # noqa: PLR0913 -- the documented signature
        self,
        dataset: Source,
        epochs: float = 3,
        batch_size: int = 8,
        learning_rate: float = 5e-5,
        max_grad_norm: float = 1.0,
        noise_multiplier: float | None = None,
        target_epsilon: float | None = None,
        target_delta: float | None = None,
        save_steps: int = 500,
        eval_steps: int | None = None,
        output_dir: str = "./privacy_finetuned_model",
        **kwargs: Any,
    ) -> TrainingResult:
        """Fine-tune on private records within the budget.

        Args:
            dataset: path, list of records, or `datasets.Dataset` (see `training.records`).
            epochs: expected passes over the records.
            batch_size: expected size of the Poisson batches; a public constant.
            learning_rate: peak learning rate.
            max_grad_norm: clip norm; 1.0 means that of the privacy configuration.
            noise_multiplier: overrides that of the configuration.
            target_epsilon: budget of this run; raises the trainer's budget where it is higher.
            target_delta: delta of this run.
            save_steps: a checkpoint every so many steps.
            eval_steps: score `eval_dataset` every so many steps.
            output_dir: model, checkpoints, run record, report.
            **kwargs: see `TrainOptions`; an unknown name is a `TypeError`.

        Raises:
            PrivacyBudgetExhaustedException: the budget is spent, or ended the run early: then
                everything is saved, and `result` holds it.
            ModelTrainingException: interrupted, or the loss is not finite.
            ConfigurationError, DatasetError, ModelLoadError, UnsupportedLayer: nothing was spent.
        """
        from privacy_finetuner.training import inputs, session
        from privacy_finetuner.training.evaluation import public_evaluation
        from privacy_finetuner.training.outcome import release_of
        from privacy_finetuner.training.plan import make_plan

        options = TrainOptions.read(kwargs)
        training = TrainingConfig(
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            optimizer=options.optimizer,  # type: ignore[arg-type]  # TrainingConfig checks it
            weight_decay=options.weight_decay,
            lr_schedule=options.lr_schedule,  # type: ignore[arg-type]  # likewise
            warmup_steps=options.warmup_steps,
            save_steps=save_steps,
            eval_steps=eval_steps,
            max_length=options.max_length,
            clip_rule=options.clip_rule,  # type: ignore[arg-type]  # likewise
        )
        unit = self._check(options, training)
        folder = Path(output_dir)
        job_id, started = self._open_job(folder, options), self._clock.monotonic_s()
        targets = RunTargets(
            epsilon=target_epsilon,
            delta=target_delta,
            max_grad_norm=None if max_grad_norm == 1.0 else max_grad_norm,
            noise_multiplier=noise_multiplier,
        )
        account = draft(self._accounts.training, self.privacy_config, targets, at=self._now())
        privacy = run_privacy(self.privacy_config, targets, account.left_for(job_id))
        loaded, data = inputs.prepare(
            dataset,
            options,
            model_name=session.resume_point(folder, self.model_name, resume=options.resume),
            adopted=None if options.resume else self._loaded,
            device=self.device,
        )
        plan = make_plan(
            privacy,
            training,
            examples=len(data),
            unit=unit,
            max_examples_per_user=options.max_examples_per_user or 1,
            must_fit=target_epsilon is not None,
        )
        account.require(plan.epsilon(), plan.delta, job_id=job_id)
        opened = session.open_run(
            plan=plan,
            training=training,
            flags=PerformanceFlags(micro_batch_tokens=options.micro_batch_tokens),
            loaded=loaded,
            dataset=data,
            folder=folder,
            job_id=job_id,
            entropy=self._entropy,
            resume=options.resume,
            evaluate=public_evaluation(options, loaded),
            keep_checkpoints=options.keep_checkpoints,
        )
        self._accounts.training, self._loaded, self._plan = account, loaded, plan
        self._trained_on = data.fingerprint
        self._history = TrainingHistory(opened.run.state.epochs, opened.run.state.evaluations)
        try:
            session.drive(opened, options.on_step)
        finally:
            self._steps_charged = opened.run.record.state.charged_steps
            release = release_of(opened, job_id, at=self._now())
            if release is not None:
                account.add(release)
        return self._finish(opened, job_id, self._clock.monotonic_s() - started)

    def evaluate(
        self,
        dataset: Source,
        batch_size: int = 8,
        privacy_safe: bool = True,
        *,
        epsilon: float | None = None,
        delta: float | None = None,
        **kwargs: Any,
    ) -> EvaluationResult:
        """Score the model on records.

        ================  =================================================================
        `privacy_safe`    the figures are
        ================  =================================================================
        true              released with Gaussian noise; the price (`epsilon`, by default a
                          tenth of the configuration's) is charged to *these* records:
                          to one account for all evaluation sets, which may overlap, or to
                          the training account when they are this object's training records
        false             exact, marked `outside_guarantee`: for public records, or for
                          people who may see the records anyway
        ================  =================================================================

        Raises:
            PrivacyBudgetExhaustedException: the budget of these records is spent; nothing was
                computed.
        """
        from privacy_finetuner.training import evaluation, inputs

        options = TrainOptions.read(kwargs)
        loaded = self._model(options.task)
        data = inputs.read_data(dataset, options, loaded)
        tokens = max(1, batch_size) * max(1, int(data.lengths.max()))
        if not privacy_safe:
            return evaluation.exact_evaluation(loaded, data, max_tokens=tokens)
        price = _EVALUATION_SHARE * self.privacy_config.epsilon if epsilon is None else epsilon
        slack = _EVALUATION_SHARE * self.privacy_config.delta if delta is None else delta
        is_training_set = data.fingerprint == self._trained_on
        accounts = self._accounts
        book = accounts.training if is_training_set else accounts.evaluations
        act = self._entropy.token_bytes(8).hex()
        book.require(price, slack, job_id=act)
        result, event = evaluation.released_evaluation(
            loaded,
            data,
            price,
            slack,
            entropy=self._entropy,
            max_tokens=tokens,
            relation=self.privacy_config.relation,
            examples_per_unit=self._examples_per_unit(options, is_training_set=is_training_set),
        )
        book.add(
            Release(
                what="evaluation",
                job_id=act,
                epsilon=price,
                delta=slack,
                at=self._now(),
                event=dp_events.to_json(event),
            )
        )
        return result

    def generate(self, prompt: str, *, max_new_tokens: int = 64, temperature: float = 0.0) -> str:
        """Continue a prompt with the model. Post-processing: costs nothing."""
        from privacy_finetuner.training.generation import generate

        return generate(
            self._model(None),
            prompt,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=int.from_bytes(self._entropy.token_bytes(4)) if temperature > 0 else None,
        )[0]

    def get_privacy_report(self) -> PrivacyReport:
        """What was promised, spent and left; every figure public or released."""
        from privacy_finetuner.training.outcome import report_of

        return report_of(
            self._accounts.training, self._plan, self._history, charged_steps=self._steps_charged
        )

    def save_model(self, path: str, include_privacy_state: bool = True) -> None:
        """Save model and tokenizer; with the privacy state, what was granted and spent as well."""
        from privacy_finetuner.training.models import save_model

        save_model(self._model(None), Path(path))
        if include_privacy_state:
            self._accounts.write(Path(path))

    def load_model(self, path: str, restore_privacy_state: bool = True) -> None:
        """Load a model; with the privacy state, continue its account instead of a fresh one.

        What this object has released so far is kept in the account as well.

        Raises:
            ModelLoadError: no model there.
            CheckpointError: the privacy state is missing, damaged or of another version. The
                trainer is as it was.
        """
        from privacy_finetuner.training import inputs

        accounts = Accounts.read(Path(path)) if restore_privacy_state else None
        self._loaded = inputs.load(path, device=self.device)
        self.model_name = path
        if accounts is not None:
            accounts.keep_releases_of(self._accounts)
            self._accounts = accounts

    def reset_privacy_budget(
        self, new_epsilon: float, new_delta: float, *, reason: str = "reset_privacy_budget"
    ) -> None:
        """Grant a new budget, explicitly and for the record.

        What was spent before stays in `lifetime_spent`: the people in the data are protected by
        the lifetime total, not by what was spent since the last grant.
        """
        checked = PrivacyConfig(epsilon=new_epsilon, delta=new_delta)
        self._accounts.training.grant(checked.epsilon, checked.delta, reason=reason, at=self._now())

    def _now(self) -> str:
        return self._clock.now().isoformat()

    def _model(self, task: str | None) -> LoadedModel:
        from privacy_finetuner.training import inputs

        if self._loaded is None:
            self._loaded = inputs.load(self.model_name, device=self.device, task=task)
        return self._loaded

    def _examples_per_unit(self, options: TrainOptions, *, is_training_set: bool) -> int:
        """How many records one unit of privacy may have in an evaluation."""
        plan = self._plan if is_training_set else None
        if plan is not None and plan.unit is PrivacyUnit.USER:
            return plan.max_examples_per_user
        if PrivacyUnit(options.unit) is PrivacyUnit.EXAMPLE:
            return 1
        if not (options.user_field and options.max_examples_per_user):
            raise ConfigurationError(
                "unit 'user' needs user_field and max_examples_per_user; nothing was computed"
            )
        return options.max_examples_per_user

    def _check(self, options: TrainOptions, training: TrainingConfig) -> PrivacyUnit:
        unit = PrivacyUnit(options.unit)
        if unit is PrivacyUnit.USER and not (options.user_field and options.max_examples_per_user):
            raise ConfigurationError(
                "unit 'user' needs user_field and max_examples_per_user: the guarantee is priced "
                "for at most that many records of one user; nothing was started"
            )
        if (training.eval_steps is None) != (options.eval_dataset is None):
            raise ConfigurationError(
                "eval_steps and eval_dataset belong together: scores during training are exact, so "
                "they are taken on public records that you name; nothing was started"
            )
        return unit

    def _open_job(self, folder: Path, options: TrainOptions) -> str:
        from privacy_finetuner.training.run_record import read_state

        earlier = read_state(folder) if options.resume else None
        return earlier.job_id if earlier is not None else self._entropy.token_bytes(8).hex()

    def _finish(self, opened: OpenedRun, job_id: str, duration_s: float) -> TrainingResult:
        """Write what a finished run leaves behind, and return it."""
        from privacy_finetuner.training.outcome import result_of, write_outcome

        notes = [_NO_REDACTION] if self.enable_context_guard else []
        result = result_of(opened, self._history, job_id=job_id, duration_s=duration_s, notes=notes)
        plan, folder = opened.run.plan, opened.run.folder
        self.save_model(str(folder))
        write_outcome(opened, result, self.get_privacy_report())
        if plan.steps < plan.steps_asked:
            left = self._accounts.training.remaining
            raise PrivacyBudgetExhaustedException(
                epsilon_requested=plan.epsilon(plan.steps + 1),
                epsilon_remaining=left.epsilon,
                delta_requested=plan.delta,
                delta_remaining=left.delta,
                state=f"stopped before step {plan.steps + 1} of {plan.steps_asked}; "
                f"the model and its report are in {folder}",
                result=result,
            )
        return result
