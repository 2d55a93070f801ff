"""`train`: a private fine-tune from one command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console

from pipeline_guard.heartbeat import dump_stacks_on_signal
from privacy_core.guarantee import NeighbouringRelation, PrivacyUnit
from privacy_finetuner.cli import output, train_config, train_remote, train_views
from privacy_finetuner.cli.options import (
    FILES,
    GUARANTEE,
    RECORDS,
    TRAINING,
    Account,
    Accountant,
    AccountantName,
    AdapterName,
    AuditCanaries,
    AuditKind,
    AuditKindOption,
    AuditScores,
    AuditScoresOption,
    AverageName,
    Data,
    Device,
    Directions,
    Gradient,
    GradientName,
    Json,
    LabelField,
    LabelNames,
    LearningRate,
    Ledger,
    MaxLength,
    Model,
    Noise,
    NoiseName,
    OptimizerName,
    PrecisionName,
    Quota,
    Redact,
    Relation,
    ScheduleName,
    Strict,
    TextField,
    Unit,
    UserCap,
    UserField,
    UserSampling,
    Views,
    WeightAverage,
)
from privacy_finetuner.cli.progress import StepProgress
from privacy_finetuner.cli.request import Settings, TrainRequest
from privacy_finetuner.cli.train_config import Config
from privacy_finetuner.cli.train_remote import Detach, Remote
from privacy_finetuner.errors import TrainingInterrupted
from privacy_finetuner.trainer import PrivateTrainer
from privacy_finetuner.training.run_record import read_state
from privacy_runtime.world import SystemClock

if TYPE_CHECKING:
    from privacy_finetuner.results import TrainingResult

EPILOG: Final = (
    "Example: privacy-finetuner train --model ./model --data records.jsonl --epsilon 8 "
    "--delta 1e-6 --epochs 3 --lora-rank 8 --output ./private --json\n\n"
    "Exit codes: 0 done, 2 bad input, 3 the budget ended the run, 130 interrupted (the command to "
    "resume is printed), 1 anything else."
)


def train(  # noqa: PLR0913 -- one parameter an option
    context: typer.Context,
    *,
    model: Model,
    data: Data,
    output_folder: Annotated[
        Path, typer.Option("--output", help="Folder for model, checkpoints, run record, report.")
    ],
    epsilon: Annotated[
        float | None,
        typer.Option(
            help="The budget: smaller is more private. Needed here or in --config.",
            rich_help_panel=GUARANTEE,
        ),
    ] = None,
    config: Config = None,
    delta: Annotated[
        float | None,
        typer.Option(
            help="Slack of the guarantee. Default: the smaller of 1e-5 and 1/(10 n), one digit.",
            rich_help_panel=GUARANTEE,
        ),
    ] = None,
    noise_multiplier: Annotated[
        float | None,
        typer.Option(
            help="Default: the least noise that keeps epsilon over all steps. If given, the run "
            "stops before the step that would exceed epsilon.",
            rich_help_panel=GUARANTEE,
        ),
    ] = None,
    noise: Noise = NoiseName.INDEPENDENT,
    accountant: Accountant = AccountantName.PLD,
    relation: Relation = NeighbouringRelation.ADD_OR_REMOVE_ONE,
    unit: Unit = PrivacyUnit.EXAMPLE,
    user_field: UserField = None,
    max_examples_per_user: UserCap = None,
    user_sampling: UserSampling = False,
    clip_norm: Annotated[
        float,
        typer.Option(
            help="Bound on the gradient of one record; where the adaptive bound starts.",
            rich_help_panel=GUARANTEE,
        ),
    ] = 1.0,
    fixed_clipping: Annotated[
        bool,
        typer.Option(
            "--fixed-clipping",
            help="Keep the bound where it starts instead of following the median gradient.",
            rich_help_panel=GUARANTEE,
        ),
    ] = False,
    normalise: Annotated[
        bool,
        typer.Option(
            "--normalise",
            help="Scale every gradient to the bound (automatic clipping) instead of capping it. "
            "Default with --learning-rate auto; with a number, the bound adapts.",
            rich_help_panel=GUARANTEE,
        ),
    ] = False,
    no_secure_rng: Annotated[
        bool,
        typer.Option(
            "--no-secure-rng",
            help="Faster noise that is not cryptographic: whoever guesses the generator's state "
            "can subtract it. For experiments only.",
            rich_help_panel=GUARANTEE,
        ),
    ] = False,
    epochs: Annotated[
        float, typer.Option(help="Expected passes over the records.", rich_help_panel=TRAINING)
    ] = 3.0,
    batch_size: Annotated[
        int | None,
        typer.Option(
            help="Expected records a step. Default: n/16, at least 8, at most 512. Larger is less "
            "noisy.",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    learning_rate: LearningRate = "auto",
    adapter: Annotated[
        AdapterName | None,
        typer.Option(
            help="Train this instead of all weights. Fewer trained numbers need less noise in all.",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    lora_rank: Annotated[
        int | None,
        typer.Option(
            help="Rank of lora and dora; alone it means --adapter lora.", rich_help_panel=TRAINING
        ),
    ] = None,
    base_bits: Annotated[
        int | None,
        typer.Option(
            help="Hold the frozen base in 4 or 8 bits (QLoRA); needs bitsandbytes.",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    optimizer: Annotated[OptimizerName, typer.Option(rich_help_panel=TRAINING)] = (
        OptimizerName.ADAMW
    ),
    lr_schedule: Annotated[ScheduleName, typer.Option(rich_help_panel=TRAINING)] = (
        ScheduleName.CONSTANT
    ),
    warmup_steps: Annotated[
        int, typer.Option(help="Steps of linear warm-up.", rich_help_panel=TRAINING)
    ] = 0,
    weight_decay: Annotated[float, typer.Option(rich_help_panel=TRAINING)] = 0.0,
    weight_average: WeightAverage = AverageName.AUTO,
    gradient: Gradient = GradientName.BACKWARD,
    directions: Directions = 1,
    views: Views = 1,
    text_field: TextField = "text",
    label_field: LabelField = "label",
    label_names: LabelNames = None,
    max_length: MaxLength = None,
    strict: Strict = False,
    redact: Redact = None,
    eval_data: Annotated[
        Path | None,
        typer.Option(
            help="PUBLIC records to score during training: exactly, outside any guarantee.",
            rich_help_panel=RECORDS,
        ),
    ] = None,
    eval_steps: Annotated[
        int | None,
        typer.Option(
            help="Score --eval-data so often. Default: once an epoch.", rich_help_panel=RECORDS
        ),
    ] = None,
    save_steps: Annotated[
        int, typer.Option(help="A checkpoint every so many steps.", rich_help_panel=FILES)
    ] = 500,
    audit_canaries: AuditCanaries = 0,
    audit_kind: AuditKindOption = AuditKind.RANDOM_TOKEN,
    audit_scores: AuditScoresOption = AuditScores.BLACK_BOX,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue the unfinished run of --output, with otherwise the same options.",
            rich_help_panel=FILES,
        ),
    ] = False,
    device: Device = "auto",
    micro_batch_tokens: Annotated[
        int,
        typer.Option(help="Tokens of one pass: memory and speed only.", rich_help_panel=FILES),
    ] = 4096,
    precision: Annotated[
        PrecisionName,
        typer.Option(
            help="Type of activations. Weights, norms and noise stay float32.",
            rich_help_panel=FILES,
        ),
    ] = PrecisionName.FLOAT32,
    gradient_checkpointing: Annotated[
        bool,
        typer.Option(
            "--gradient-checkpointing",
            help="Recompute activations: less memory, more time, the same result.",
            rich_help_panel=FILES,
        ),
    ] = False,
    max_memory_gb: Annotated[
        float | None,
        typer.Option(help="Memory that training may hold, in 10^9 bytes.", rich_help_panel=FILES),
    ] = None,
    dump_stacks: Annotated[
        bool,
        typer.Option(
            "--dump-stacks",
            help="At each SIGUSR1, write where the threads are into stacks.txt of --output.",
            rich_help_panel=FILES,
        ),
    ] = False,
    ledger: Ledger = None,
    account: Account = None,
    quota: Quota = None,
    remote: Remote = None,
    detach: Detach = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print the plan and stop. Loads no model and spends nothing."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Fine-tune a model on private records within a privacy budget.

    The noise is solved from epsilon, delta, the batch size and the epochs before the first step,
    and the run never takes a step that would exceed epsilon. Everything written or printed is
    covered by the epsilon that is reported.

    Records are JSON lines with `text`, `prompt` and `completion`, `messages`, or `text` and
    `label`.
    """
    request = TrainRequest(
        model=model,
        data=data,
        epsilon=train_config.UNSAID if epsilon is None else epsilon,
        output=output_folder,
        delta=delta,
        noise_multiplier=noise_multiplier,
        noise=noise.value,
        accountant=accountant.value,
        relation=relation.value,
        unit=unit.value,
        user_field=user_field,
        max_examples_per_user=max_examples_per_user,
        user_sampling=user_sampling,
        clip_norm=clip_norm,
        fixed_clipping=fixed_clipping,
        normalise=normalise,
        no_secure_rng=no_secure_rng,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        adapter=None if adapter is None else adapter.value,
        lora_rank=lora_rank,
        base_bits=base_bits,
        optimizer=optimizer.value,
        lr_schedule=lr_schedule.value,
        warmup_steps=warmup_steps,
        weight_decay=weight_decay,
        weight_average=weight_average.value,
        gradient=gradient.value,
        directions=directions,
        views=views,
        text_field=text_field,
        label_field=label_field,
        label_names=label_names,
        max_length=max_length,
        strict=strict,
        redact=None if redact is None else redact.value,
        eval_data=eval_data,
        eval_steps=eval_steps,
        save_steps=save_steps,
        audit_canaries=audit_canaries,
        audit_kind=audit_kind.value,
        audit_scores=audit_scores.value,
        resume=resume,
        device=device,
        micro_batch_tokens=micro_batch_tokens,
        precision=precision.value,
        gradient_checkpointing=gradient_checkpointing,
        max_memory_gb=max_memory_gb,
        ledger=ledger,
        account=account,
        quota=quota,
    )
    console = output.stderr_console()
    with output.failures_reported(as_json):
        request = train_config.applied(context, request, config, console)
    if remote is not None or detach:
        train_remote.train(request, remote, detach=detach, dry_run=dry_run, as_json=as_json)
        return
    with output.failures_reported(as_json):
        settings = Settings.of(request)
        for warning in settings.warnings:
            console.print(f"warning: {warning}", style="yellow", soft_wrap=True, markup=False)
        if dry_run:
            document = train_views.plan_document(settings, settings.plan())
            table = output.facts(
                "Plan (nothing was started or spent)", train_views.rows_of(document)
            )
        else:
            if dump_stacks:
                request.output.mkdir(parents=True, exist_ok=True)
                dump_stacks_on_signal(request.output)
            result = _run(settings, console)
            train_views.say_counts(console, result)
            document = train_views.result_document(settings, result)
            table = output.facts(
                "Private fine-tune",
                [*train_views.rows_of(document), *train_views.places(request.output)],
            )
    output.deliver(document, table, as_json=as_json)


def _run(settings: Settings, console: Console) -> TrainingResult:
    """Train, with progress; an interruption ends with the command to resume."""
    request = settings.request
    console.print("loading model and records ...")
    trainer = PrivateTrainer(
        request.model,
        settings.privacy,
        request.device,
        enable_context_guard=request.redact is not None,
        ledger=request.ledger,
        account=request.account,
        quota=request.quota,
    )
    try:
        with StepProgress(console, request.output, SystemClock()) as progress:
            result = trainer.train(str(request.data), on_step=progress, **settings.keywords())
    except TrainingInterrupted as error:
        raise _interrupted(str(error), request) from error
    except KeyboardInterrupt as error:
        raise _interrupted("interrupted", request) from error
    if trainer.redaction is not None:
        for label, count in trainer.redaction.counts.items():
            console.print(f"{count} {label} were replaced (an exact count: outside the guarantee)")
    return result


def _interrupted(message: str, request: TrainRequest) -> output.Interrupted:
    state = read_state(request.output)
    charged = 0 if state is None or state.is_finished else state.charged_steps
    return output.Interrupted(
        message.removesuffix("; continue with resume"),
        charged_steps=charged,
        resume=request.command(resume=True) if charged else None,
    )
