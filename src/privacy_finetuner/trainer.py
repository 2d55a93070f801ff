"""`PrivateTrainer`: fine-tune a language model on private text, and say what it cost.

This is the facade. The story of a run is `training/session.py`; what is promised is
`training/plan.py`; the private step is `training/dp_step.py`. torch is loaded on first use, so that
`import privacy_finetuner` stays cheap.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
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
    CheckpointError,
    ConfigurationError,
    PrivacyBudgetExhaustedException,
)
from privacy_finetuner.results import (
    EvaluationResult,
    PrivacyGuarantees,
    PrivacyReport,
    PrivacySpent,
    TrainingHistory,
    TrainingResult,
)
from privacy_finetuner.training.privacy_book import PrivacyBook, Release
from privacy_runtime.files import write_atomic
from privacy_runtime.world import Clock, Entropy, SystemClock, SystemEntropy

if TYPE_CHECKING:
    from privacy_finetuner.training.models import LoadedModel
    from privacy_finetuner.training.plan import DPTrainingPlan
    from privacy_finetuner.training.session import OpenedRun

PRIVACY_STATE = "privacy_state.json"
PRIVACY_REPORT = "privacy_report.json"
TRAINING_RESULT = "training_result.json"
STATE_VERSION = 1

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
        self._rounds = 0
        self._trained_on = ""
        self._book, self._evaluation_book = PrivacyBook(), PrivacyBook()
        for book in (self._book, self._evaluation_book):
            book.grant(
                privacy_config.epsilon,
                privacy_config.delta,
                reason="privacy configuration",
                at=self._now(),
            )

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
        account = self._account_for(target_epsilon, target_delta)
        privacy = self._run_privacy(
            account.left_for(job_id),
            max_grad_norm=max_grad_norm,
            noise_multiplier=noise_multiplier,
            target_epsilon=target_epsilon,
            target_delta=target_delta,
        )
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
        self._book, self._loaded, self._plan = account, loaded, plan
        self._trained_on = data.fingerprint
        self._history = TrainingHistory(opened.run.state.epochs, opened.run.state.evaluations)
        try:
            session.drive(opened, options.on_step)
        finally:
            self._record_training(opened, job_id)
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
        book = self._book if is_training_set else self._evaluation_book
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
        plan, book = self._plan, self._book
        last = self._history.epochs[-1] if self._history.epochs else None
        return PrivacyReport(
            privacy_spent=book.spent,
            privacy_remaining=book.remaining,
            lifetime_spent=book.lifetime,
            training_rounds=self._rounds,
            gradient_norm_stats={
                "mean_norm": last.mean_gradient_norm if last else None,
                "mean_norm_std": last.mean_gradient_norm_std if last else None,
                "clipping_rate": last.clipping_rate if last else None,
                "clipping_rate_std": last.clipping_rate_std if last else None,
                "clip_norm": last.clip_norm if last else None,
            },
            noise_injection_stats={
                "noise_multiplier": plan.noise_multiplier if plan else None,
                "gradient_noise_multiplier": plan.gradient_noise_multiplier if plan else None,
                "count_noise_multiplier": plan.count_noise_multiplier if plan else None,
                "statistics_noise_multiplier": plan.statistics_noise_multiplier if plan else None,
                "generator": _generator_name(plan) if plan else None,
            },
            theoretical_guarantees=_guarantees(plan, self._steps_charged) if plan else None,
            event=dp_events.to_json(plan.event(self._steps_charged)) if plan else None,
            grants=book.to_json()["grants"],
            releases=book.to_json()["releases"],
        )

    def save_model(self, path: str, include_privacy_state: bool = True) -> None:
        """Save model and tokenizer; with the privacy state, what was granted and spent as well."""
        from privacy_finetuner.training.models import save_model

        save_model(self._model(None), Path(path))
        if include_privacy_state:
            write_atomic(Path(path) / PRIVACY_STATE, _json_bytes(self._state_document()))

    def load_model(self, path: str, restore_privacy_state: bool = True) -> None:
        """Load a model; with the privacy state, continue its account instead of a fresh one.

        What this object has released so far is kept in the account as well.

        Raises:
            ModelLoadError: no model there.
            CheckpointError: the privacy state is missing, damaged or of another version. The
                trainer is as it was.
        """
        from privacy_finetuner.training import inputs

        books = _read_books(Path(path)) if restore_privacy_state else None
        self._loaded = inputs.load(path, device=self.device)
        self.model_name = path
        if books is not None:
            training, evaluations = books
            training.keep_releases_of(self._book)
            evaluations.keep_releases_of(self._evaluation_book)
            self._book, self._evaluation_book = training, evaluations

    def reset_privacy_budget(
        self, new_epsilon: float, new_delta: float, *, reason: str = "reset_privacy_budget"
    ) -> None:
        """Grant a new budget, explicitly and for the record.

        What was spent before stays in `lifetime_spent`: the people in the data are protected by
        the lifetime total, not by what was spent since the last grant.
        """
        checked = PrivacyConfig(epsilon=new_epsilon, delta=new_delta)
        self._book.grant(checked.epsilon, checked.delta, reason=reason, at=self._now())

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

    def _account_for(self, target_epsilon: float | None, target_delta: float | None) -> PrivacyBook:
        """The account with a run's targets granted: a draft, until the run has been opened."""
        config, account = self.privacy_config, self._book.copy()
        if target_epsilon is not None or target_delta is not None:
            asked = PrivacyConfig(
                epsilon=config.epsilon if target_epsilon is None else target_epsilon,
                delta=config.delta if target_delta is None else target_delta,
            )
            account.raise_to(
                asked.epsilon, asked.delta, reason="target given to train()", at=self._now()
            )
        return account

    def _run_privacy(
        self,
        left: PrivacySpent,
        *,
        max_grad_norm: float,
        noise_multiplier: float | None,
        target_epsilon: float | None,
        target_delta: float | None,
    ) -> PrivacyConfig:
        """The configuration of one run: its overrides, within what is left."""
        config = self.privacy_config
        if left.epsilon <= 0 or left.delta <= 0:
            raise PrivacyBudgetExhaustedException(
                epsilon_requested=target_epsilon or config.epsilon,
                epsilon_remaining=left.epsilon,
                delta_requested=target_delta or config.priced_delta,
                delta_remaining=left.delta,
            )
        return replace(
            config,
            epsilon=left.epsilon if target_epsilon is None else target_epsilon,
            delta=left.delta if target_delta is None else target_delta,
            target_delta=None if target_delta is not None else min(config.priced_delta, left.delta),
            max_grad_norm=config.max_grad_norm if max_grad_norm == 1.0 else max_grad_norm,
            noise_multiplier=config.noise_multiplier
            if noise_multiplier is None
            else noise_multiplier,
        )

    def _open_job(self, folder: Path, options: TrainOptions) -> str:
        from privacy_finetuner.training.run_record import read_state

        earlier = read_state(folder) if options.resume else None
        return earlier.job_id if earlier is not None else self._entropy.token_bytes(8).hex()

    def _record_training(self, opened: OpenedRun, job_id: str) -> None:
        """Charge what the run record says, however the run ended."""
        plan, charged = opened.run.plan, opened.run.record.state.charged_steps
        self._steps_charged, self._rounds = charged, opened.run.state.step
        if charged:
            self._book.add(
                Release(
                    what="training",
                    job_id=job_id,
                    epsilon=plan.epsilon(charged),
                    delta=plan.delta,
                    at=self._now(),
                    event=dp_events.to_json(plan.event(charged)),
                )
            )

    def _finish(self, opened: OpenedRun, job_id: str, duration_s: float) -> TrainingResult:
        """Write what a finished run leaves behind, and return it."""
        from privacy_finetuner.training.certificate import FILE_NAME as CERTIFICATE
        from privacy_finetuner.training.certificate import certificate_of

        run, plan = opened.run, opened.run.plan
        notes = [*run.loaded.notes, *opened.notes]
        if plan.delta * plan.examples > 1:
            notes.append(
                f"delta {plan.delta:g} is above 1/n for n = {plan.examples} records: such a delta "
                "permits publishing some record whole; choose one well below 1/n"
            )
        if self.enable_context_guard:
            notes.append(
                "no redaction was applied: ContextGuard is not part of this version; what protects "
                "the records is the differential privacy of training"
            )
        result = TrainingResult(
            final_model=run.loaded.model,
            training_history=self._history,
            privacy_spent=PrivacySpent(epsilon=plan.epsilon(self._steps_charged), delta=plan.delta),
            checkpoints=[str(path) for path in opened.checkpoints()],
            output_dir=str(run.folder),
            job_id=job_id,
            steps=plan.steps,
            sample_rate=plan.sampling_probability,
            noise_multiplier=plan.noise_multiplier,
            clip_norm=run.state.clip_norm,
            guarantee=plan.guarantee(self._steps_charged),
            duration_s=duration_s,
            engine=opened.engine,
            examples=len(run.dataset),
            truncated=run.dataset.truncated,
            dropped=run.dataset.dropped,
            unsupervised=run.dataset.unsupervised,
            notes=notes,
        )
        self.save_model(str(run.folder))
        certificate = certificate_of(
            plan,
            charged_steps=self._steps_charged,
            folder=run.folder,
            engine=opened.engine,
            record_head=run.record.head,
        )
        write_atomic(run.folder / CERTIFICATE, _json_bytes(certificate))
        write_atomic(run.folder / PRIVACY_REPORT, _json_bytes(self.get_privacy_report().to_dict()))
        write_atomic(run.folder / TRAINING_RESULT, _json_bytes(result.to_dict()))
        if plan.steps < plan.steps_asked:
            raise PrivacyBudgetExhaustedException(
                epsilon_requested=plan.epsilon(plan.steps + 1),
                epsilon_remaining=self._book.remaining.epsilon,
                delta_requested=plan.delta,
                delta_remaining=self._book.remaining.delta,
                state=f"stopped before step {plan.steps + 1} of {plan.steps_asked}; "
                f"the model and its report are in {run.folder}",
                result=result,
            )
        return result

    def _state_document(self) -> dict[str, Any]:
        return {
            "version": STATE_VERSION,
            "training": self._book.to_json(),
            "evaluations": self._evaluation_book.to_json(),
        }


def _read_books(folder: Path) -> tuple[PrivacyBook, PrivacyBook]:
    """The accounts of training and of evaluations that a folder holds."""
    path = folder / PRIVACY_STATE
    try:
        state = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path} is missing; load with restore_privacy_state=False to start a new account"
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: the privacy state is damaged") from error
    if not isinstance(state, dict) or state.get("version") != STATE_VERSION:
        raise CheckpointError(f"{path} has another version, expected {STATE_VERSION}")
    return PrivacyBook.from_json(state.get("training")), PrivacyBook.from_json(
        state.get("evaluations")
    )


def _guarantees(plan: DPTrainingPlan, steps: int) -> PrivacyGuarantees:
    return PrivacyGuarantees(
        epsilon=plan.epsilon(steps),
        delta=plan.delta,
        noise_multiplier=plan.noise_multiplier,
        sample_rate=plan.sampling_probability,
        steps=steps,
        accountant=plan.accountant,
        relation=plan.relation,
        unit=plan.unit,
    )


def _generator_name(plan: DPTrainingPlan) -> str:
    return "AES-256-CTR" if plan.secure_rng else "torch generator, not cryptographic"


def _json_bytes(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=1, default=str).encode()
