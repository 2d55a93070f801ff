"""`EnvironmentConfig`: an environment's configuration from a file, the environment and keywords."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from privacy_finetuner.config import PrivacyConfig
from privacy_finetuner.environment import checks
from privacy_finetuner.environment.readings import DEFAULT_PREFIX, read
from privacy_finetuner.environment.sections import Environment
from privacy_runtime.settings.faults import SettingsRefused
from privacy_runtime.settings.schema import Setting, Settled


class EnvironmentConfig(Environment):
    """What an environment says, checked as a whole.

    `EnvironmentConfig(...)` takes keywords only; `from_file` and `from_env` read further sources.
    Defaults < file < environment variables < keywords, key by key. The sections are attributes:
    `config.database.pool_size`. It is immutable; printed, it shows no secret.

    Args:
        **keywords: any key or section of the file (`database={"pool_size": 5}`), and the documented
            names: `database_url`, `redis_url`, and a section's name with `_config`:
            `privacy_config`, `security_config`, `scaling_config` (in it `min_replicas` and
            `max_replicas` are the policy's `min_nodes` and `max_nodes`).

    Raises:
        SettingsRefused: with every fault, each with its path, value, constraint and source.
    """

    settings: Mapping[str, Setting]
    """Every key by its path, with its value and source."""

    def __init__(self, **keywords: Any) -> None:
        self._hold("the configuration", read(None, prefix=None, keywords=keywords))

    @classmethod
    def from_file(
        cls,
        path: Path | str,
        *,
        prefix: str = DEFAULT_PREFIX,
        variables: Mapping[str, str] | None = None,
        **keywords: Any,
    ) -> EnvironmentConfig:
        """Read a YAML file, then the environment, then keywords.

        Args:
            path: the file.
            prefix: of variables that set keys: `PRIVACY_ML_DATABASE__POOL_SIZE`.
            variables: the environment; `None` is the process's.
            **keywords: as of the constructor.

        Raises:
            SettingsRefused: with every fault of file, environment and keywords.
        """
        settled = read(path, prefix=prefix, variables=variables, keywords=keywords)
        return cls.holding(str(path), settled)

    @classmethod
    def from_env(
        cls,
        prefix: str = DEFAULT_PREFIX,
        *,
        variables: Mapping[str, str] | None = None,
        **keywords: Any,
    ) -> EnvironmentConfig:
        """Read the environment, then keywords.

        `PRIVACY_ML_DEBUG=true` sets `debug`; two underscores separate a section from its key:
        `PRIVACY_ML_PRIVACY__EPSILON=2`. `PRIVACY_ML_DATABASE__URL_FILE` names a file with a secret.

        Raises:
            SettingsRefused: with every fault, a variable with the prefix that names no key too.
        """
        settled = read(None, prefix=prefix, variables=variables, keywords=keywords)
        return cls.holding("the environment", settled)

    @classmethod
    def holding(cls, source: str, settled: Settled[Environment]) -> EnvironmentConfig:
        """What was read, unless it has faults.

        Raises:
            SettingsRefused: it has; `source` is what the message is about.
        """
        config = cls.__new__(cls)
        config._hold(source, settled)
        return config

    @property
    def privacy_config(self) -> PrivacyConfig:
        """The guarantee, for `PrivateTrainer`."""
        privacy = self.privacy
        return PrivacyConfig(
            epsilon=privacy.epsilon,
            delta=privacy.delta,
            max_grad_norm=privacy.max_grad_norm,
            noise_multiplier=privacy.noise_multiplier,
            accounting_mode=privacy.accounting_mode,
            adaptive_clipping=privacy.adaptive_clipping,
            secure_rng=privacy.secure_rng,
        )

    @property
    def unused(self) -> tuple[Setting, ...]:
        """Keys that somebody set and that nothing acts on in this version."""
        return unused(self.settings)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is allowed and deserves a word."""
        return tuple(checks.notes(self, self.settings))

    def _hold(self, source: str, settled: Settled[Environment]) -> None:
        if settled.faults:
            raise SettingsRefused(source, settled.faults)
        self.__dict__.update(vars(settled.values), settings=settled.settings)


def unused(settings: Mapping[str, Setting]) -> tuple[Setting, ...]:
    """Keys that somebody set and that nothing acts on in this version."""
    given = (setting for setting in settings.values() if not setting.is_default)
    return tuple(setting for setting in given if not setting.entry.key.used_by)
