"""The command line `federated-dp-llm`; a command imports only what it needs."""

from __future__ import annotations

from federated_dp_llm.cli.entry import main

__all__ = ["main"]
