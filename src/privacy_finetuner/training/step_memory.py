"""How much memory a step takes: activation checkpointing, and a limit that is measured.

A limit is kept by the choice of the physical micro-batch. Before training, the engine runs on
made-up examples, twice as many each time, while the peak is read; the largest micro-batch that
stays within the limit is the one that training uses. No record is looked at, so neither the choice
nor a refusal says anything about the records.

===================  ===========================================================
on                   memory means
===================  ===========================================================
the CPU, Linux       what the whole process holds (`VmHWM`), Python included
a CUDA device        what torch has allocated there
anything else        nothing that can be measured: a limit is refused
===================  ===========================================================

For a given number of tokens, memory is largest with one long example or with many of one token
each: activations grow with the tokens, attention with the length, and the gradients of biases and
scales, which are kept for each example, with the number of examples. Both ends are measured.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol

import torch
from torch import nn

from privacy_finetuner.config import PerformanceFlags, TrainingConfig
from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.training.correlated_noise import CorrelatedNoise
from privacy_finetuner.training.engine import Clip, GradientSource
from privacy_finetuner.training.inputs import DEFAULT_MAX_LENGTH
from privacy_finetuner.training.models import LoadedModel
from privacy_finetuner.training.objectives import Objective, public_probe
from privacy_finetuner.training.optimizers import make_optimizer
from privacy_finetuner.training.plan import DPTrainingPlan
from privacy_finetuner.training.update import Update

_GB: Final = 10**9
# Part of the limit that is left free: noise takes a few MiB of scratch, and so do checkpoints.
_HEADROOM: Final = 0.05
# What micro-batches of many shapes leave between them, as a part of what one micro-batch adds: the
# measured ones have all one shape, and an allocator that keeps what was freed finds it again.
_GAPS: Final = 0.25


class PeakMeter(Protocol):
    """Reads the most memory that was held since it was told to forget."""

    def forget(self) -> None:
        """Start the peak anew, from what is held now."""
        ...

    def peak_bytes(self) -> int:
        """The most that was held since then."""
        ...


def start_checkpointing(model: Any) -> None:
    """Recompute activations in the backward pass instead of keeping them; until `stop`.

    Raises:
        ConfigurationError: the model has no such mode; nothing was started.
    """
    if not getattr(model, "supports_gradient_checkpointing", False):
        raise ConfigurationError(
            f"{type(model).__name__} has no gradient checkpointing; train without "
            "gradient_checkpointing; nothing was started"
        )
    # The reentrant kind runs without the graph that per-example gradients are read from.
    model.activation_checkpointing_enable({"use_reentrant": False})


def stop_checkpointing(model: Any) -> None:
    """Keep activations again."""
    model.activation_checkpointing_disable()


def within_memory(
    flags: PerformanceFlags,
    training: TrainingConfig,
    plan: DPTrainingPlan,
    loaded: LoadedModel,
    objective: Objective,
    gradient: GradientSource,
    update: Update,
) -> tuple[PerformanceFlags, list[str]]:
    """Return flags whose micro-batch fits `max_memory_gb`, and what the user should know.

    Raises:
        ConfigurationError: not even one example of the longest length fits, or memory cannot be
            measured for this run; nothing was started.
    """
    if flags.max_memory_gb is None:
        return flags, []
    if training.user_sampling or training.gradient == "forward":
        raise ConfigurationError(
            "max_memory_gb goes with gradients by backward pass and single examples: not with "
            "user_sampling, not with gradient 'forward'; set micro_batch_tokens; nothing was "
            "started"
        )
    length = longest_input(training, loaded)
    sizing = Sizing(
        gradient,
        objective,
        vocabulary=int(loaded.model.config.vocab_size),
        device=loaded.device,
        meter=meter_of(loaded.device),
    )
    tokens = sizing.fitting_tokens(
        room_bytes=int(flags.max_memory_gb * _GB) - later_bytes(update, plan),
        length=length,
        wanted=flags.micro_batch_tokens,
    )
    if tokens == 0:
        raise ConfigurationError(
            f"max_memory_gb is {flags.max_memory_gb:g}, and one example of {length} tokens takes "
            f"{(sizing.peak_bytes + later_bytes(update, plan)) / _GB:.3g} GB with the optimizer "
            f"and {_HEADROOM:.0%} to spare; lower max_length, or train with "
            "gradient_checkpointing or lora_rank; nothing was started"
        )
    return replace(flags, micro_batch_tokens=tokens), [
        f"micro-batches of at most {tokens} tokens: {flags.max_memory_gb:g} GB hold them, "
        "measured on made-up examples"
    ]


class Sizing:
    """Measures the engine on ever larger micro-batches of made-up examples."""

    def __init__(
        self,
        gradient: GradientSource,
        objective: Objective,
        *,
        vocabulary: int,
        device: torch.device,
        meter: PeakMeter,
    ) -> None:
        self._gradient = gradient
        self._objective = objective
        self._vocabulary = vocabulary
        self._device = device
        self._meter = meter
        self.peak_bytes = 0
        """What the largest micro-batch that was tried takes, gaps included."""

    def fitting_tokens(self, *, room_bytes: int, length: int, wanted: int) -> int:
        """The most tokens, at most `wanted`, whose micro-batch stays within a room; 0 for none.

        A micro-batch is tried only where growth in proportion would keep it within the room, so the
        room is exceeded, if at all, by one example.

        Args:
            room_bytes: what may be held while a micro-batch runs.
            length: tokens of the longest example.
            wanted: tokens of the micro-batch that would be used without a limit.
        """
        limit = room_bytes * (1 - _HEADROOM)
        self._meter.forget()
        before = self._meter.peak_bytes()
        fitting, examples = 0, 1
        while True:
            measured = max(self._measure(examples, length), self._measure(examples * length, 1))
            grown = max(measured - before, 0)
            self.peak_bytes = measured + int(_GAPS * grown)
            if self.peak_bytes > limit:
                return fitting
            fitting = min(examples * length, wanted)
            if fitting == wanted or measured + (1 + 2 * _GAPS) * grown > limit:
                return fitting
            examples *= 2

    def _measure(self, examples: int, length: int) -> int:
        batch = public_probe(
            self._objective,
            vocabulary=self._vocabulary,
            device=self._device,
            examples=examples,
            length=length,
        )
        clip = Clip(1.0)
        self._meter.forget()
        try:
            for _ in range(2):  # from the second micro-batch on, sums are wider
                self._gradient.add(batch, clip)
        finally:
            self._gradient.take(clip)
        return self._meter.peak_bytes()


def longest_input(training: TrainingConfig, loaded: LoadedModel) -> int:
    """The most tokens that an example may have: a public choice, whatever the records are like."""
    if training.max_length is not None:
        return training.max_length
    return min(DEFAULT_MAX_LENGTH, loaded.context_length or DEFAULT_MAX_LENGTH)


def later_bytes(update: Update, plan: DPTrainingPlan) -> int:
    """What will be held besides, from the first step on: optimizer, average, correlated noise."""
    parameters: list[nn.Parameter] = [
        p for group in update.optimizer.param_groups for p in group["params"]
    ]
    sample = nn.Parameter(torch.zeros(64, 64))
    optimizer = make_optimizer(update.training, [sample])
    sample.grad = torch.zeros_like(sample)
    optimizer.step()
    states = [s for s in optimizer.state[sample].values() if isinstance(s, torch.Tensor)]
    copies: float = sum(state.numel() for state in states) / sample.numel()
    if update.average is not None:
        copies += 2  # the average, and the weights it stands in for while scores are taken
    size = sum(p.numel() * p.element_size() for p in parameters)
    remembered = 0
    if plan.correlation is not None:
        remembered = CorrelatedNoise(plan.correlation, plan.fresh_noise_multiplier).copies
    coordinates = sum(p.numel() for p in parameters)
    return int(copies * size) + 8 * remembered * coordinates


def meter_of(device: torch.device) -> PeakMeter:
    """The meter for a device.

    Raises:
        ConfigurationError: this machine does not tell a process its peak.
    """
    if device.type == "cuda":
        return _CudaMeter(device)
    try:
        if device.type == "cpu":
            meter = _ProcessMeter()
            meter.forget()
            return meter
    except OSError as error:
        raise _unmeasured(device) from error
    raise _unmeasured(device)


def _unmeasured(device: torch.device) -> ConfigurationError:
    return ConfigurationError(
        f"max_memory_gb cannot be kept on device {str(device)!r} of this machine: it does not tell "
        "a process its peak; set micro_batch_tokens instead; nothing was started"
    )


class _ProcessMeter:
    """The peak of this process's resident memory, from Linux's proc files."""

    _STATUS: Final = Path("/proc/self/status")
    _SWITCH: Final = Path("/proc/self/clear_refs")

    def forget(self) -> None:
        # 5 resets the peak and nothing else: Linux, Documentation/filesystems/proc.rst.
        self._SWITCH.write_text("5")

    def peak_bytes(self) -> int:
        for line in self._STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise OSError(f"{self._STATUS} has no VmHWM")


class _CudaMeter:
    """The peak of what torch has allocated on a device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def forget(self) -> None:
        torch.cuda.reset_peak_memory_stats(self._device)

    def peak_bytes(self) -> int:
        return int(torch.cuda.max_memory_allocated(self._device))
