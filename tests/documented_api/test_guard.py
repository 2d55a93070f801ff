"""The documented classes of the guard, under all three import roots, and their examples."""

from __future__ import annotations

import asyncio
import inspect
import json
import subprocess
import sys
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from pipeline_guard import (
    Alert,
    ConfigManager,
    ConfigurationError,
    HealthStatus,
    PipelineComponent,
    PipelineGuardError,
    PipelineOrchestrator,
    SelfHealingPipelineGuard,
)

ROOT = Path(__file__).parents[2]
EXAMPLE = "config/production.yaml"
HOMES = {
    "pipeline_guard": ["SelfHealingPipelineGuard", "Alert", "HealthStatus", "PipelineComponent",
                       "PipelineGuardError", "ConfigurationError", "MonitoringError",
                       "RecoveryError"],
    "guard_config": ["ConfigManager", "GuardConfig"],
    "guard_orchestrator": ["PipelineOrchestrator"],
}  # fmt: skip
SIGNATURES = [
    (SelfHealingPipelineGuard.__init__, ["self", "config_path"]),
    (SelfHealingPipelineGuard.start_monitoring, ["self"]),
    (SelfHealingPipelineGuard.stop_monitoring, ["self"]),
    (SelfHealingPipelineGuard.get_system_status, ["self"]),
    (
        SelfHealingPipelineGuard._add_custom_health_check,
        ["self", "component", "check_name", "check_function", "interval_seconds"],
    ),
    (PipelineOrchestrator.__init__, ["self", "config_path"]),
    (PipelineOrchestrator.start, ["self"]),
    (PipelineOrchestrator.stop, ["self"]),
    (PipelineOrchestrator.get_orchestrator_status, ["self"]),
    (ConfigManager.__init__, ["self", "config_path"]),
    (ConfigManager.get_config, ["self"]),
    (ConfigManager.save_config, ["self", "config"]),
    (ConfigManager.create_sample_config, ["self", "output_path"]),
    (ConfigManager.validate_config, ["config"]),
]


@pytest.fixture
def production(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the file that the documents name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").mkdir()
    text = (
        "version: 1\n"
        "components: {storage: {}}\n"
        "checks: [{id: disk, component: storage, type: disk, path: ., interval: 1s}]\n"
    )
    (tmp_path / EXAMPLE).write_text(text)
    return tmp_path


@pytest.mark.parametrize(("called", "names"), SIGNATURES, ids=lambda v: getattr(v, "__name__", ""))
def test_documented_parameters_come_in_their_order(called: Any, names: list[str]) -> None:
    found = [
        name
        for name, p in inspect.signature(called).parameters.items()
        if p.kind is not inspect.Parameter.KEYWORD_ONLY
    ]

    assert found == names


def test_what_is_documented_as_async_is_and_what_is_not_is_not() -> None:
    assert inspect.iscoroutinefunction(SelfHealingPipelineGuard.start_monitoring)
    assert not inspect.iscoroutinefunction(SelfHealingPipelineGuard.stop_monitoring)
    assert inspect.iscoroutinefunction(PipelineOrchestrator.start)
    assert inspect.iscoroutinefunction(PipelineOrchestrator.stop)


@pytest.mark.parametrize("module", sorted(HOMES))
def test_the_doorways_and_the_package_give_the_same_classes(module: str) -> None:
    door, face = import_module(f"mobile_multimodal.{module}"), import_module("pipeline_guard")

    for name in HOMES[module]:
        assert getattr(door, name) is getattr(face, name)


@pytest.mark.parametrize("module", sorted(HOMES))
def test_the_documented_path_works_from_the_checkout(module: str) -> None:
    names = ", ".join(HOMES[module])
    code = f"from src.mobile_multimodal.{module} import {names}; print('there')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.stdout.strip() == "there", done.stderr


def test_the_example_of_the_guard_runs(production: Path, capsys: Any) -> None:
    async def example() -> None:
        # Initialize
        guard = SelfHealingPipelineGuard("config/production.yaml")

        # Start monitoring
        await guard.start_monitoring()

        # Get status
        status = guard.get_system_status()
        print(f"Health: {status['overall_health']}")  # noqa: T201  # the document prints it
        guard.stop_monitoring()
        await guard.wait_stopped()

    asyncio.run(example())

    assert capsys.readouterr().out == "Health: healthy\n"
    assert (production / "config" / "pipeline_guard.db").exists()


def test_the_example_of_the_configuration_runs(production: Path) -> None:
    manager = ConfigManager("config/production.yaml")
    config = manager.get_config()

    # Validate configuration
    issues = ConfigManager.validate_config(config)
    assert issues == []

    manager.save_config()
    assert ConfigManager("config/production.yaml").get_config() == config
    manager.create_sample_config()
    sample = ConfigManager("pipeline_guard_config_sample.yaml").get_config()
    assert [check.id for check in sample.checks] == ["disk", "memory"]


def test_the_examples_of_checks_and_recoveries_run(production: Path) -> None:
    state = {"is_broken": True}
    guard = SelfHealingPipelineGuard()

    def check_custom_condition() -> bool:
        return not state["is_broken"]

    def perform_custom_recovery() -> None:
        state["is_broken"] = False

    def custom_health_check() -> HealthStatus:
        """Custom health check function."""
        try:
            if check_custom_condition():
                return HealthStatus.HEALTHY
            else:  # noqa: RET505  # as the document has it
                return HealthStatus.DEGRADED
        except Exception:  # noqa: BLE001  # as the document has it
            return HealthStatus.FAILED

    def custom_recovery(alert: Alert) -> bool:
        """Custom recovery action."""
        try:
            perform_custom_recovery()
            return alert.severity is HealthStatus.DEGRADED  # noqa: TRY300  # as the document has it
        except Exception:  # noqa: BLE001  # as the document has it
            return False

    guard._add_custom_health_check(
        component=PipelineComponent.CUSTOM,
        check_name="custom_check",
        check_function=custom_health_check,
        interval_seconds=0.05,
    )
    guard.recovery_strategies[PipelineComponent.CUSTOM] = custom_recovery
    healed: list[str] = []
    guard.add_observer(lambda events, _: healed.extend(e.kind.value for e in events))

    async def main() -> None:
        await guard.start_monitoring()
        loop = guard._running
        assert loop is not None
        loop.loop.watch.graces.clear()  # a minute of grace is too long for a test
        async with asyncio.timeout(20):
            while "healed" not in healed:  # noqa: ASYNC110  # there is no event for it
                await asyncio.sleep(0.02)
        guard.stop_monitoring()
        await guard.wait_stopped()

    asyncio.run(main())
    assert not state["is_broken"]


def test_before_the_first_look_nobody_claims_that_all_is_well(production: Path) -> None:
    assert SelfHealingPipelineGuard().get_system_status()["overall_health"] == "unknown"


def test_the_orchestrator_starts_stops_and_says_how_it_stands(production: Path) -> None:
    async def main() -> dict[str, Any]:
        orchestrator = PipelineOrchestrator("config/production.yaml")
        await orchestrator.start()
        status = orchestrator.get_orchestrator_status()
        await orchestrator.stop()
        assert not orchestrator.get_orchestrator_status()["is_running"]
        return status

    status = asyncio.run(main())

    assert status["is_running"]
    assert status["overall_health"] == "healthy"
    json.dumps(status)


def test_an_error_has_the_documented_body() -> None:
    guard = SelfHealingPipelineGuard()
    with pytest.raises(ConfigurationError) as caught:
        guard._add_custom_health_check("storage", "c", lambda: True, -1)

    assert isinstance(caught.value, PipelineGuardError)
    body = caught.value.to_dict(guard.now())["error"]
    assert body["type"] == "ConfigurationError"
    assert body["details"] == {
        "parameter": "interval_seconds", "value": -1, "constraint": "must be positive",
    }  # fmt: skip


@pytest.mark.parametrize("module", ["pipeline_guard", "guard_orchestrator"])
def test_the_documented_command_lines_answer(module: str, production: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", f"src.mobile_multimodal.{module}", *words],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    status = run("--config", str(production / EXAMPLE), "--status")
    assert run("--help").returncode == 0
    assert status.returncode == 3
    assert "which `pipeline-guard run` makes" in status.stderr


def test_the_examples_of_the_metrics_run(tmp_path: Path) -> None:
    from mobile_multimodal.guard_metrics import MetricPoint, MetricsCollector

    async def documented() -> None:
        collector = MetricsCollector(str(tmp_path / "pipeline_metrics.db"))
        await collector.start_collection()
        collector.record_metric("training", "accuracy", 0.95, {"model": "v2.1"})
        collector.record_metric("quantization", "model_size_mb", 34.2)
        labels = {"model_version": "v2.1", "device_type": "android", "quantization": "int2"}
        collector.record_metric(
            component="mobile_inference", metric_name="response_time_ms", value=45.2, labels=labels
        )
        metrics_batch = [
            MetricPoint(datetime.now(), "training", "loss", 0.023),  # noqa: DTZ005, TID251  as documented
            MetricPoint(datetime.now(), "training", "accuracy", 0.97),  # noqa: DTZ005, TID251
            MetricPoint(datetime.now(), "validation", "accuracy", 0.95),  # noqa: DTZ005, TID251
        ]
        for metric in metrics_batch:
            collector.record_metric(metric.component, metric.metric_name, metric.value)
        metrics = collector.get_metrics(component="training", limit=100)
        await collector.stop_collection()
        found = collector.get_metrics("mobile_inference")
        collector.close()
        assert sorted(point.value for point in metrics) == [0.023, 0.95, 0.97]
        assert [(point.value, point.labels) for point in found] == [(45.2, labels)]

    asyncio.run(documented())
