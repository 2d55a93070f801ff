"""The environment's configuration under its documented path."""

from privacy_finetuner.environment import EnvironmentConfig

__all__ = ["EnvironmentConfig"]
