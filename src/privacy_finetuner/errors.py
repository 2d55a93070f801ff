"""What can go wrong in a private fine-tune, as a tree.

PrivacyError (privacy_core)
+-- ConfigurationError               parameters contradict each other or are out of range
+-- DatasetError                     a data set cannot be read as training examples
+-- DocumentError                    a file cannot be read, decoded or parsed to be redacted
+-- WrongKey                         a text has sealed values, and the key opens none of them
+-- ModelLoadError                   a model or tokenizer cannot be loaded, or lacks a part
+-- UnsupportedLayer                 a layer has no sound per-example gradient; nothing began
+-- PrivacyBudgetExhaustedException  the next private act would exceed the budget; not done
+-- CheckpointError                  a checkpoint is missing, damaged, or of another version
|   +-- CheckpointNotWritten         the disk refused it; earlier ones are intact
+-- ModelTrainingException           training stopped; what was spent is spent
    +-- TrainingInterrupted          somebody stopped the run; it can be resumed
    +-- NonFiniteWeights             a trained weight is NaN or infinite; what was spent is spent

Every error carries names, numbers and positions, never the data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from privacy_core.errors import PrivacyError

if TYPE_CHECKING:
    from privacy_finetuner.results import TrainingResult

__all__ = [
    "CheckpointError",
    "CheckpointNotWritten",
    "ConfigurationError",
    "DatasetError",
    "DocumentError",
    "ModelLoadError",
    "ModelTrainingException",
    "NonFiniteWeights",
    "PrivacyBudgetExhaustedException",
    "PrivacyError",
    "TrainingInterrupted",
    "UnsupportedLayer",
    "WrongKey",
]


class ConfigurationError(PrivacyError, ValueError):
    """The parameters contradict each other or are out of range. Nothing was started or spent."""

    code: ClassVar[str] = "configuration_error"


class DatasetError(PrivacyError, ValueError):
    """A data set cannot be read as training examples. Nothing was spent."""

    code: ClassVar[str] = "dataset_error"


class DocumentError(PrivacyError, ValueError):
    """A file cannot be read, decoded or parsed as what it says it is. It was not written."""

    code: ClassVar[str] = "document_error"


class WrongKey(PrivacyError):
    """A text holds sealed values, and the key opens none of them. Nothing was revealed."""

    code: ClassVar[str] = "wrong_key"


class ModelLoadError(PrivacyError):
    """A model or tokenizer cannot be loaded, or lacks what training needs. Nothing was spent."""

    code: ClassVar[str] = "model_load_error"


class UnsupportedLayer(PrivacyError):
    """A layer has no sound per-example gradient. Training did not start; nothing was spent."""

    code: ClassVar[str] = "unsupported_layer"

    def __init__(self, layer: str, kind: str, reason: str) -> None:
        super().__init__(layer, kind, reason)
        self.layer = layer
        self.kind = kind
        self.reason = reason

    def __str__(self) -> str:
        return f"layer {self.layer!r} ({self.kind}): {self.reason}; nothing was spent"


class PrivacyBudgetExhaustedException(PrivacyError):
    """The next private act would exceed the budget. It did not happen.

    `result` holds what was reached so far when a training run was stopped; it is `None` when
    nothing had run.
    """

    code: ClassVar[str] = "privacy_budget_exhausted"

    def __init__(
        self,
        *,
        epsilon_requested: float,
        epsilon_remaining: float,
        delta_requested: float,
        delta_remaining: float,
        state: str = "nothing was spent",
        result: TrainingResult | None = None,
    ) -> None:
        super().__init__(epsilon_requested, epsilon_remaining, delta_requested, delta_remaining)
        self.epsilon_requested = epsilon_requested
        self.epsilon_remaining = epsilon_remaining
        self.delta_requested = delta_requested
        self.delta_remaining = delta_remaining
        self.state = state
        self.result = result

    def __str__(self) -> str:
        return (
            f"epsilon {self.epsilon_requested:.6g} at delta {self.delta_requested:.3g} was "
            "requested, "
            f"epsilon {self.epsilon_remaining:.6g} and delta {self.delta_remaining:.3g} are left; "
            f"{self.state}"
        )


class CheckpointError(PrivacyError):
    """A checkpoint is missing, damaged, or of another version. The files were left as they are."""

    code: ClassVar[str] = "checkpoint_error"


class CheckpointNotWritten(CheckpointError):
    """The disk refused a checkpoint. Earlier ones are intact; what was spent is spent."""

    code: ClassVar[str] = "checkpoint_not_written"


class ModelTrainingException(PrivacyError):
    """Training stopped. The last good checkpoint is intact; what was spent is spent."""

    code: ClassVar[str] = "training_failed"


class TrainingInterrupted(ModelTrainingException):
    """Somebody stopped the run between two steps. It is saved and can be resumed."""

    code: ClassVar[str] = "training_interrupted"


class NonFiniteWeights(ModelTrainingException):
    """A trained weight is NaN or infinite. What was spent is spent; the last checkpoint is intact.

    Weights are released values, so this says nothing that the guarantee does not cover already. A
    record whose loss is not finite raises nothing: it contributes zero.
    """

    code: ClassVar[str] = "non_finite_weights"
