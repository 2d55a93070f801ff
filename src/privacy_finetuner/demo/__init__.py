"""The demonstration: the same records, fine-tuned without and with privacy, attacked alike.

It ships its own sample: 2,000 invented clinical notes and a small language model, both made by
scripts in this repository (`assets/README.md`). Secrets are planted among the notes; then an
attacker asks all three models for them. `run` does it on any other records and model as well.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from privacy_finetuner.config import PrivacyConfig, TrainingConfig
from privacy_finetuner.demo import canaries, evidence
from privacy_finetuner.demo.canaries import Canary
from privacy_finetuner.demo.evidence import PRIVATE_MODEL
from privacy_finetuner.options import TrainOptions
from privacy_finetuner.reports import write_html
from privacy_finetuner.trainer import PrivateTrainer
from privacy_runtime.files import write_atomic
from privacy_runtime.keystream import KeyStream
from privacy_runtime.signing import KeyHome
from privacy_runtime.world import Clock, Entropy, SystemClock, SystemEntropy

if TYPE_CHECKING:
    from privacy_finetuner.training.models import LoadedModel

ASSETS: Final = Path(__file__).parent / "assets"
COMPARISON: Final = "comparison.json"
_PASS_TOKENS: Final = 8192
_HELD_OUT_SHARE: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSettings:
    """What the demonstration does. The defaults fit the sample: two to three minutes on two cores.

    `repeats` is how often each of `secrets` codes stands in the records. The guarantee is for one
    record: a secret that stands in k records is protected k times more weakly, and the
    demonstration plants it often on purpose, so that the model without privacy learns it.
    `audit_canaries` is how many dictated gradients audit the private run; 0 for none.
    """

    data: Path | None = None
    model: Path | None = None
    text_field: str = "text"
    epsilon: float = 8.0
    batch_size: int = 512
    learning_rate: float = 8e-3
    epochs: float = 6
    max_length: int = 128
    secrets: int = 5
    repeats: int = 8
    candidates: int = 500
    audit_canaries: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One model's line in the comparison. `epsilon` is `None` where nothing is promised."""

    name: str
    epsilon: float | None
    perplexity: float
    time_s: float
    canaries_extracted: int
    canaries: int


@dataclass(slots=True)
class Comparison:
    """All models side by side, as written to `comparison.json`."""

    rows: list[Row] = field(default_factory=list)
    canary_ranks: dict[str, list[int]] = field(default_factory=dict)
    candidates: int = 0
    samples: dict[str, str] = field(default_factory=dict)
    output: str = ""
    epsilon: float = 0.0
    delta: float = 0.0
    report: str = ""
    certificate: str = ""


@dataclass(slots=True, kw_only=True)
class _Stage:
    """What every model of the demonstration is measured with."""

    settings: DemoSettings
    held_out: list[dict[str, str]]
    planted: list[Canary]
    stream: KeyStream
    comparison: Comparison


def run(
    output: Path,
    settings: DemoSettings,
    *,
    console: Console,
    clock: Clock | None = None,
    entropy: Entropy | None = None,
    keys: KeyHome | None = None,
) -> dict[str, Any]:
    """Run the demonstration into a folder and return the comparison.

    Args:
        output: where model, report, certificate and `comparison.json` go.
        settings: what to run; the sample by default.
        console: where progress and the table go.
        clock: the outside world's time; only tests replace it.
        entropy: the outside world's randomness; only tests replace it.
        keys: where the key that signs the certificate lies; by default this account's.

    Raises:
        DatasetError, ModelLoadError, ConfigurationError: nothing was trained.
        InvalidParameter, WriteFailed: there is no key to sign with; nothing was trained.
    """
    clock, entropy = clock or SystemClock(), entropy or SystemEntropy()
    keys = keys or KeyHome.of(os.environ)
    key, is_new = keys.own_key(entropy, now=clock.now())
    keys.trust(key.public)
    if is_new:
        console.print(f"A key to sign certificates with was made: {keys.key_file}", soft_wrap=True)
    stream = KeyStream.fresh(entropy)
    records, held_out = _records(settings, stream)
    planted = canaries.make_canaries(settings.secrets, stream)
    training = canaries.plant(records, planted, settings.repeats)
    stage = _Stage(
        settings=settings,
        held_out=held_out,
        planted=planted,
        stream=stream,
        comparison=Comparison(candidates=settings.candidates, output=str(output)),
    )
    output.mkdir(parents=True, exist_ok=True)
    console.print(
        f"{len(records)} records, {len(held_out)} held out; {len(planted)} secrets planted, "
        f"{settings.repeats} times each."
    )
    model = str(settings.model or ASSETS / "model")
    _measure(stage, "before training", _load(model), epsilon=0.0, time_s=0.0)
    _without_privacy(stage, model, training, console, clock, entropy)
    _with_privacy(stage, model, training, output / PRIVATE_MODEL, console, clock, entropy)
    audited = evidence.audit_run(output) if settings.audit_canaries else None
    if audited is not None:
        console.print(evidence.words(audited), soft_wrap=True, markup=False)
    certified = evidence.certify(output, training, key, clock, entropy, audited)
    stage.comparison.certificate = str(certified)
    stage.comparison.report = str(output / "report.html")
    document = asdict(stage.comparison)
    # Beside the private model, not in it: these figures are exact, and the samples are not private.
    write_atomic(output / COMPARISON, json.dumps(document, indent=1).encode())
    write_html(output / PRIVATE_MODEL, output / "report.html", comparison=document)
    _show(stage, document, console)
    return document


def _without_privacy(
    stage: _Stage,
    model: str,
    training: Sequence[dict[str, str]],
    console: Console,
    clock: Clock,
    entropy: Entropy,
) -> None:
    from privacy_finetuner.training.baseline import fine_tune_without_privacy

    settings = stage.settings
    loaded = _load(model)
    data = _tokenized(training, settings, loaded)
    started = clock.monotonic_s()
    with _progress(console, "without privacy") as advance:
        fine_tune_without_privacy(
            loaded,
            data,
            TrainingConfig(
                # Without noise, small batches and fewer passes do: what a practitioner would take.
                epochs=min(4, settings.epochs),
                batch_size=max(8, settings.batch_size // 16),
                learning_rate=settings.learning_rate / 2,
            ),
            entropy=entropy,
            on_step=advance,
        )
    spent_s = clock.monotonic_s() - started
    _measure(stage, "without privacy", loaded, epsilon=None, time_s=spent_s)


def _with_privacy(
    stage: _Stage,
    model: str,
    training: Sequence[dict[str, str]],
    folder: Path,
    console: Console,
    clock: Clock,
    entropy: Entropy,
) -> None:
    settings = stage.settings
    delta = min(1e-5, 1 / (10 * len(training)))
    config = PrivacyConfig(epsilon=settings.epsilon, delta=delta, accounting_mode="pld")
    trainer = PrivateTrainer(
        model, config, enable_context_guard=False, clock=clock, entropy=entropy
    )
    started = clock.monotonic_s()
    name = f"epsilon {settings.epsilon:g}"
    with _progress(console, name) as advance:
        result = trainer.train(
            list(training),
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            output_dir=str(folder),
            task="causal_lm",
            max_length=settings.max_length,
            audit_canaries=settings.audit_canaries,
            audit_scores="white-box",
            on_step=lambda step: advance(step.step, step.steps),
        )
    spent_s = clock.monotonic_s() - started
    loaded = _load(str(folder))
    _measure(stage, name, loaded, epsilon=result.privacy_spent.epsilon, time_s=spent_s)
    comparison = stage.comparison
    comparison.epsilon, comparison.delta = result.privacy_spent.epsilon, delta


def _measure(
    stage: _Stage, name: str, loaded: LoadedModel, *, epsilon: float | None, time_s: float
) -> None:
    """Utility on held-out records, and what the attacker gets."""
    from privacy_finetuner.training.evaluation import exact_evaluation, example_losses
    from privacy_finetuner.training.generation import generate

    settings = stage.settings

    def losses(texts: Sequence[str]) -> Any:
        data = _tokenized([{"text": text} for text in texts], settings, loaded)
        return example_losses(loaded, data, max_tokens=_PASS_TOKENS)

    def continue_(prompt: str) -> str:
        return generate(loaded, prompt, max_new_tokens=16)[0]

    held_out = _tokenized(stage.held_out, settings, loaded)
    score = exact_evaluation(loaded, held_out, max_tokens=_PASS_TOKENS)
    stage.comparison.rows.append(
        Row(
            name=name,
            epsilon=epsilon,
            perplexity=score.perplexity or float("nan"),
            time_s=time_s,
            canaries_extracted=canaries.extracted(stage.planted, continue_),
            canaries=len(stage.planted),
        )
    )
    stage.comparison.canary_ranks[name] = canaries.ranks(
        stage.planted, losses, candidates=settings.candidates, stream=stage.stream
    )
    prompt = " ".join(stage.held_out[0]["text"].split()[:4])
    stage.comparison.samples[name] = prompt + generate(loaded, prompt, max_new_tokens=48)[0]


def _records(
    settings: DemoSettings, stream: KeyStream
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Training and held-out records: the sample's own, or a random tenth of what was given."""
    from privacy_finetuner.training.records import read_records

    def texts(source: Path) -> list[dict[str, str]]:
        rows = read_records(source, text_field=settings.text_field).rows
        return [{"text": _text(row)} for row in rows]

    if settings.data is None:
        return texts(ASSETS / "records.jsonl"), texts(ASSETS / "heldout.jsonl")
    rows = texts(settings.data)
    order = stream.uniforms(len(rows)).argsort()
    cut = max(1, len(rows) // _HELD_OUT_SHARE)
    return [rows[i] for i in order[cut:]], [rows[i] for i in order[:cut]]


def _text(row: Any) -> str:
    """A record of any shape as one text."""
    if "messages" in row:
        return "\n".join(f"{turn['role']}: {turn['content']}" for turn in row["messages"])
    if "prompt" in row:
        return f"{row['prompt']}\n{row['completion']}"
    return str(row["text"])


def _load(model: str) -> LoadedModel:
    from privacy_finetuner.training import inputs

    return inputs.load(model, device="auto", task="causal_lm")


def _tokenized(rows: Sequence[dict[str, str]], settings: DemoSettings, loaded: LoadedModel) -> Any:
    from privacy_finetuner.training import inputs

    options = TrainOptions(task="causal_lm", max_length=settings.max_length)
    return inputs.read_data([{"text": row["text"]} for row in rows], options, loaded)


@contextmanager
def _progress(console: Console, name: str) -> Iterator[Callable[[int, int], None]]:
    columns = (
        TextColumn("{task.description:>16}"),
        BarColumn(),
        TextColumn("step {task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(name, total=None)
        yield lambda step, steps: progress.update(task, completed=step, total=steps)


def _show(stage: _Stage, document: dict[str, Any], console: Console) -> None:
    table = Table(title="The same records, the same attacker")
    for heading in ("model", "epsilon", "held-out perplexity", "training", "secrets read out"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    table.add_column(f"median rank of a secret among {stage.settings.candidates}", justify="right")
    for row in stage.comparison.rows:
        epsilon = "unbounded" if row.epsilon is None else f"{row.epsilon:.3g}"
        table.add_row(
            row.name,
            epsilon,
            f"{row.perplexity:.2f}",
            f"{row.time_s:.0f} s",
            f"{row.canaries_extracted} of {row.canaries}",
            f"{statistics.median(stage.comparison.canary_ranks[row.name]):g}",
        )
    console.print(table)
    console.print(
        f"Rank 1: the secret leaked; {stage.settings.candidates // 2}: the model knows nothing of "
        f"it. Epsilon {document['epsilon']:.4g} at delta {document['delta']:.1e} is for one "
        f"record; a secret in {stage.settings.repeats} records is protected more weakly."
    )
    console.print(f"Model        {document['output']}/{PRIVATE_MODEL}", soft_wrap=True)
    console.print(f"Report       {document['report']}", soft_wrap=True)
    console.print(f"Certificate  {document['certificate']}", soft_wrap=True)
    console.print(
        f"Check it     privacy-finetuner certificate verify {document['certificate']}",
        soft_wrap=True,
    )
