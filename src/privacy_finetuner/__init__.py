"""Fine-tune language models on sensitive text with differential privacy, and prove what leaks.

from privacy_finetuner import PrivacyConfig, PrivateTrainer

trainer = PrivateTrainer("path/to/model", PrivacyConfig(epsilon=8.0, delta=1e-5))
result = trainer.train("records.jsonl", epochs=3, batch_size=64)
print(result.privacy_spent)
"""

from typing import TYPE_CHECKING, Any

from privacy_finetuner.config import PerformanceFlags, PrivacyConfig, TrainingConfig
from privacy_finetuner.context.guard import ContextGuard
from privacy_finetuner.context.results import ProtectionResult, RedactionReport
from privacy_finetuner.context.strategies import RedactionStrategy
from privacy_finetuner.errors import (
    CheckpointError,
    ConfigurationError,
    DatasetError,
    DocumentError,
    ModelLoadError,
    ModelTrainingException,
    NonFiniteWeights,
    PrivacyBudgetExhaustedException,
    PrivacyError,
    TrainingInterrupted,
    UnsupportedLayer,
    WrongKey,
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

if TYPE_CHECKING:
    from privacy_finetuner.assessment.algorithms import NovelAlgorithms
    from privacy_finetuner.assessment.benchmarks import BenchmarkSuite
    from privacy_finetuner.assessment.optimization import PrivacyConstraints
    from privacy_finetuner.assessment.quality import TestConfiguration, TestOrchestrator
    from privacy_finetuner.assessment.research import ResearchLayer
    from privacy_finetuner.assessment.validation import PrivacyValidationResult, PrivacyValidator
    from privacy_finetuner.operations.threats import (
        AttackSimulationResult,
        SecuritySummary,
        ThreatAlert,
        ThreatDetector,
        ThreatType,
    )
    from privacy_finetuner.recovery import (
        FailureRecoverySystem,
        FailureType,
        RecoveryStatistics,
        TestResults,
    )

__version__ = "0.1.0"

__all__ = [
    "AttackSimulationResult",
    "BenchmarkSuite",
    "CheckpointError",
    "ConfigurationError",
    "ContextGuard",
    "DatasetError",
    "DocumentError",
    "EvaluationResult",
    "FailureRecoverySystem",
    "FailureType",
    "ModelLoadError",
    "ModelTrainingException",
    "NonFiniteWeights",
    "NovelAlgorithms",
    "PerformanceFlags",
    "PrivacyBudgetExhaustedException",
    "PrivacyConfig",
    "PrivacyConstraints",
    "PrivacyError",
    "PrivacyGuarantees",
    "PrivacyReport",
    "PrivacySpent",
    "PrivacyValidationResult",
    "PrivacyValidator",
    "PrivateTrainer",
    "ProtectionResult",
    "RecoveryStatistics",
    "RedactionReport",
    "RedactionStrategy",
    "ResearchLayer",
    "SecuritySummary",
    "TestConfiguration",
    "TestOrchestrator",
    "TestResults",
    "ThreatAlert",
    "ThreatDetector",
    "ThreatType",
    "TrainingConfig",
    "TrainingHistory",
    "TrainingInterrupted",
    "TrainingResult",
    "UnsupportedLayer",
    "WrongKey",
    "__version__",
]

_LAZY = {
    "FailureRecoverySystem": "privacy_finetuner.recovery",
    "FailureType": "privacy_finetuner.recovery",
    "RecoveryStatistics": "privacy_finetuner.recovery",
    "TestResults": "privacy_finetuner.recovery",
    "TestOrchestrator": "privacy_finetuner.assessment.quality",
    "TestConfiguration": "privacy_finetuner.assessment.quality",
    "ResearchLayer": "privacy_finetuner.assessment.research",
    "PrivacyConstraints": "privacy_finetuner.assessment.optimization",
    "NovelAlgorithms": "privacy_finetuner.assessment.algorithms",
    "BenchmarkSuite": "privacy_finetuner.assessment.benchmarks",
    "PrivacyValidationResult": "privacy_finetuner.assessment.validation",
    "PrivacyValidator": "privacy_finetuner.assessment.validation",
    "AttackSimulationResult": "privacy_finetuner.operations.threats",
    "SecuritySummary": "privacy_finetuner.operations.threats",
    "ThreatAlert": "privacy_finetuner.operations.threats",
    "ThreatDetector": "privacy_finetuner.operations.threats",
    "ThreatType": "privacy_finetuner.operations.threats",
}


def __getattr__(name: str) -> Any:
    """Load what is not needed to train when it is first asked for."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 -- with what it imports

    return getattr(import_module(_LAZY[name]), name)
