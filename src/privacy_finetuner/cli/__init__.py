"""The command line `privacy-finetuner`: train, evaluate, generate, report, accountant, version.

Importing this room is cheap: torch and the model libraries are loaded inside the commands that
train or score, so that `--help` and `accountant` answer at once.
"""

from __future__ import annotations

from privacy_finetuner.cli.entry import main

__all__ = ["main"]
