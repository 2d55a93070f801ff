"""`PrivateTrainer`: fine-tune a language model on private text, and say what it cost.

This is the facade. The story of a run is `training/session.py`; what is promised is
`training/plan.py`; the private step is `training/dp_step.py`. torch is loaded on first use, so that
`import privacy_finetuner` stays cheap.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from privacy_finetuner.config import PrivacyConfig
from privacy_finetuner.context.records import RecordRedaction, taken
from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.options import Source, TrainOptions
from privacy_finetuner.results import (
    EvaluationResult,
    PrivacyReport,
    TrainingHistory,
    TrainingResult,
)
from privacy_finetuner.training.accounts import Accounts, RunTargets, named_account
from privacy_finetuner.training.recoverable import recoverable
from privacy_runtime.resources.management import resource_manager
from privacy_runtime.world import Clock, Entropy, SystemClock, SystemEntropy

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from privacy_finetuner.training.ledger_account import LedgerSource
    from privacy_finetuner.training.models import LoadedModel
    from privacy_finetuner.training.plan import DPTrainingPlan
    from privacy_finetuner.training.session import OpenedRun

# An evaluation without a price of its own gets this share of the configured epsilon.
_EVALUATION_SHARE = 0.1


class PrivateTrainer:
    """Fine-tunes a language model with differential privacy (DP-SGD).

    Guarantee: everything that `train` writes, returns or prints is covered by the (epsilon, delta)
    it reports, under the relation and unit it reports; so is `history`, which grows by the epoch.
    What is not is named: exact evaluations, the counts `truncated`, `dropped` and `unsupervised` of
    a result, and the duration of a run.

    Args:
        model_name: Hugging Face name, a folder with a model, or a model object (`transformers` or
            `peft`; what it marks `requires_grad` is trained, in place) with its `tokenizer`.
        privacy_config: the budget of the data set, and how it is accounted.
        device: `"auto"` (also `None`), `"cpu"`, `"cuda"`, `"mps"`.
        use_mcp_gateway: permits data sets at `mcp://SERVER/ADDRESS`, read through the privacy
            gateway with the policy of `PRIVACY_FINETUNER_GATEWAY_POLICY` or `gateway.yaml`.
        enable_context_guard: redact records one by one before they are tokenised, at the level
            `redact` of `train`; `notes` of the result say what was applied: `context.records`.
        ledger: a file, `postgresql://...` or an open `BudgetStore`: every private act is charged
            there, before it happens. `None`: to this object's own account, which goes with it.
        account: of the training records in the ledger: `"hospital-notes/2026"`. An officer opens it
            (`privacy-finetuner budget grant`).
        quota: whose quota in the ledger is charged besides: `"clinic/research/ada/triage"`.
        clock, entropy: the outside world; only tests replace them.

    Raises:
        ConfigurationError: ledger or account are missing, or not there.
    """

    def __init__(  # noqa: PLR0913 -- the documented five, and keywords
        self,
        model_name: str | Path | PreTrainedModel,
        privacy_config: PrivacyConfig,
        device: str | None = None,
        use_mcp_gateway: bool = True,
        enable_context_guard: bool = True,
        *,
        tokenizer: Any = None,
        ledger: LedgerSource | None = None,
        account: str | None = None,
        quota: str | None = None,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
    ) -> None:
        self.privacy_config, self.device = privacy_config, device or "auto"
        self.use_mcp_gateway, self.enable_context_guard = use_mcp_gateway, enable_context_guard
        self.redaction = RecordRedaction() if enable_context_guard else None
        self._clock, self._entropy = clock or SystemClock(), entropy or SystemEntropy()
        self._loaded: LoadedModel | None = None
        if isinstance(model_name, str | Path):
            self.model_name = str(model_name)
        else:
            from privacy_finetuner.training import inputs

            self._loaded = inputs.adopt(model_name, tokenizer, device=self.device)
            self.model_name = self._loaded.base_name
        self._plan: DPTrainingPlan | None = None
        self.history = TrainingHistory()
        self._steps_charged, self._trained_on, self._examples_per_user = 0, "", 1
        self._ledger = named_account(ledger, account, quota, self._clock)
        self._accounts = Accounts.opened(privacy_config, self._ledger, at=self._now())

    @recoverable
    def train(  # noqa: PLR0913 -- the documented signature
        self,
        dataset: Source,
        epochs: float = 3,
        batch_size: int = 8,
        learning_rate: float | Literal["auto"] = 5e-5,
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
            learning_rate: peak learning rate, or `"auto"`: by a rule from public numbers.
            max_grad_norm: clip norm; 1.0 means that of the privacy configuration.
            noise_multiplier: overrides that of the configuration.
            target_epsilon: budget of this run; raises the trainer's budget where it is higher.
            target_delta: delta of this run.
            save_steps: a checkpoint every so many steps.
            eval_steps: score `eval_dataset` every so many steps.
            output_dir: model, checkpoints, run record, report.
            **kwargs: see `TrainOptions`, `recovery` (docs/recovery.md); others are a `TypeError`.

        Raises:
            PrivacyBudgetExhaustedException: the budget is spent, or ended the run early: then
                everything is saved, and `result` holds it.
            ModelTrainingException: interrupted, or the loss is not finite.
            ConfigurationError, DatasetError, ModelLoadError, UnsupportedLayer: nothing was spent.
        """
        from privacy_finetuner.training import inputs, session
        from privacy_finetuner.training.callbacks import Callbacks
        from privacy_finetuner.training.canary_records import audited
        from privacy_finetuner.training.evaluation import public_evaluation
        from privacy_finetuner.training.outcome import release_of
        from privacy_finetuner.training.plan import make_plan
        from privacy_finetuner.training.run_budget import run_budget
        from privacy_finetuner.training.run_record import read_state
        from privacy_finetuner.training.units import unit_of_run

        options = TrainOptions.read(kwargs)
        dataset, options = taken(dataset, options, self.redaction, gateway=self.use_mcp_gateway)
        training = options.training(
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            save_steps=save_steps,
            eval_steps=eval_steps,
        )
        unit = unit_of_run(options, training)
        folder = Path(output_dir)
        earlier = read_state(folder) if options.resume else None
        job_id = earlier.job_id if earlier else self._entropy.token_bytes(8).hex()
        started = self._clock.monotonic_s()
        targets = RunTargets(
            epsilon=target_epsilon,
            delta=target_delta,
            max_grad_norm=None if max_grad_norm == 1.0 else max_grad_norm,
            noise_multiplier=noise_multiplier,
        )
        budget = run_budget(
            self._accounts.training,
            self._ledger,
            self.privacy_config,
            targets,
            job_id=job_id,
            earlier=earlier,
            at=self._now(),
        )
        loaded, data = inputs.prepare(
            dataset,
            options,
            model_name=session.resume_point(folder, self.model_name, resume=options.resume),
            adopted=None if options.resume else self._loaded,
            device=self.device,
        )
        records = data.unit_count if options.user_sampling else len(data)
        data, places = audited(data, loaded, options, training, folder, self._entropy)
        budget, plan = budget.planned(
            lambda privacy: make_plan(
                privacy,
                training,
                examples=records,
                unit=unit,
                # A sampled user contributes one clipped vector, of however many examples.
                max_examples_per_user=(not options.user_sampling and options.max_examples_per_user)
                or 1,
                must_fit=target_epsilon is not None,
                canaries=options.audit_canaries,
            )
        )
        opened = session.open_run(
            plan=plan,
            training=training,
            flags=options.flags(),
            loaded=loaded,
            dataset=data,
            folder=folder,
            job_id=job_id,
            entropy=self._entropy,
            resume=options.resume,
            evaluate=public_evaluation(options, loaded),
            keep_checkpoints=options.keep_checkpoints,
            callbacks=Callbacks(options.callbacks, options.metric_for_best_model),
            meter=budget.meter(plan),
            places=places,
        )
        self._accounts.training, self._loaded, self._plan = budget.book, loaded, plan
        self._trained_on = data.fingerprint
        self._examples_per_user = options.max_examples_per_user or 1
        self.history = TrainingHistory(opened.run.state.epochs, opened.run.state.evaluations)
        try:
            session.drive(opened, options.on_step)
        finally:
            self._steps_charged = opened.run.record.state.charged_steps
            release = release_of(opened, job_id, at=self._now())
            if release is not None:
                budget.book.add(release)
        return self._finish(opened, job_id, self._clock.monotonic_s() - started)

    def evaluate(
        self,
        dataset: Source,
        batch_size: int = 8,
        privacy_safe: bool = True,
        *,
        epsilon: float | None = None,
        delta: float | None = None,
        account: str | None = None,
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

        With a ledger, `account` names that of these records; training records need no name.

        Raises:
            PrivacyBudgetExhaustedException: the budget of these records is spent; nothing was
                computed.
        """
        from privacy_finetuner.training import evaluation, inputs
        from privacy_finetuner.training.evaluation_budget import (
            EvaluationBudget,
            account_of_records,
            require_priced_metrics,
        )
        from privacy_finetuner.training.units import unit_of_evaluation

        options = TrainOptions.read(kwargs)
        dataset, options = taken(dataset, options, self.redaction, gateway=self.use_mcp_gateway)
        loaded = self._model(options.task)
        data = inputs.read_data(dataset, options, loaded)
        tokens = max(1, batch_size) * max(1, int(data.lengths.max()))
        if not privacy_safe:
            return evaluation.exact_evaluation(
                loaded, data, max_tokens=tokens, compute_metrics=options.compute_metrics
            )
        require_priced_metrics(options.compute_metrics)
        price = _EVALUATION_SHARE * self.privacy_config.epsilon if epsilon is None else epsilon
        slack = _EVALUATION_SHARE * self.privacy_config.delta if delta is None else delta
        is_training_set = data.fingerprint == self._trained_on
        unit, examples_per_unit = unit_of_evaluation(
            options, self._plan if is_training_set else None, self._examples_per_user
        )
        budget = EvaluationBudget(
            book=self._accounts.training if is_training_set else self._accounts.evaluations,
            ledger=account_of_records(self._ledger, account, is_training_set=is_training_set),
            act=self._entropy.token_bytes(8).hex(),
            epsilon=price,
            delta=slack,
            relation=self.privacy_config.relation,
            unit=unit,
            now=self._now,
        )
        return evaluation.released_evaluation(
            loaded,
            data,
            price,
            slack,
            entropy=self._entropy,
            max_tokens=tokens,
            relation=self.privacy_config.relation,
            examples_per_unit=examples_per_unit,
            charged=budget.charged,
        )[0]

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
        """What was promised, spent and left, by the ledger if one is named; public or released."""
        from privacy_finetuner.training.outcome import report_of

        return report_of(
            self._accounts.training,
            self._ledger,
            self._plan,
            self.history,
            charged_steps=self._steps_charged,
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
        if self._ledger is not None:
            raise ConfigurationError(
                f"the budget is an account of the ledger, and an officer's to raise: "
                f"{self._ledger.grant_command(self._ledger.scope)}; nothing was granted"
            )
        checked = PrivacyConfig(epsilon=new_epsilon, delta=new_delta)
        self._accounts.training.grant(checked.epsilon, checked.delta, reason=reason, at=self._now())

    def get_resource_status(self) -> dict[str, Any]:
        """What this machine has, what of it is used, promised and short."""
        return resource_manager.get_comprehensive_status()

    def get_system_health(self) -> dict[str, Any]:
        """`healthy`, `degraded` or `critical`: whether a resource of this machine runs out."""
        return resource_manager.get_system_health()

    def _now(self) -> str:
        return self._clock.now().isoformat()

    def _model(self, task: str | None) -> LoadedModel:
        from privacy_finetuner.training import inputs

        if self._loaded is None:
            self._loaded = inputs.load(self.model_name, device=self.device, task=task)
        return self._loaded

    def _finish(self, opened: OpenedRun, job_id: str, duration_s: float) -> TrainingResult:
        """Write what a finished run leaves behind, and return it."""
        from privacy_finetuner.training import outcome

        notes = [] if self.redaction is None else [self.redaction.note]
        result = outcome.result_of(opened, self.history, job_id, duration_s, notes=notes)
        self.save_model(str(opened.run.folder))
        report = self.get_privacy_report()
        outcome.write_outcome(opened, result, report)
        outcome.raise_if_ended_by_budget(opened, result, report.privacy_remaining)
        return result
