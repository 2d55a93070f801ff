"""What a user may ask for about speed and memory, and nothing else.

A test trains under every flag and compares the priced events and the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

from privacy_finetuner.domains import above_zero, given, raise_if_any, whole_from


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformanceFlags:
    """What changes speed and memory, never the guarantee and never what is computed.

    Attributes:
        micro_batch_tokens: bound on the padded tokens of one physical pass; a logical batch is
            split to fit.
        gradient_checkpointing: recompute activations in the backward pass instead of keeping them.
        max_memory_gb: what training may hold, in 10^9 bytes; `micro_batch_tokens` is lowered until
            it does. See `training.step_memory`.
    """

    micro_batch_tokens: int = 4096
    gradient_checkpointing: bool = False
    max_memory_gb: float | None = None

    def __post_init__(self) -> None:
        raise_if_any(
            [
                whole_from("micro_batch_tokens", self.micro_batch_tokens, 1),
                given(above_zero, "max_memory_gb", self.max_memory_gb),
            ]
        )
