"""The documented signatures, defaults, fields and snippets, with a small model in place of the 7B.

The tables are written out here, so that a change of the interface fails a test and is seen.
"""

from __future__ import annotations

import inspect
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

EMPTY = inspect.Parameter.empty
CONSTRUCTOR = {
    "model_name": EMPTY,
    "privacy_config": EMPTY,
    "device": None,
    "use_mcp_gateway": True,
    "enable_context_guard": True,
}
TRAIN = {
    "dataset": EMPTY,
    "epochs": 3,
    "batch_size": 8,
    "learning_rate": 5e-5,
    "max_grad_norm": 1.0,
    "noise_multiplier": None,
    "target_epsilon": None,
    "target_delta": None,
    "save_steps": 500,
    "eval_steps": None,
    "output_dir": "./privacy_finetuned_model",
}
METHODS = {
    "__init__": CONSTRUCTOR,
    "train": TRAIN,
    "evaluate": {"dataset": EMPTY, "batch_size": 8, "privacy_safe": True},
    "get_privacy_report": {},
    "save_model": {"path": EMPTY, "include_privacy_state": True},
    "load_model": {"path": EMPTY, "restore_privacy_state": True},
    "reset_privacy_budget": {"new_epsilon": EMPTY, "new_delta": EMPTY},
}
CONFIG = {
    "epsilon": 1.0,
    "delta": 1e-5,
    "max_grad_norm": 1.0,
    "noise_multiplier": None,
    "accounting_mode": "rdp",
    "target_delta": None,
    "adaptive_clipping": True,
    "secure_rng": True,
}
CONFIG_METHODS = {
    "calculate_noise_multiplier": {"sample_rate": EMPTY, "epochs": EMPTY},
    "validate_configuration": {},
    "get_privacy_guarantees": {"steps": EMPTY, "sample_rate": EMPTY},
}


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    path = tmp_path / "training_data.jsonl"
    lines = [json.dumps({"text": f"note {i}: " + "ab" * (i % 5)}) for i in range(64)]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def positional(function: Any) -> dict[str, Any]:
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD,)
    found = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in found if p.kind in kinds and p.name != "self"}


@pytest.mark.parametrize("method", METHODS)
def test_the_trainer_has_the_documented_parameters_in_order(method: str) -> None:
    from privacy_finetuner import PrivateTrainer

    found = positional(getattr(PrivateTrainer, method))
    assert list(found.items()) == list(METHODS[method].items())


def test_the_configuration_has_the_documented_parameters_in_order() -> None:
    from privacy_finetuner import PrivacyConfig

    found = positional(PrivacyConfig.__init__)
    assert list(found.items())[: len(CONFIG)] == list(CONFIG.items())
    for method, expected in CONFIG_METHODS.items():
        assert positional(getattr(PrivacyConfig, method)) == expected


def test_results_have_the_documented_fields() -> None:
    from privacy_finetuner import PrivacyReport, TrainingResult

    assert {"final_model", "training_history", "privacy_spent", "checkpoints", "job_id"} <= {
        f.name for f in fields(TrainingResult)
    }
    assert {
        "privacy_spent", "privacy_remaining", "training_rounds", "gradient_norm_stats",
        "noise_injection_stats", "theoretical_guarantees",
    } <= {f.name for f in fields(PrivacyReport)}  # fmt: skip


def test_an_unknown_keyword_is_named_with_its_nearest(llama_folder: Path) -> None:
    from privacy_finetuner import PrivacyConfig, PrivateTrainer

    trainer = PrivateTrainer(str(llama_folder), PrivacyConfig())
    with pytest.raises(TypeError, match=r"'learning_rat'.*did you mean 'learning_rate'"):
        trainer.train("x.jsonl", learning_rat=1e-3)
    with pytest.raises(TypeError, match=r"'lora_rnk'.*did you mean 'lora_rank'"):
        trainer.train("x.jsonl", lora_rnk=4)
    with pytest.raises(TypeError, match=r"no parameter 'zzz'$"):
        trainer.train("x.jsonl", zzz=1)


def test_the_snippets_of_the_trainer_run(
    llama_folder: Path, dataset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from privacy_finetuner import PrivacyConfig, PrivateTrainer

    config = PrivacyConfig(epsilon=1.0, delta=1e-5)
    trainer = PrivateTrainer(
        model_name=str(llama_folder), privacy_config=config, use_mcp_gateway=True
    )
    result = trainer.train(
        dataset=dataset,
        epochs=3,
        batch_size=16,
        learning_rate=3e-5,
        target_epsilon=2.0,
        output_dir=str(tmp_path / "models"),
    )
    print(f"Final accuracy: {result.training_history.accuracy[-1]}")  # noqa: T201 -- as documented
    print(f"Privacy spent: ε={result.privacy_spent.epsilon}")  # noqa: T201
    eval_result = trainer.evaluate(dataset=dataset, privacy_safe=False)
    print(f"Accuracy: {eval_result.accuracy}")  # noqa: T201
    report = trainer.get_privacy_report()
    print(f"Privacy Budget Used: {report.privacy_spent.epsilon:.3f}")  # noqa: T201
    print(f"Privacy Remaining: {report.privacy_remaining.epsilon:.3f}")  # noqa: T201
    assert report.theoretical_guarantees is not None
    print(f"Theoretical ε: {report.theoretical_guarantees.epsilon_theoretical}")  # noqa: T201
    assert 1.0 < result.privacy_spent.epsilon <= 2.0
    assert report.theoretical_guarantees.epsilon_theoretical == result.privacy_spent.epsilon
    assert report.training_rounds == 12
    assert {"mean_norm", "clipping_rate"} <= set(report.gradient_stats)
    assert "noise_multiplier" in report.noise_injection_stats
    assert len(capsys.readouterr().out.splitlines()) == 6


def test_the_evaluation_snippet_runs_on_records_that_were_not_trained_on(
    llama_folder: Path, dataset: str
) -> None:
    from privacy_finetuner import PrivacyConfig, PrivateTrainer

    trainer = PrivateTrainer(str(llama_folder), PrivacyConfig())
    eval_result = trainer.evaluate(dataset=dataset, privacy_safe=True)
    assert 0 <= eval_result.accuracy <= 1
    assert eval_result.privacy_spent.epsilon == pytest.approx(0.1)


def test_the_snippets_of_the_configuration_run() -> None:
    from privacy_finetuner import PrivacyConfig

    config = PrivacyConfig(epsilon=1.0, delta=1e-5)
    assert config.validate_configuration() is True
    config = PrivacyConfig(epsilon=0.1, delta=1e-7, max_grad_norm=0.5, accounting_mode="gdp")
    # gdp prices full batches; with subsampling its usual formula promises too much, so it refuses.
    assert config.calculate_noise_multiplier(sample_rate=1.0, epochs=3) > 1
    promised = PrivacyConfig().get_privacy_guarantees(steps=100, sample_rate=0.01)
    assert promised.epsilon_theoretical == promised.epsilon <= 1.0


def test_the_snippet_of_the_robustness_document_runs_as_far_as_the_class_is_built(
    llama_folder: Path, dataset: str, tmp_path: Path
) -> None:
    from privacy_finetuner.core.privacy_config import PrivacyConfig
    from privacy_finetuner.core.trainer import PrivateTrainer

    privacy_config = PrivacyConfig(epsilon=1.0, delta=1e-5, noise_multiplier=1.1, max_grad_norm=1.0)
    trainer = PrivateTrainer(model_name=str(llama_folder), privacy_config=privacy_config)
    # With 64 records and this little noise no step fits into epsilon 1; the document's records are
    # more. Refused before anything is spent, and it goes through with a budget that fits.
    from privacy_finetuner.errors import PrivacyBudgetExhaustedException

    with pytest.raises(PrivacyBudgetExhaustedException):
        trainer.train(dataset=dataset, epochs=3, batch_size=8, output_dir=str(tmp_path))
    trainer.reset_privacy_budget(50.0, 1e-5)
    results = trainer.train(dataset=dataset, epochs=3, batch_size=8, output_dir=str(tmp_path))
    assert results.noise_multiplier == 1.1
    assert trainer.get_privacy_report().privacy_spent == results.privacy_spent


def test_the_names_of_the_core_package_are_the_same_classes() -> None:
    import privacy_finetuner
    from privacy_finetuner.core import privacy_config, trainer

    assert trainer.PrivateTrainer is privacy_finetuner.PrivateTrainer
    assert privacy_config.PrivacyConfig is privacy_finetuner.PrivacyConfig


def test_every_exported_name_exists() -> None:
    import privacy_finetuner

    assert all(hasattr(privacy_finetuner, name) for name in privacy_finetuner.__all__)
