"""The commented files that `privacy-finetuner config init` writes; `configs/` holds both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from privacy_finetuner.environment.sections import Environment
from privacy_runtime.settings.templates import Reference, template

HEADER: Final = """\
Configuration of the Privacy Finetuner, for {environment}.

  privacy-finetuner config check FILE     everything that is wrong, all at once
  privacy-finetuner config show FILE      every value and where it came from

A key that is commented out has its default. A variable wins over this file:
PRIVACY_ML_DATABASE__POOL_SIZE=5 sets database.pool_size. ${{NAME}} is filled in from the
environment, from the file that NAME_FILE names, or from a secret mounted in /run/secrets.
Numbers and words are YAML 1.2: 1e-5 is a number, no and on are words."""

_DEVELOPMENT: Final[Mapping[str, Any]] = {
    "environment": "development",
    "debug": True,
    "log_level": "debug",
    "database.url": Reference("sqlite:///privacy-finetuner.db"),
    "database.pool_size": 5,
    "database.max_overflow": 5,
    "privacy.epsilon": 8.0,
    "privacy.delta": 1e-5,
}
_PRODUCTION: Final[Mapping[str, Any]] = {
    "environment": "production",
    "debug": False,
    "log_level": "info",
    "database.url": Reference("postgresql://privacy_user:${DB_PASSWORD}@postgres:5432/privacy_db"),
    "database.pool_size": 20,
    "database.max_overflow": 30,
    "redis.url": Reference("redis://redis:6379/0"),
    "redis.max_connections": 100,
    "privacy.epsilon": 1.0,
    "privacy.delta": 1e-5,
    "privacy.max_grad_norm": 1.0,
    "privacy.accounting_mode": "rdp",
    "privacy.adaptive_clipping": True,
    "privacy.secure_rng": True,
}
EXAMPLES: Final = {"development": _DEVELOPMENT, "production": _PRODUCTION}


def example(environment: str, values: Mapping[str, Any] | None = None) -> str:
    """The commented file of an environment, with `values` by path in the place of the usual."""
    usual = EXAMPLES[environment]
    return template(
        Environment, {**usual, **(values or {})}, header=HEADER.format(environment=environment)
    )
