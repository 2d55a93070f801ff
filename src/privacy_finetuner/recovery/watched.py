"""A small, real, private training for the pipeline guard's rehearsals (`pipeline_guard.subjects`).

It trains the shipped sample model on shipped records, charged to a ledger of its own, long enough
that something can happen to it. Nothing here loads torch.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline_guard.model import Fault
from privacy_finetuner.demo import ASSETS
from privacy_finetuner.recovery.rehearsal import ledger_difference, open_books

_PROGRAM: Final = (sys.executable, "-m", "privacy_finetuner.cli")
_MICRO_BATCH_TOKENS: Final = 512


@dataclass(frozen=True)
class WatchedTraining:
    """The training in a folder, and what its ledger says.

    Args:
        folder: empty; everything is in it.
    """

    folder: Path

    @property
    def run(self) -> Path:
        """The output folder of the run."""
        return self.folder / "run"

    @property
    def artefact(self) -> Path:
        """The weights of the export."""
        return self.folder / "export" / "model.safetensors"

    @property
    def export_command(self) -> tuple[str, ...]:
        """Export the sample model in eight bits."""
        options = ("--model", str(ASSETS / "model"), "--output", str(self.folder / "export"))
        return (*_PROGRAM, "export", *options, "--quantize", "int8")

    @property
    def export_check(self) -> tuple[str, ...]:
        """Check the export's files and what it answers."""
        return (*_PROGRAM, "export", "--check", str(self.folder / "export"))

    def command(self, *, is_resumed: bool, injury: Fault | None = None) -> tuple[str, ...]:
        """Train, or go on; with an injury it does `not_finite` or `out_of_memory` to itself."""
        words = (sys.executable, "-m", "privacy_finetuner.recovery.watched_run", str(self.folder))
        resumed = ("--resume",) if is_resumed else ()
        hurt = () if injury is None else ("--injury", injury.value)
        return (*words, "--micro-batch-tokens", str(_MICRO_BATCH_TOKENS), *resumed, *hurt)

    def epsilon_difference(self) -> float | None:
        """What the ledger says was spent, less the price of one undisturbed run."""
        difference, _ = ledger_difference(self.folder / "books" / "ledger.db", self.folder)
        return difference


def watched_training(folder: Path) -> WatchedTraining:
    """The subject in a folder, with its ledger open."""
    open_books(folder)
    return WatchedTraining(folder)
