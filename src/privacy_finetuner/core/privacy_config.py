"""The privacy configuration under its documented path."""

from privacy_finetuner.config import PrivacyConfig

__all__ = ["PrivacyConfig"]
