"""From private records to the best of several trainings, all of it within one epsilon.

`training.search` says what a search costs and what may leave it; here its trials are real: each
loads the model anew, trains it with one candidate's choices in a folder of its own that is removed,
and scores it. The output folder gets the winner alone:

| file                         | when                                                            |
|------------------------------|-----------------------------------------------------------------|
| `search.json`                | before the first trial: what is charged; after: what was found  |
| `.trials/`                   | while trials run; a killed search leaves it: it is outside the  |
|                              | guarantee, delete it                                            |
| model, `privacy_state.json`  | at the end: the best model, and the account it has used up      |
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from privacy_core import dp_events
from privacy_core.dp_events import DpEvent
from privacy_finetuner.config import PerformanceFlags
from privacy_finetuner.errors import ConfigurationError, ModelTrainingException
from privacy_finetuner.training import evaluation, inputs, models, session
from privacy_finetuner.training.accounts import Accounts
from privacy_finetuner.training.datasets import TokenizedDataset
from privacy_finetuner.training.models import LoadedModel
from privacy_finetuner.training.noise import GaussianNoise
from privacy_finetuner.training.plan import DPTrainingPlan
from privacy_finetuner.training.privacy_book import PrivacyBook, Release
from privacy_finetuner.training.search import Search, Trial, private_search, search_each
from privacy_finetuner.training.tuning_plan import Candidate, Tuning, TuningResult, planned
from privacy_runtime.files import write_atomic
from privacy_runtime.world import Clock, Entropy

FILE_NAME: Final = "search.json"
TRIALS: Final = ".trials"


def tune(
    tuning: Tuning,
    folder: Path,
    *,
    entropy: Entropy,
    clock: Clock,
    charge: Callable[[DpEvent], object] | None = None,
) -> TuningResult:
    """Search, and leave the best model in a folder.

    Guarantee: everything that is returned and lies in `folder` afterwards (`.trials` is gone by
    then) is covered by the epsilon and delta of the result together.

    Args:
        tuning: what is asked for.
        folder: where the best model goes.
        entropy: the outside world's chance.
        clock: the outside world's time.
        charge: pays for the whole event elsewhere, as in a ledger, or raises.

    Raises:
        ConfigurationError, DatasetError, ModelLoadError, UnsupportedLayer, CalibrationFailed:
            nothing was spent.
        TrainingInterrupted, ModelTrainingException: all of it is spent, nothing was released.
    """
    if (folder / FILE_NAME).exists():
        raise ConfigurationError(
            f"{folder} holds a search already; choose another output folder; nothing was spent"
        )
    trials = _Trials.prepared(tuning, folder / TRIALS, entropy)
    shutil.rmtree(trials.folder, ignore_errors=True)
    try:
        trials.rehearse()
        result = trials.result(None, ())

        def charged(event: DpEvent) -> None:
            if charge is not None:
                charge(event)
            _write(folder, result, is_finished=False)
            _account(result, at=clock.now().isoformat()).write(folder)

        if trials.search.method == "random":
            best = private_search(
                trials.search, tuning.candidates, trials.run, charge=charged, entropy=entropy
            )
            found = trials.result(best, ())
        else:
            ranked = search_each(trials.search, tuning.candidates, trials.run, charge=charged)
            best = ranked[0] if ranked else None
            found = trials.result(best, ranked)
    finally:
        shutil.rmtree(trials.folder, ignore_errors=True)
    _write(folder, found, is_finished=True)
    if best is None:
        raise ModelTrainingException(
            "no trial of the search came to an end with a finite loss; all of it is charged"
        )
    models.save_model(best.model, folder)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trials:
    """Trainings and scores at one price."""

    tuning: Tuning
    plan: DPTrainingPlan
    search: Search
    data: TokenizedDataset
    folder: Path
    entropy: Entropy
    score_noise: float | None
    score_std: float

    @classmethod
    def prepared(cls, tuning: Tuning, folder: Path, entropy: Entropy) -> _Trials:
        """Read the records, and solve the noise. Only their number is looked at."""
        loaded, data = _prepare(tuning)
        plan, search = planned(tuning, examples=len(data), units=data.unit_count)
        noise = tuning.score_noise_multiplier
        scale = 2**0.5 * (noise or 0.0) * (tuning.options.max_examples_per_user or 1) / len(data)
        if data.task == "causal_lm":
            scale *= evaluation.objective_of(loaded, data).loss_cap
        return cls(
            tuning=tuning,
            plan=plan,
            search=search,
            data=data,
            folder=folder,
            entropy=entropy,
            score_noise=noise,
            score_std=scale,
        )

    def rehearse(self) -> None:
        """Open a run and close it again: what cannot be trained is refused before it is charged."""
        opened = self._open(self.tuning.candidates[0], _prepare(self.tuning)[0], "rehearsal")
        opened.run.gradient.close()
        opened.run.record.close()

    def run(self, candidate: Candidate) -> tuple[float, LoadedModel]:
        """One trial: train, score, and remove every trace but the model."""
        loaded = _prepare(self.tuning)[0]
        opened = self._open(candidate, loaded, self.entropy.token_bytes(8).hex())
        try:
            session.drive(opened)
        finally:
            shutil.rmtree(opened.run.folder, ignore_errors=True)
        return self._score(loaded), loaded

    def result(
        self, best: Trial[Candidate, LoadedModel] | None, ranked: Sequence[Trial[Candidate, Any]]
    ) -> TuningResult:
        """What may be shown of the search."""
        return TuningResult(
            search=self.search,
            epsilon=self.search.epsilon(),
            noise_multiplier=self.plan.noise_multiplier,
            unit=self.plan.unit,
            best=None if best is None else best.candidate,
            score=None if best is None else best.score,
            score_std=self.score_std,
            shown=tuple((trial.candidate, trial.score) for trial in ranked),
        )

    def _open(self, candidate: Candidate, loaded: LoadedModel, name: str) -> session.OpenedRun:
        tuning = self.tuning
        return session.open_run(
            plan=self.plan,
            training=replace(tuning.training, **candidate),
            flags=PerformanceFlags(micro_batch_tokens=tuning.options.micro_batch_tokens),
            loaded=loaded,
            dataset=self.data,
            folder=self.folder / name,
            job_id=name,
            entropy=self.entropy,
            keep_checkpoints=1,
        )

    def _score(self, loaded: LoadedModel) -> float:
        """Higher is better: accuracy of a classifier, minus the loss of a language model."""
        tuning, tokens = self.tuning, self.tuning.options.micro_batch_tokens
        if tuning.public_records is not None:
            public = inputs.read_data(tuning.public_records, tuning.options, loaded)
            scores = evaluation.exact_scores(
                loaded, public, evaluation.objective_of(loaded, public), max_tokens=tokens
            )
        else:
            assert self.score_noise is not None  # noqa: S101  # scores are public, or have noise
            scores = evaluation.released_scores(
                loaded,
                self.data,
                evaluation.objective_of(loaded, self.data),
                noise=GaussianNoise.secure(self.entropy),
                noise_multiplier=self.score_noise * (tuning.options.max_examples_per_user or 1),
                max_tokens=tokens,
            )
        return -scores.loss if self.data.task == "causal_lm" else scores.accuracy


def _prepare(tuning: Tuning) -> tuple[LoadedModel, TokenizedDataset]:
    return inputs.prepare(
        tuning.dataset,
        tuning.options,
        model_name=tuning.model,
        adopted=None,
        device=tuning.device,
    )


def _write(folder: Path, result: TuningResult, *, is_finished: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    document = {**result.to_dict(), "is_finished": is_finished}
    write_atomic(folder / FILE_NAME, json.dumps(document, indent=1).encode())


def _account(result: TuningResult, *, at: str) -> Accounts:
    """The account that goes with the model: granted the search, and used up by it."""
    delta = result.search.delta
    accounts = Accounts(training=PrivacyBook(), evaluations=PrivacyBook())
    for book in (accounts.training, accounts.evaluations):
        book.grant(result.epsilon, delta, reason="private search", at=at)
    accounts.training.add(
        Release(
            what="search",
            job_id=FILE_NAME,
            epsilon=result.epsilon,
            delta=delta,
            at=at,
            event=dp_events.to_json(result.search.event),
        )
    )
    return accounts
