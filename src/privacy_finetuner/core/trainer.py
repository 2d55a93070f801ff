"""The trainer under its documented path."""

from privacy_finetuner.trainer import PrivateTrainer

__all__ = ["PrivateTrainer"]
