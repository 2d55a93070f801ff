"""`ConfigManager`: the documented way to read, check and write a configuration."""

from __future__ import annotations

from pathlib import Path

from pipeline_guard.config import GuardConfig, read_config, written
from pipeline_guard.config.document import faults_of
from pipeline_guard.config.reading import line_of
from pipeline_guard.errors import ConfigurationError
from pipeline_guard.guard.kinds import registries
from pipeline_guard.guard.sample import sample
from privacy_runtime.files import WriteFailed, write_atomic


class ConfigManager:
    """Reads, checks and writes a configuration.

    Args:
        config_path: the file; none: the defaults, and nothing is watched.

    Raises:
        ConfigurationError: the file has faults; every one is named.
    """

    def __init__(self, config_path: str | None = None) -> None:
        self.path = Path(config_path) if config_path is not None else None
        self._config = read_config(self.path, registries()) if self.path else GuardConfig()

    def get_config(self) -> GuardConfig:
        """The configuration."""
        return self._config

    def save_config(self, config: GuardConfig | None = None) -> None:
        """Write a configuration to the file, whole or not at all, and go on with it.

        Comments of the file are not kept: they are no part of the values.

        Args:
            config: none: the one that was read.

        Raises:
            ConfigurationError: it has faults, holds a secret, or there is no file to write to;
                nothing was written.
        """
        config = config or self._config
        if self.path is None:
            raise ConfigurationError(
                "there is no file to save to; expected a ConfigManager(config_path)",
                {"parameter": "config_path", "value": None, "constraint": "must be given"},
            )
        if faults := self.validate_config(config):
            listed = "".join(f"\n  {fault}" for fault in faults)
            raise ConfigurationError(
                f"the configuration has faults; nothing was written{listed}", {"faults": faults}
            )
        _write(self.path, written(config))
        self._config = config

    def create_sample_config(self, output_path: str = "pipeline_guard_config_sample.yaml") -> None:
        """Write a sample with a comment on every part; it is a file that can be used.

        Raises:
            ConfigurationError: the disk refused; nothing was written.
        """
        _write(Path(output_path), sample(Path.cwd()))

    @staticmethod
    def validate_config(config: GuardConfig) -> list[str]:
        """Everything that is wrong, one line each: key, value, constraint. None: it can be used."""
        return [line_of(fault) for fault in faults_of(config, registries())]


def _write(path: Path, text: str) -> None:
    try:
        write_atomic(path, text.encode())
    except WriteFailed as error:
        raise ConfigurationError(str(error), {"parameter": "path", "value": str(path)}) from error
