"""The command line `pipeline-guard`; a command imports only what it needs."""

from __future__ import annotations

from pipeline_guard.cli.entry import main

__all__ = ["main"]
