"""What a private run returns.

Every figure here is inside the guarantee: it was either public, or released by a mechanism that
the plan priced. The two exceptions carry their own flag (`outside_guarantee`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from privacy_core.guarantee import Guarantee, NeighbouringRelation, PrivacyUnit

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacySpent:
    """An amount of privacy budget."""

    epsilon: float
    delta: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacyGuarantees:
    """What a training scenario would guarantee, before anything is run.

    `epsilon` is an upper bound. `epsilon_theoretical` is the same number under the documented name:
    the price of the event. It carries no confidence level, because it is not an estimate.
    """

    epsilon: float
    delta: float
    noise_multiplier: float
    sample_rate: float
    steps: int
    accountant: str
    relation: NeighbouringRelation
    unit: PrivacyUnit

    @property
    def epsilon_theoretical(self) -> float:
        """The price of the event: an upper bound on epsilon."""
        return self.epsilon

    @property
    def guarantee(self) -> Guarantee:
        """The four numbers that belong together."""
        return Guarantee(
            epsilon=self.epsilon, delta=self.delta, relation=self.relation, unit=self.unit
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """What is released about one epoch (n / expected batch size steps).

    `epsilon` is what a run of exactly `step` steps costs, decided before it began. It is no price
    of stopping here: a run that was planned longer costs its plan, wherever it stops.

    `loss`, `accuracy`, `mean_gradient_norm` and `clipping_rate` are noisy releases; `*_std` is the
    standard deviation of the noise in each, so that a reader sees what a difference means. `loss`
    is the mean over examples of min(loss, log(number of classes)). `clipping_rate` is `None`
    without adaptive clipping, where nothing about it is released.
    """

    epoch: int
    step: int
    epsilon: float
    loss: float
    loss_std: float
    accuracy: float
    accuracy_std: float
    mean_gradient_norm: float
    mean_gradient_norm_std: float
    clipping_rate: float | None
    clipping_rate_std: float | None
    clip_norm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAccount:
    """What a finished run was planned as and charged: enough to price it again.

    `plan` and `event` are JSON-ready, `record_head` is the hash of the last entry of the run record
    in `folder`, and `parameters` are SHA-256 digests of what was trained, by name.
    """

    plan: Mapping[str, Any]
    event: Mapping[str, Any]
    charged_steps: int
    record_head: str
    folder: str
    parameters: Mapping[str, str]


@dataclass(slots=True)
class TrainingHistory:
    """The released course of a run, one entry an epoch, oldest first.

    `run` is set when the run has finished. `audit` is for an audit's document, where one was made:
    it is outside the guarantee.
    """

    epochs: list[EpochRecord] = field(default_factory=list)
    evaluations: list[Mapping[str, Any]] = field(default_factory=list)
    run: RunAccount | None = None
    audit: Mapping[str, Any] | None = None

    @property
    def loss(self) -> list[float]:
        """Training loss of each epoch, released with noise inside the guarantee."""
        return [epoch.loss for epoch in self.epochs]

    @property
    def accuracy(self) -> list[float]:
        """Training accuracy of each epoch (tokens or labels), released with noise."""
        return [epoch.accuracy for epoch in self.epochs]

    @property
    def epsilon(self) -> list[float]:
        """Upper bound on epsilon of a run planned to end with each epoch."""
        return [epoch.epsilon for epoch in self.epochs]

    @property
    def clip_norm(self) -> list[float]:
        """Clip norm at the end of each epoch."""
        return [epoch.clip_norm for epoch in self.epochs]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacyReport:
    """What was promised, what was spent, what is left.

    `privacy_spent` counts since the last grant; `lifetime_spent` never goes down. Where a ledger is
    charged, these three are its account's, by whatever process, `ledger` holds the rest of what it
    says (which scope is the guarantee, reservations, head), and `grants` and `releases` are only
    what this object knows of. `distribution` is how the plan spreads over epochs and steps.
    """

    privacy_spent: PrivacySpent
    privacy_remaining: PrivacySpent
    lifetime_spent: PrivacySpent
    training_rounds: int
    gradient_norm_stats: Mapping[str, float | None]
    noise_injection_stats: Mapping[str, float | str | None]
    theoretical_guarantees: PrivacyGuarantees | None
    event: Mapping[str, Any] | None
    grants: Sequence[Mapping[str, Any]] = ()
    releases: Sequence[Mapping[str, Any]] = ()
    ledger: Mapping[str, Any] | None = None
    distribution: Mapping[str, Any] | None = None

    @property
    def gradient_stats(self) -> Mapping[str, float | None]:
        """`gradient_norm_stats` under the name that the REST document uses."""
        return self.gradient_norm_stats

    def to_dict(self) -> dict[str, Any]:
        """Write the report as JSON-ready data."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationResult:
    """Metrics of a model on a data set.

    With `outside_guarantee` true the figures are exact and computed from the records as they are:
    they may be shown to those who may see the records. With it false they were released with
    Gaussian noise, and `privacy_spent` says what that cost the people in *this* data set.
    """

    accuracy: float
    loss: float
    perplexity: float | None
    examples: int
    outside_guarantee: bool
    privacy_spent: PrivacySpent
    accuracy_std: float = 0.0
    loss_std: float = 0.0
    metrics: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Write the result as JSON-ready data."""
        return asdict(self)


@dataclass(slots=True, kw_only=True)
class TrainingResult:
    """A trained model with the course of its training and the price of it.

    `truncated`, `dropped` and `unsupervised` are exact counts of private records and `duration_s`
    depends on them: they are outside the guarantee, for those who hold the records. `to_dict`
    leaves the counts out unless they are asked for.
    """

    final_model: PreTrainedModel
    training_history: TrainingHistory
    privacy_spent: PrivacySpent
    checkpoints: list[str]
    output_dir: str
    job_id: str
    steps: int
    sample_rate: float
    noise_multiplier: float
    clip_norm: float
    guarantee: Guarantee
    duration_s: float
    engine: str
    examples: int
    truncated: int = 0
    dropped: int = 0
    unsupervised: int = 0
    notes: list[str] = field(default_factory=list)

    def to_dict(self, *, include_outside_guarantee: bool = False) -> dict[str, Any]:
        """Write everything but the model as JSON-ready data."""
        counts = {
            "truncated": self.truncated,
            "dropped": self.dropped,
            "unsupervised": self.unsupervised,
        }
        return {
            **({"outside_guarantee": counts} if include_outside_guarantee else {}),
            "job_id": self.job_id,
            "output": self.output_dir,
            "epsilon": self.privacy_spent.epsilon,
            "delta": self.privacy_spent.delta,
            "relation": self.guarantee.relation.value,
            "unit": self.guarantee.unit.value,
            "noise_multiplier": self.noise_multiplier,
            "sample_rate": self.sample_rate,
            "steps": self.steps,
            "clip_norm": self.clip_norm,
            "examples": self.examples,
            "engine": self.engine,
            "duration_s": self.duration_s,
            "notes": list(self.notes),
            "checkpoints": list(self.checkpoints),
            "history": [asdict(epoch) for epoch in self.training_history.epochs],
        }
