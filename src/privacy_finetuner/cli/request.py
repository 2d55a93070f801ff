"""What `train` was asked for, and the defaults that it derives from the number of records.

The number of records (and of users) is treated as public, as everywhere in this package.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from privacy_core.guarantee import NeighbouringRelation, PrivacyUnit
from privacy_finetuner.cli.options import names_in
from privacy_finetuner.config import PrivacyConfig, TrainingConfig
from privacy_finetuner.training.accounts import LEAST_PART, RunTargets, named_account
from privacy_finetuner.training.plan import DPTrainingPlan, make_plan
from privacy_finetuner.training.sizes import Sizes, default_batch_size, default_delta
from privacy_runtime.world import SystemClock


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """The options of `train`, each under the name of its flag."""

    model: str
    data: Path
    epsilon: float
    output: Path
    delta: float | None = None
    noise_multiplier: float | None = None
    noise: str = "independent"
    accountant: str = "pld"
    relation: str = NeighbouringRelation.ADD_OR_REMOVE_ONE.value
    unit: str = PrivacyUnit.EXAMPLE.value
    user_field: str | None = None
    max_examples_per_user: int | None = None
    user_sampling: bool = False
    clip_norm: float = 1.0
    fixed_clipping: bool = False
    normalise: bool = False
    no_secure_rng: bool = False
    epochs: float = 3.0
    batch_size: int | None = None
    learning_rate: str = "auto"
    adapter: str | None = None
    lora_rank: int | None = None
    base_bits: int | None = None
    optimizer: str = "adamw"
    lr_schedule: str = "constant"
    warmup_steps: int = 0
    weight_decay: float = 0.0
    weight_average: str = "auto"
    gradient: str = "backward"
    directions: int = 1
    views: int = 1
    text_field: str = "text"
    label_field: str = "label"
    label_names: str | None = None
    max_length: int | None = None
    strict: bool = False
    eval_data: Path | None = None
    eval_steps: int | None = None
    save_steps: int = 500
    audit_canaries: int = 0
    audit_kind: str = "random-token"
    audit_scores: str = "black-box"
    resume: bool = False
    device: str = "auto"
    micro_batch_tokens: int = 4096
    precision: str = "float32"
    gradient_checkpointing: bool = False
    max_memory_gb: float | None = None
    redact: str | None = None
    ledger: str | None = None
    account: str | None = None
    quota: str | None = None

    @property
    def clip_rule(self) -> Literal["bound", "normalise"]:
        """As asked for; where rate and rule are left open, what the public rules were made for."""
        is_open = self.learning_rate == "auto" and not self.fixed_clipping
        return "normalise" if self.normalise or is_open else "bound"

    def command(self, *, resume: bool) -> str:
        """The command line of this request, with `--resume` or without."""
        words = ["privacy-finetuner", "train"]
        for item in fields(self):
            value = resume if item.name == "resume" else getattr(self, item.name)
            if value == item.default or (item.name == "ledger" and "://" in str(value)):
                continue  # the address of a database may hold a password: it is in the environment
            words.append("--" + item.name.replace("_", "-"))
            if value is not True:
                # Every digit: a resumed run must be planned exactly as it was begun.
                words.append(str(value).removesuffix(".0"))
        return shlex.join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A request with its defaults filled in."""

    request: TrainRequest
    sizes: Sizes
    delta: float
    batch_size: int

    @classmethod
    def of(cls, request: TrainRequest) -> Settings:
        """Fill in what the request leaves open."""
        sizes = Sizes.of(
            request.data,
            text_field=request.text_field,
            label_field=request.label_field,
            user_field=request.user_field,
            unit=request.unit,
            max_examples_per_user=request.max_examples_per_user,
        )
        return cls(
            request=request,
            sizes=sizes,
            delta=default_delta(sizes.units) if request.delta is None else request.delta,
            batch_size=request.batch_size
            if request.batch_size is not None
            else default_batch_size(sizes.drawn(user_sampling=request.user_sampling)),
        )

    @property
    def privacy(self) -> PrivacyConfig:
        """The guarantee asked for."""
        request = self.request
        return PrivacyConfig(
            epsilon=request.epsilon,
            delta=self.delta,
            max_grad_norm=request.clip_norm,
            noise_multiplier=request.noise_multiplier,
            noise=request.noise,  # type: ignore[arg-type]  # PrivacyConfig checks it
            accounting_mode=request.accountant,
            adaptive_clipping=not request.fixed_clipping,
            secure_rng=not request.no_secure_rng,
            relation=NeighbouringRelation(request.relation),
        )

    @property
    def warnings(self) -> list[str]:
        """What a careful reader of the result must know before it is used."""
        request, found = self.request, []
        if self.delta > 1 / self.sizes.units:
            found.append(
                f"delta {self.delta:g} is larger than 1/n = {1 / self.sizes.units:.3g}: a method "
                f"that publishes one whole {request.unit} at random would meet such a promise; "
                f"{default_delta(self.sizes.units):g} is the default here"
            )
        if request.no_secure_rng:
            found.append(
                "--no-secure-rng: the noise comes from a generator that is not "
                "cryptographic; whoever guesses its state can subtract the noise"
            )
        if request.epsilon > 10:
            found.append(
                f"epsilon {request.epsilon:g} is a weak promise: what is seen may be up to "
                f"e^{request.epsilon:g} times likelier with a {request.unit} than without"
            )
        return found

    def plan(self) -> DPTrainingPlan:
        """The plan of the run. Spends nothing."""
        request = self.request
        training = TrainingConfig(
            epochs=request.epochs,
            batch_size=self.batch_size,
            clip_rule=request.clip_rule,
        )

        def plan_with(privacy: PrivacyConfig) -> DPTrainingPlan:
            return make_plan(
                privacy,
                training,
                examples=self.sizes.drawn(user_sampling=request.user_sampling),
                unit=PrivacyUnit(request.unit),
                max_examples_per_user=1
                if request.user_sampling
                else request.max_examples_per_user or 1,
                canaries=request.audit_canaries,
            )

        account = named_account(request.ledger, request.account, request.quota, SystemClock())
        if account is None:
            return plan_with(self.privacy)
        privacy = account.run_privacy(self.privacy, RunTargets())
        return account.fitted(privacy, plan_with, least=LEAST_PART * request.epsilon)[1]

    def keywords(self) -> dict[str, Any]:
        """The request as keywords of `PrivateTrainer.train`."""
        request = self.request
        eval_steps = request.eval_steps
        if request.eval_data is not None and eval_steps is None:
            drawn = self.sizes.drawn(user_sampling=request.user_sampling)
            eval_steps = max(1, round(drawn / self.batch_size))
        return {
            "epochs": request.epochs,
            "batch_size": self.batch_size,
            "learning_rate": "auto"
            if request.learning_rate == "auto"
            else float(request.learning_rate),
            "save_steps": request.save_steps,
            "eval_steps": eval_steps,
            "eval_dataset": request.eval_data,
            "output_dir": str(request.output),
            "adapter": request.adapter,
            "lora_rank": request.lora_rank,
            "base_bits": request.base_bits,
            "audit_canaries": request.audit_canaries,
            "audit_kind": request.audit_kind,
            "audit_scores": request.audit_scores,
            "resume": request.resume,
            "unit": request.unit,
            "user_field": request.user_field,
            "max_examples_per_user": request.max_examples_per_user,
            "user_sampling": request.user_sampling,
            "text_field": request.text_field,
            "label_field": request.label_field,
            "label_names": names_in(request.label_names),
            "max_length": request.max_length,
            "strict": request.strict,
            "optimizer": request.optimizer,
            "weight_decay": request.weight_decay,
            "weight_average": request.weight_average,
            "gradient": request.gradient,
            "directions": request.directions,
            "views": request.views,
            "lr_schedule": request.lr_schedule,
            "warmup_steps": request.warmup_steps,
            "clip_rule": request.clip_rule,
            "micro_batch_tokens": request.micro_batch_tokens,
            "precision": request.precision,
            "gradient_checkpointing": request.gradient_checkpointing,
            "max_memory_gb": request.max_memory_gb,
            "redact": request.redact or "medium",
        }
