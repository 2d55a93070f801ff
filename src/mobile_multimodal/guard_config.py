"""The documented path of the configuration."""

from pipeline_guard.config import GuardConfig
from pipeline_guard.guard.configuration import ConfigManager

__all__ = ["ConfigManager", "GuardConfig"]
