"""The documented configuration: read as it stands, refused where it cannot be, silent nowhere."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy_finetuner import PrivacyConfig
from privacy_finetuner.core.config import EnvironmentConfig
from privacy_finetuner.environment import SettingsRefused
from privacy_finetuner.environment.checks import noise_fault
from privacy_finetuner.environment.example import EXAMPLES, example
from privacy_finetuner.environment.readings import KEYS, read
from privacy_finetuner.environment.sections import Environment, Privacy
from privacy_runtime.secret import Secret
from privacy_runtime.settings.domains import Address, Choice, Flag, Hidden, Number, Several, Whole
from privacy_runtime.settings.schema import sections
from privacy_runtime.settings.templates import Reference

ROOT = Path(__file__).parents[3]
SECRETS = {"DB_PASSWORD": "correct-horse", "GRAFANA_PASSWORD": "battery-staple"}

DOCUMENTED = """\
environment: production
debug: false
log_level: info
database:
  url: postgresql://privacy_user:${DB_PASSWORD}@postgres:5432/privacy_db
  pool_size: 20
  max_overflow: 30
redis:
  url: redis://redis:6379/0
  max_connections: 100
privacy:
  epsilon: 1.0
  delta: 1e-5
  max_grad_norm: 1.0
  noise_multiplier: 0.5
  accounting_mode: rdp
  adaptive_clipping: true
  secure_rng: true
  federated: {enabled: false, aggregation_method: secure_sum, min_clients: 5}
security:
  enable_threat_detection: true
  alert_threshold: 0.7
  monitoring_interval: 1.0
  automated_response: true
  threat_types: [privacy_budget_exhaustion, model_inversion, data_poisoning, unauthorized_access]
scaling:
  enable_auto_scaling: true
  monitoring_interval: 60.0
  enable_cost_optimization: true
  scaling_policy:
    min_nodes: 2
    max_nodes: 20
    scale_up_threshold: {cpu_utilization: 70.0, gpu_utilization: 75.0}
    scale_down_threshold: {cpu_utilization: 30.0, gpu_utilization: 25.0}
compliance:
  primary_regions: ["EU", "California", "Canada"]
  enable_real_time_monitoring: true
  auto_remediation: true
  frameworks: [gdpr, ccpa, hipaa, pipeda]
i18n:
  default_locale: en_US
  fallback_locale: en_US
  enable_auto_detection: true
  supported_locales: [en_US, de_DE, fr_FR, ja_JP, ar_SA, zh_CN]
monitoring:
  prometheus: {enabled: true, port: 9090, scrape_interval: 30}
  grafana:
    enabled: true
    port: 3000
    admin_password: ${GRAFANA_PASSWORD}
  alerts:
    privacy_budget_threshold: 0.9
    threat_detection_enabled: true
    performance_degradation_threshold: 0.8
"""


def config(text: str, folder: Path, **variables: str) -> EnvironmentConfig:
    path = folder / "c.yaml"
    path.write_text(text)
    return EnvironmentConfig.from_file(path, variables={**SECRETS, **variables})


def faults(text: str, folder: Path, **variables: str) -> list[str]:
    with pytest.raises(SettingsRefused) as caught:
        config(text, folder, **variables)
    return [str(fault) for fault in caught.value.faults]


def test_the_documented_file_is_read_in_full(tmp_path: Path) -> None:
    found = config(DOCUMENTED, tmp_path)
    ours = (
        *("service.", "oidc.", "tracing.", "notify.", "monitoring.prometheus.host"),
        *("intake.", "router.", "guard.", "passwords.", "retention.", "artefacts."),
    )

    left = [path for path, setting in found.settings.items() if setting.is_default]
    assert [path for path in left if not path.startswith(ours)] == []
    assert found.privacy.delta == 1e-5
    assert found.database.url.reveal() == (
        "postgresql://privacy_user:correct-horse@postgres:5432/privacy_db"
    )
    assert found.monitoring.grafana.admin_password == Secret("battery-staple")
    assert found.compliance.primary_regions == ("EU", "California", "Canada")
    assert found.privacy_config == PrivacyConfig(epsilon=1.0, delta=1e-5, noise_multiplier=0.5)


def test_no_key_is_silent(tmp_path: Path) -> None:
    found = config(DOCUMENTED, tmp_path)

    assert [path for path, entry in KEYS.items() if not entry.key.used_by] == []
    assert found.unused == ()


def vars_of(section: type[Any]) -> set[str]:
    return set(section.__dataclass_fields__) - {"federated"}


def test_the_documented_call_works() -> None:
    found = EnvironmentConfig(
        environment="production",
        debug=False,
        log_level="info",
        database_url="postgresql://user:pass@host:5432/db",
        redis_url="redis://host:6379/0",
        privacy_config={"epsilon": 1.0, "delta": 1e-5, "max_grad_norm": 1.0},
        security_config={"enable_threat_detection": True, "alert_threshold": 0.7},
        scaling_config={"enable_auto_scaling": True, "min_replicas": 2, "max_replicas": 20},
    )

    assert found.scaling.scaling_policy.min_nodes == 2
    assert found.scaling.scaling_policy.max_nodes == 20
    assert found.settings["privacy.epsilon"].source == "keyword privacy.epsilon"
    assert "pass@" not in repr(found)
    with pytest.raises(FrozenInstanceError):
        found.debug = True  # type: ignore[misc]


def test_a_keyword_that_nobody_knows_or_that_comes_twice_is_refused() -> None:
    with pytest.raises(SettingsRefused) as caught:
        EnvironmentConfig(
            database_url="postgresql://h/a",
            database={"url": "postgresql://h/b", "pool_sise": 3},
            privacy_confg={"epsilon": 1},
            scaling={"min_replicas": 2},
            debug=1,
        )

    found = [str(fault) for fault in caught.value.faults]
    assert any("database.url: is given twice" in line for line in found)
    assert any("database.pool_sise" in line and "pool_size" in line for line in found)
    assert any("privacy_confg" in line for line in found)
    assert any("scaling.min_replicas" in line for line in found)
    assert any("debug: is 1, expected true or false" in line for line in found)


def test_the_environment_is_read_with_its_prefix() -> None:
    variables = {
        "PRIVACY_ML_DEBUG": "true",
        "PRIVACY_ML_DATABASE_URL": "postgresql://u:p@h/d",
        "PRIVACY_ML_PRIVACY__DELTA": "1e-6",
        "PRIVACY_ML_COMPLIANCE__FRAMEWORKS": "gdpr, hipaa",
        "PRIVACY_ML_PRIVACY__NOISE_MULTIPLIER": "null",
        "OTHER": "x",
    }
    found = EnvironmentConfig.from_env(variables=variables)

    assert found.debug
    assert found.privacy.delta == 1e-6
    assert found.compliance.frameworks == ("gdpr", "hipaa")
    assert found.settings["database.url"].source == "variable PRIVACY_ML_DATABASE_URL"
    assert EnvironmentConfig.from_env("APP_", variables={"APP_LOG_LEVEL": "error"}).log_level == (
        "error"
    )
    for prefix in ("", "app_", "APP"):
        with pytest.raises(SettingsRefused, match="capitals with an underscore"):
            EnvironmentConfig.from_env(prefix, variables={})


def test_variables_win_over_the_file_and_keywords_over_both(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("log_level: info\nprivacy: {epsilon: 3}\ndatabase: {pool_size: 4}\n")
    variables = {"PRIVACY_ML_LOG_LEVEL": "error", "PRIVACY_ML_PRIVACY__EPSILON": "2"}

    found = EnvironmentConfig.from_file(path, variables=variables, privacy={"epsilon": 1.0})

    assert (found.log_level, found.privacy.epsilon, found.database.pool_size) == ("error", 1.0, 4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("environment: production\ndebug: true", "line 2: debug: is true"),
        ("environment: staging\nredis: {url: 'redis://:redis@h/0'}", "ships with products"),
        (
            "environment: production\ndatabase: {url: 'postgresql://joe:joe@h/d'}",
            "the user's name",
        ),
        (
            "environment: production\nmonitoring: {grafana: {enabled: true}}",
            "line 2: monitoring.grafana.admin_password: is null",
        ),
        ("database: {pool_size: 600, max_overflow: 600}", "at most 1000 connections together"),
        ("scaling: {scaling_policy: {min_nodes: 30}}", "at most max_nodes"),
        (
            "scaling: {scaling_policy: {scale_down_threshold: {cpu_utilization: 70}}}",
            "come and go",
        ),
        ("i18n: {default_locale: it_IT}", "one that is supported"),
        ("i18n: {supported_locales: []}", "at least 1"),
        (
            "monitoring: {prometheus: {enabled: true, port: 3000}, grafana: {enabled: true}}",
            "another port",
        ),
    ],
)
def test_values_that_cannot_be_together_are_refused(tmp_path: Path, text: str, words: str) -> None:
    assert any(words in line for line in faults(text, tmp_path))


@pytest.mark.parametrize("name", ["router", "guard"])
@pytest.mark.parametrize(
    ("environment", "url", "key", "words"),
    [
        ("development", "https://there.example", "", "it shows nothing without"),
        ("production", "http://there.example:8443", "k-3f9", "a key is sent there"),
        ("production", "https://there.example", "secret", "ships with products"),
        ("production", "https://there.example", "k-3f9", ""),
        ("production", "http://127.0.0.1:8080", "k-3f9", ""),
        ("development", "http://there.example", "k-3f9", ""),
    ],
)
def test_a_neighbour_s_key_is_given_and_travels_over_tls(
    tmp_path: Path, name: str, environment: str, url: str, key: str, words: str
) -> None:
    given = f"  key: {key}\n" if key else ""
    text = f"environment: {environment}\n{name}:\n  url: {url}\n{given}"

    if words:
        assert words in " ".join(faults(text, tmp_path))
    else:
        assert getattr(config(text, tmp_path), name).url == Secret(url)


def test_known_passwords_are_for_development_and_are_not_repeated(tmp_path: Path) -> None:
    text = "environment: {}\ndatabase: {{url: 'postgresql://u:changeme@h/d'}}\n"

    assert config(text.format("development"), tmp_path).environment == "development"
    (line,) = faults(text.format("production"), tmp_path)
    assert "changeme" not in line


def test_no_fault_and_no_repr_holds_a_secret(tmp_path: Path) -> None:
    value = "s3cret/with@signs"
    lines = faults(
        "database: {url: 'postgresql://u:${DB_PASSWORD}@h/d'}\n"
        "log_level: ${DB_PASSWORD}\n"
        "redis: {url: 'http://u:s3cret/with@h'}\n"
        "monitoring: {grafana: {admin_password: [s3cret]}}\n",
        tmp_path,
        DB_PASSWORD=value,
    )

    assert len(lines) == 4
    assert not any("s3cret" in line for line in lines)


def test_epsilon_and_noise_together_are_a_note_and_checked_against_a_planned_training(
    tmp_path: Path,
) -> None:
    note, port = config(DOCUMENTED, tmp_path).notes
    privacy = Privacy(epsilon=1.0, delta=1e-5, noise_multiplier=1.2)

    assert "both set" in note
    assert "not even one step fits" in note
    assert "9090" in port
    assert noise_fault(privacy, sample_rate=0.01, steps=100) is None
    fault = noise_fault(privacy, sample_rate=0.01, steps=1000)
    assert fault is not None
    enough = float(fault.expected.split()[2].rstrip(","))
    solved = PrivacyConfig(epsilon=1.0, delta=1e-5).calculate_noise_multiplier(0.01, epochs=10)
    assert math.isclose(enough, solved, rel_tol=1e-3)
    told = Privacy(epsilon=1.0, delta=1e-5, noise_multiplier=enough)
    assert noise_fault(told, sample_rate=0.01, steps=1000) is None
    assert noise_fault(Privacy(), sample_rate=0.01, steps=10**6) is None


def test_a_password_that_stands_in_the_file_is_a_note(tmp_path: Path) -> None:
    (note,) = config("database: {url: 'postgresql://u:hunter2@h/d'}", tmp_path).notes

    assert "holds a password" in note
    assert "hunter2" not in note


@pytest.mark.parametrize(
    ("address", "is_taken"),
    [
        ("/srv/artefacts", True), ("s3://bucket/prefix", True), ("gs://bucket", True),
        ("artefacts", False), ("memory://x", False), ("file:///srv", False), ("https://h/x", False),
        ("s3://key:word@bucket", False),
    ],
)  # fmt: skip
def test_a_store_of_artefacts_is_one_that_every_process_can_write(
    address: str, is_taken: bool, tmp_path: Path
) -> None:
    text = f"artefacts: {{store: '{address}'}}"
    if is_taken:
        assert config(text, tmp_path).artefacts.store == address
        return

    (fault,) = faults(text, tmp_path)
    assert "artefacts.store" in fault


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_the_shipped_files_load_and_are_what_init_writes(name: str) -> None:
    path = ROOT / "configs" / f"{name}.yaml"
    found = EnvironmentConfig.from_file(path, variables=SECRETS)

    assert path.read_text() == example(name)
    assert found.environment == name
    assert found.notes == ()


def test_every_key_and_section_says_what_it_is() -> None:
    for path, entry in KEYS.items():
        assert entry.key.says.endswith("."), path
        assert len(entry.key.says) <= 90, path
        if isinstance(entry.key.domain, Whole | Number):
            assert entry.key.unit, path
        if entry.default is not None:
            assert entry.key.domain.read(entry.default) == entry.default, path
    for path, section in sections(Environment):
        assert (section.__doc__ or "").endswith("."), path


def test_the_section_takes_what_the_product_takes() -> None:
    for name in vars_of(Privacy):
        domain = KEYS[f"privacy.{name}"].key.domain
        if isinstance(domain, Choice):
            for word in domain.words:
                PrivacyConfig(**{name: word})  # type: ignore[arg-type]
        elif isinstance(domain, Number):
            low = domain.least if domain.least is not None else math.ulp(0.0)
            high = math.nextafter(domain.below, 0) if domain.below is not None else 1e300
            for value in (low, high):
                PrivacyConfig(**{name: value})  # type: ignore[arg-type]


def _values(domain: Any) -> st.SearchStrategy[Any]:
    match domain:
        case Flag():
            return st.booleans()
        case Whole():
            return st.integers(domain.least, domain.most)
        case Number():
            low = domain.above if domain.above is not None else domain.least
            high = domain.below if domain.below is not None else domain.most
            return st.floats(
                low, high, allow_nan=False, allow_infinity=False,
                exclude_min=domain.above is not None, exclude_max=domain.below is not None,
            )  # fmt: skip
        case Choice():
            return st.sampled_from(domain.words)
        case Several():
            return st.lists(_values(domain.item), unique=True, min_size=domain.least).map(tuple)
        case Address() | Hidden():
            return st.just(None)
        case _:
            return st.from_regex(domain.pattern, fullmatch=True)


LIMITED = [path for path, entry in KEYS.items() if not entry.key.domain.is_secret]


@given(data=st.data())
@settings(deadline=None)
def test_what_init_writes_is_what_is_read(data: st.DataObject, tmp_path_factory: Any) -> None:
    paths = data.draw(st.lists(st.sampled_from(LIMITED), unique=True, max_size=8))
    chosen = {path: data.draw(_values(KEYS[path].key.domain)) for path in paths}
    path = tmp_path_factory.getbasetemp() / "round.yaml"
    path.write_text(example("production", chosen), encoding="utf-8")

    settled = read(path, variables=SECRETS)

    conflicting = {fault.path for fault in settled.faults}
    assert all("; expected" in fault.message for fault in settled.faults)  # between keys only
    for key, value in chosen.items():
        assert settled.settings[key].value == value
        assert settled.settings[key].place.source == str(path)
    untouched = set(KEYS) - set(chosen) - set(EXAMPLES["production"])
    assert all(settled.settings[key].is_default for key in untouched)
    assert conflicting <= set(KEYS)


def test_a_reference_is_the_only_way_a_secret_gets_into_a_file() -> None:
    with pytest.raises(TypeError, match="reference"):
        example("production", {"redis.url": Secret("redis://h")})
    assert "url: ${REDIS}" in example("production", {"redis.url": Reference("${REDIS}")})
