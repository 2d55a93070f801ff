"""A run is killed without warning, then resumed: the account is never behind the truth.

    python examples/resume.py --output runs/resumed

The script starts itself as a second process that trains and is killed (SIGKILL) after a few steps.
Then it resumes in the same folder. Steps that the killed process had reserved and not taken count
as spent and are not repeated, so epsilon is that of an undisturbed run.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path

from privacy_finetuner import PrivacyConfig, PrivateTrainer, TrainingResult
from privacy_finetuner.demo import ASSETS
from privacy_finetuner.training.run_record import read_state

DIES_AFTER_STEP = 6


def train(folder: Path, *, resume: bool, dies: bool) -> TrainingResult:
    with (ASSETS / "records.jsonl").open() as lines:
        records = [json.loads(line) for line in islice(lines, 200)]
    config = PrivacyConfig(epsilon=8.0, delta=1e-5, accounting_mode="pld")
    trainer = PrivateTrainer(str(ASSETS / "model"), config, enable_context_guard=False)

    def on_step(step: object) -> None:
        if dies and getattr(step, "step", 0) == DIES_AFTER_STEP:
            os.kill(os.getpid(), signal.SIGKILL)

    return trainer.train(
        records,
        epochs=2,
        batch_size=20,
        max_length=64,
        save_steps=4,
        output_dir=str(folder),
        resume=resume,
        on_step=on_step,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("runs/resumed"))
    parser.add_argument("--dies", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.dies:
        train(asked.output, resume=False, dies=True)
        return

    command = [sys.executable, __file__, "--dies", "--output", str(asked.output)]
    killed = subprocess.run(command, check=False)  # noqa: S603 -- this very script
    state = read_state(asked.output)
    if killed.returncode != -signal.SIGKILL or state is None:
        raise SystemExit(f"the first process was to be killed, it ended with {killed.returncode}")
    print(
        f"killed after step {DIES_AFTER_STEP}: {state.charged_steps} steps are charged, "
        f"the newest checkpoint is {state.checkpoint}"
    )

    result = train(asked.output, resume=True, dies=False)
    for note in result.notes:
        print(f"note: {note}")
    print(f"{result.steps} steps, epsilon {result.privacy_spent.epsilon:.4f}")


if __name__ == "__main__":
    main()
