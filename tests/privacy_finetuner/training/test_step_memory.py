"""Flags of speed and memory: the same events and weights, and a limit that is kept."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from privacy_finetuner import PrivacyConfig, PrivateTrainer
from privacy_finetuner.cli.request import Settings, TrainRequest
from privacy_finetuner.config import TrainingConfig
from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.options import TrainOptions
from privacy_finetuner.performance import PerformanceFlags
from privacy_finetuner.training import run_record, step_memory
from privacy_finetuner.training.engine import BatchRecord, BoundedSum, Clip, ClippedGradient
from privacy_finetuner.training.objectives import Objective
from privacy_finetuner.training.plan import make_plan
from privacy_finetuner.training.step_memory import Sizing
from privacy_finetuner.training.update import make_update
from privacy_runtime.testing import SeededEntropy

PRIVACY = PrivacyConfig(epsilon=4.0, delta=1e-3)
RECORDS = [{"text": f"note {i}: " + "ab" * (i % 7)} for i in range(24)]
FORK = multiprocessing.get_context("fork")
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from proc files")
FLAGS: dict[str, dict[str, Any]] = {
    "smaller passes": {"micro_batch_tokens": 40},
    "checkpointing": {"gradient_checkpointing": True},
    "a limit": {"max_memory_gb": 64.0},
    "all": {"micro_batch_tokens": 40, "gradient_checkpointing": True, "max_memory_gb": 64.0},
}


def train(model: Path, folder: Path, **options: Any) -> list[str]:
    """A short run whose every draw is seeded; returns its notes."""
    trainer = PrivateTrainer(
        str(model), PRIVACY, "cpu", enable_context_guard=False, entropy=SeededEntropy(3)
    )
    arguments = {"epochs": 2, "batch_size": 6, "learning_rate": 1e-2, **options}
    return list(trainer.train(RECORDS, output_dir=str(folder), **arguments).notes)


def left_behind(folder: Path) -> tuple[Any, dict[str, Tensor]]:
    state = run_record.read_state(folder)
    assert state is not None
    assert state.checkpoint is not None
    return state.plan, load_file(folder / state.checkpoint / "model.safetensors")


@pytest.fixture(scope="module")
def reference(
    llama_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, dict[str, Tensor]]:
    folder = tmp_path_factory.mktemp("reference")
    train(llama_folder, folder)
    return left_behind(folder)


@ON_LINUX
@pytest.mark.parametrize("flags", FLAGS)
def test_no_flag_changes_the_events_or_the_weights(
    flags: str, llama_folder: Path, tmp_path: Path, reference: tuple[Any, dict[str, Tensor]]
) -> None:
    train(llama_folder, tmp_path, **FLAGS[flags])
    plan, weights = left_behind(tmp_path)
    assert plan == reference[0]
    # Sums are added in another order: a tenth of a rate is what rounding may become in eight steps
    # of Adam. Another draw of noise would move every weight by several rates.
    for name, values in reference[1].items():
        assert torch.allclose(weights[name], values, rtol=0, atol=1e-3), name


@ON_LINUX
def test_activations_in_bfloat16_change_rounding_and_not_the_events(
    llama_folder: Path, tmp_path: Path
) -> None:
    plans, ends = [], []
    for precision in ("float32", "bfloat16"):
        folder = tmp_path / precision
        notes = train(llama_folder, folder, optimizer="sgd", precision=precision)
        assert not any("bfloat16" in note for note in notes)
        plan, weights = left_behind(folder)
        plans.append(plan)
        ends.append(torch.cat([weights[name].flatten() for name in sorted(weights)]))
    (exact, narrow), start = ends, load_file(llama_folder / "model.safetensors")
    moved = exact - torch.cat([start[name].flatten() for name in sorted(start)])
    assert plans[0] == plans[1]
    assert narrow.dtype == torch.float32
    assert 0 < (narrow - exact).norm() < 0.05 * moved.norm()


def test_every_flag_has_a_run_above() -> None:
    asked = set().union(*FLAGS.values())
    assert asked == set(PerformanceFlags.__dataclass_fields__)


def rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak_of_a_run(model: Path, folder: Path, room: float | None, sender: Any) -> None:
    """Train in a process of its own; send its limit and its peak, in bytes."""
    limit = rss_bytes() + (room or 0)
    meter = step_memory.meter_of(torch.device("cpu"))
    meter.forget()
    flags = {} if room is None else {"max_memory_gb": limit / 1e9}
    notes = train(model, folder, batch_size=24, max_length=16, epochs=2, optimizer="sgd", **flags)
    sender.send((limit, meter.peak_bytes(), notes))


def peaks(model: Path, folder: Path) -> list[Any]:
    """What a run takes without a limit, then with one, each in a process of its own."""
    found = []
    for room in (None, 180e6):
        receiver, sender = FORK.Pipe(duplex=False)
        arguments = (model, folder / str(room), room, sender)
        process = FORK.Process(target=peak_of_a_run, args=arguments)
        process.start()
        sender.close()  # so that a child that ends without an answer is an error, and no waiting
        found.append(receiver.recv())
        process.join()
    return found


# Forked from a clean interpreter: what other tests of this process left behind has no part in it.
ALONE = """
import importlib.util, json, pathlib, sys
spec = importlib.util.spec_from_file_location("alone", sys.argv[1])
module = importlib.util.module_from_spec(spec)
sys.modules["alone"] = module
spec.loader.exec_module(module)
print(json.dumps(module.peaks(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]))))
"""


@ON_LINUX
def test_a_run_stays_within_its_limit(make_model: Any, byte_tokenizer: Any, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    make_model("llama", vocabulary=60_000).save_pretrained(folder)
    byte_tokenizer.save_pretrained(folder)
    done = subprocess.run(
        [sys.executable, "-c", ALONE, __file__, str(folder), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (start, free_peak, _), (limit, peak, notes) = json.loads(done.stdout.splitlines()[-1])
    assert free_peak - start > 200e6  # without a limit it takes more
    assert peak <= limit
    assert any("micro-batches of at most" in note for note in notes)


@ON_LINUX
def test_a_limit_below_one_example_is_refused(llama_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"one example of 64 tokens takes .* GB"):
        train(llama_folder, tmp_path, max_memory_gb=0.01)
    state = run_record.read_state(tmp_path)
    assert state is None or state.charged_steps == 0


@pytest.mark.parametrize(
    "options",
    [
        {"gradient": "forward", "optimizer": "sgd"},
        {"unit": "user", "user_field": "text", "max_examples_per_user": 1, "user_sampling": True},
    ],
)
def test_a_limit_that_cannot_be_kept_is_refused(
    options: dict[str, Any], llama_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="max_memory_gb goes with"):
        train(llama_folder, tmp_path, max_memory_gb=8.0, **options)


def test_a_machine_that_tells_no_peak_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="does not tell"):
        step_memory.meter_of(torch.device("meta"))


def test_a_model_without_checkpointing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Linear has no gradient checkpointing"):
        step_memory.start_checkpointing(nn.Linear(2, 2))


class Scales:
    """An engine and a meter in one: a step takes so much, and so much for each token or example."""

    def __init__(self, *, fixed: int, token: int, example: int) -> None:
        self.parameters: list[nn.Parameter] = []
        self._fixed, self._token, self._example = fixed, token, example
        self._peak = 0
        self.most = 0

    def add(self, batch: Any, clip: Clip) -> BatchRecord:
        examples, length = batch["input_ids"].shape
        cost = self._fixed + self._token * examples * length + self._example * examples
        self._peak = max(self._peak, cost)
        self.most = max(self.most, cost)
        return BatchRecord(torch.zeros(examples), torch.zeros(examples), torch.zeros(examples))

    def take(self, clip: Clip) -> BoundedSum:
        return BoundedSum([], clip.clip_norm)

    def close(self) -> None: ...

    def forget(self) -> None:
        self._peak = self._fixed

    def peak_bytes(self) -> int:
        return self._peak


@pytest.mark.parametrize(
    ("scales", "tokens"),
    [
        ({"fixed": 1000, "token": 10, "example": 0}, 512),  # 1000 + 5120 x 1.25 < 9500
        ({"fixed": 1000, "token": 1, "example": 0}, 2000),  # all that was wanted
        ({"fixed": 1000, "token": 10, "example": 50}, 64),  # many short examples are dearer
        ({"fixed": 9400, "token": 10, "example": 0}, 0),  # not even one example
    ],
)
def test_the_largest_micro_batch_that_fits_is_chosen(scales: dict[str, int], tokens: int) -> None:
    engine = Scales(**scales)
    sizing = Sizing(
        engine,
        Objective("causal_lm", 40),
        vocabulary=40,
        device=torch.device("cpu"),
        meter=engine,
    )
    found = sizing.fitting_tokens(room_bytes=10_000, length=64, wanted=2000)
    assert found == tokens
    if tokens:
        assert engine.most <= 9500  # nothing was tried that would not fit


@pytest.mark.parametrize("flags", [{"max_memory_gb": 0.0}, {"micro_batch_tokens": 0}])
def test_a_flag_outside_its_domain_is_refused_by_name(flags: dict[str, Any]) -> None:
    for kind in (PerformanceFlags, TrainOptions):
        with pytest.raises(ConfigurationError, match=next(iter(flags))):
            kind(**flags)


def test_the_command_line_passes_the_flags_on(tmp_path: Path) -> None:
    data = tmp_path / "records.jsonl"
    data.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    flags: dict[str, Any] = {"gradient_checkpointing": True, "max_memory_gb": 8.0}
    request = TrainRequest(model="model", data=data, epsilon=4.0, output=tmp_path / "run", **flags)
    assert flags.items() <= Settings.of(request).keywords().items()
    command = request.command(resume=True)
    assert "--gradient-checkpointing --max-memory-gb 8" in command


@pytest.mark.parametrize(
    ("training", "copies"),
    [
        ({"optimizer": "sgd"}, 0),
        ({"optimizer": "adamw"}, 2),
        ({"optimizer": "adamw", "weight_average": "ema"}, 4),
    ],
)
def test_what_the_optimizer_will_hold_is_counted_before_it_holds_it(
    training: dict[str, Any], copies: int
) -> None:
    plan = make_plan(PRIVACY, TrainingConfig(batch_size=4), examples=20)
    layer = nn.Linear(300, 300)
    weights = sum(p.numel() for p in layer.parameters())
    engine = ClippedGradient(layer, lambda model, batch: (model(batch["x"]), batch["x"]))
    update = make_update(TrainingConfig(learning_rate=1e-3, **training), plan, engine)
    found = step_memory.later_bytes(update, plan)
    assert found == pytest.approx(4 * weights * copies, rel=1e-3)
    for parameter in engine.parameters:
        parameter.grad = torch.ones_like(parameter)
    update.optimizer.step()
    held = [s for state in update.optimizer.state.values() for s in state.values()]
    kept = sum(s.numel() * s.element_size() for s in held if isinstance(s, Tensor))
    assert kept <= found * (1 + 1e-3) + 16
