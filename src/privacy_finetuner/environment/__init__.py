"""What an environment says: database, privacy, security, scaling, laws, languages, figures.

config = EnvironmentConfig.from_file("configs/production.yaml")
trainer = PrivateTrainer("path/to/model", config.privacy_config)
"""

from privacy_finetuner.environment.configuration import EnvironmentConfig
from privacy_runtime.settings.faults import SettingsRefused

__all__ = ["EnvironmentConfig", "SettingsRefused"]
