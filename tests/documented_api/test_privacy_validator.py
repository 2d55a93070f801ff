"""The documented snippet of `PrivacyValidator`, with a small model in place of the 7B."""

from __future__ import annotations

import inspect
from pathlib import Path

EMPTY = inspect.Parameter.empty
PARAMETERS = {
    "self": EMPTY,
    "model": EMPTY,
    "training_history": EMPTY,
    "privacy_config": EMPTY,
    "validation_method": "mathematical_proof",
}


def test_the_validator_has_the_documented_parameters_in_order() -> None:
    from privacy_finetuner import PrivacyValidator

    found = inspect.signature(PrivacyValidator.validate_privacy_guarantees).parameters
    assert {name: p.default for name, p in found.items()} == PARAMETERS
    assert list(found) == list(PARAMETERS)


def test_the_snippet_of_the_validator_runs(llama_folder: Path, tmp_path: Path) -> None:
    from privacy_finetuner import PrivacyConfig, PrivacyValidator, PrivateTrainer

    privacy_config = PrivacyConfig(epsilon=8.0, delta=1e-4)
    result = PrivateTrainer(str(llama_folder), privacy_config).train(
        [{"text": f"note {n}"} for n in range(40)],
        epochs=1,
        batch_size=20,
        max_length=12,
        output_dir=str(tmp_path / "run"),
    )
    trained_model, training_history = result.final_model, result.training_history

    validator = PrivacyValidator()
    validation_result = validator.validate_privacy_guarantees(
        model=trained_model, training_history=training_history, privacy_config=privacy_config
    )

    assert f"Privacy guarantee verified: {validation_result.guarantee_verified}".endswith("True")
    assert validation_result.theoretical_epsilon <= 8
    assert validation_result.empirical_epsilon_bound is None
