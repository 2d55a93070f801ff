"""Fine-tune language models on sensitive text with differential privacy, and prove what leaks.

from privacy_finetuner import PrivacyConfig, PrivateTrainer

trainer = PrivateTrainer("path/to/model", PrivacyConfig(epsilon=8.0, delta=1e-5))
result = trainer.train("records.jsonl", epochs=3, batch_size=64)
print(result.privacy_spent)
"""

from privacy_finetuner.config import PerformanceFlags, PrivacyConfig, TrainingConfig
from privacy_finetuner.errors import (
    CheckpointError,
    ConfigurationError,
    DatasetError,
    ModelLoadError,
    ModelTrainingException,
    NonFiniteLoss,
    PrivacyBudgetExhaustedException,
    PrivacyError,
    TrainingInterrupted,
    UnsupportedLayer,
)
from privacy_finetuner.results import (
    EvaluationResult,
    PrivacyGuarantees,
    PrivacyReport,
    PrivacySpent,
    TrainingHistory,
    TrainingResult,
)
from privacy_finetuner.trainer import PrivateTrainer

__version__ = "0.1.0"

__all__ = [
    "CheckpointError",
    "ConfigurationError",
    "DatasetError",
    "EvaluationResult",
    "ModelLoadError",
    "ModelTrainingException",
    "NonFiniteLoss",
    "PerformanceFlags",
    "PrivacyBudgetExhaustedException",
    "PrivacyConfig",
    "PrivacyError",
    "PrivacyGuarantees",
    "PrivacyReport",
    "PrivacySpent",
    "PrivateTrainer",
    "TrainingConfig",
    "TrainingHistory",
    "TrainingInterrupted",
    "TrainingResult",
    "UnsupportedLayer",
    "__version__",
]
