"""A configuration is read strictly, with every fault at once, and written so that it reads back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_guard.config import (
    POSITIVE,
    Automatic,
    GuardConfig,
    Mode,
    RecoverySettings,
    Registries,
    Step,
    Trigger,
    Within,
    all_checks,
    build,
    bytes_of,
    described,
    duration_text,
    faults_of,
    json_schema,
    parse_config,
    seconds_of,
    written,
)
from pipeline_guard.errors import ConfigurationError
from pipeline_guard.guard.kinds import registries
from pipeline_guard.guard.sample import runs_below, sample
from privacy_runtime.secret import Secret

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A disk.

    Attributes:
        path: of the disk.
        warn_s, crit_s: how long it may last.
    """

    path: Path
    warn_s: float = 3_600.0
    crit_s: float = 900.0
    low_bytes: int = 0
    share: Annotated[float, Within(0, 1)] = 0.5
    token: Secret | None = None
    kind: Literal["fast", "slow"] = "fast"
    limits_s: Mapping[str, float | Automatic] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.crit_s > self.warn_s:
            raise ValueError("crit_s must not be above warn_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminate:
    """Ends it."""

    grace_s: Annotated[float, POSITIVE] = 10.0


KINDS = Registries({"disk": Disk, "heartbeat": Disk}, {"terminate": Terminate, "start": Terminate})
GOOD = """\
version: 1
defaults: {interval: 10s, timeout: 5s, for: 3, clear_after: 2, grace_after_start: 60s}
components:
  storage: {}
  trainer: {depends_on: [storage], heartbeat: {path: beat, limits: {setup: 900s, step: auto*5}}}
checks:
  - {id: disk, component: storage, type: disk, path: /ckpt, warn: 60m, crit: 15m, low: 10GiB}
notify:
  destinations: {oncall: {kind: slack, url: "${SLACK_URL}"}}
recoveries:
  - on: {component: trainer, fault: hang}
    steps: [start, {terminate: {grace: 10s}}, {type: terminate, grace: 1e1, rollback: [start]}]
    verify: {check: trainer.progress, within: 120s}
    limits: {cooldown: 5m, max_attempts: 3, window: 1h, no_progress: 3}
    mode: act
    escalate: [slack:oncall]
    runbook: docs/runbooks/hang.md
"""
VARIABLES = {"SLACK_URL": "https://hooks.example/x"}


def parsed(text: str) -> GuardConfig:
    return parse_config(text, "c.yaml", KINDS, variables=VARIABLES)


def faults(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        parsed(text)
    assert "nothing was started or changed" in caught.value.message
    return [fault["message"] for fault in caught.value.details["faults"]]


def test_the_example_of_the_notes_is_read() -> None:
    config = parsed(GOOD)
    recovery = config.recoveries[0]

    assert [check.id for check in all_checks(config)] == ["disk", "trainer.progress"]
    assert config.checks[0].where == "c.yaml:7"
    assert recovery.limits.cooldown_s == 300.0
    assert [step.type for step in recovery.steps] == ["start", "terminate", "terminate"]
    assert recovery.steps[2].rollback == (Step(type="start"),)
    assert recovery.steps[2].parameters == {"grace": 10.0}
    assert config.mode_of(recovery) is Mode.ACT
    assert config.notify.destinations["oncall"].url.reveal() == VARIABLES["SLACK_URL"]
    assert VARIABLES["SLACK_URL"] not in repr(config)


def test_every_fault_is_said_at_once_with_file_line_key_value_and_constraint() -> None:
    found = faults("""\
version: 2
defaults: {interval: -1, for: 0, grace: 3s}
components:
  trainer: {depends_on: [storag], heartbeat: {path: x, limits: {step: auto*0.5}}}
  storage: {}
checks:
  - {id: a, component: storage, type: disc, path: /ckpt}
  - {id: b, component: storage, type: disk, warn: 60x, crti: 15m, low: 10GiX, share: 1.5}
  - 7
recoveries:
  - on: {component: trainer, fault: hung}
    steps: [start, {terminate: {grace: 0}}, {terminate: 5}]
    mode: acts
monitring: {}
http: {jwt_key: "${NOPE}", port: 99999}
""")

    expected = [
        "c.yaml:1: version is 2, expected one of 1",
        "c.yaml:2: defaults.grace is not a known key",
        "c.yaml:2: defaults.interval is -1, expected a duration such as 10s, 5m, 1h or 1h30m and "
        "above 0",
        "c.yaml:2: defaults.for is 0, expected a whole number and at least 1 and at most 21",
        "c.yaml:4: components.trainer.depends_on is 'storag', expected a component that is "
        "declared; did you mean 'storage'?",
        "c.yaml:4: components.trainer.heartbeat.limits.step is 'auto*0.5', expected a duration "
        "such as 10s, 5m, 1h or 1h30m or auto, or a multiple such as auto*5",
        "c.yaml:7: checks[0].type is 'disc', expected one of disk, heartbeat; did you mean 'disk'?",
        "c.yaml:8: checks[1].crti is not a known key; did you mean 'crit'?",
        "c.yaml:8: checks[1].path is missing; it must be given",
        "c.yaml:8: checks[1].warn is '60x', expected a duration such as 10s, 5m, 1h or 1h30m",
        "c.yaml:8: checks[1].low is '10GiX', expected a size such as 512MiB or 10GB",
        "c.yaml:8: checks[1].share is 1.5, expected a finite number and at least 0 and at most 1",
        "c.yaml:9: checks[2] is 7, expected keys of its own",
        "c.yaml:12: recoveries[0].steps[1].grace is 0, expected a duration such as 10s, 5m, 1h or "
        "1h30m and above 0",
        "c.yaml:12: recoveries[0].steps[2].terminate is 5, expected parameters",
        "c.yaml:13: recoveries[0].mode is 'acts', expected one of observe, suggest, act or null; "
        "did you mean 'act'?",
        "c.yaml:14: monitring is not a known key",
    ]
    assert [line for line in expected if line not in found] == []
    assert any("recoveries[0].on.fault is 'hung'" in line and "'hang'" in line for line in found)
    assert any("http.jwt_key needs NOPE, which is not set" in line for line in found)
    assert len(found) == len(expected) + 3


def test_the_value_of_a_secret_is_in_no_fault() -> None:
    with pytest.raises(ConfigurationError) as caught:
        parsed("http: {jwt_key: 1234567890}\nnotify: {destinations: {a: {kind: slack, url: 77}}}")

    said = caught.value.message + json.dumps(caught.value.details)
    assert "1234567890" not in said
    assert "http.jwt_key is Secret(***), expected a secret, such as ${NAME} or null" in said
    assert "77" not in said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("depends_on: [storage]", "depends_on: [trainer]"), "expected no circle"),
        (("check: trainer.progress", "check: trainer.progres"), "did you mean 'trainer.progress'?"),
        (("slack:oncall", "slack:nobody"), "expected a destination of notify"),
        (("slack:oncall", "email:oncall"), "expected a destination of notify"),
        (("{kind: slack", "{kind: webhook"), "expected a secret that signs"),
        (("crit: 15m", "crit: 90m"), "checks[0].crit must not be above warn_s"),
        (("for: 3", "for: 3, of: 2"), "of is 2, expected at least for, which is 3"),
        (("warn: 60m", "warn: 60m, warn_s: 1"), "is given twice, as warn and as warn_s"),
        (("steps: [start,", "steps: [stop,"), "expected one of start, terminate"),
        (("version: 1", "version: 1\nmaintenance: [{name: x, days: [sun], from: '2:00'}]"),
         "expected either start and end, or days with from and to"),
        (("id: disk", "id: trainer.progress"), "expected no check of that id beside it"),
    ],
)  # fmt: skip
def test_keys_that_do_not_go_together_are_faults(change: tuple[str, str], words: str) -> None:
    assert any(words in line for line in faults(GOOD.replace(*change)))


def test_a_configuration_is_written_so_that_it_reads_back_the_same() -> None:
    config = parsed(GOOD.replace('url: "${SLACK_URL}"', "url: https://hooks.example/x"))
    without = parsed(GOOD.partition("notify:")[0])

    assert parsed(written(without)) == without
    with pytest.raises(ConfigurationError, match="holds a secret"):
        written(config)


names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)


@settings(max_examples=40)
@given(
    st.floats(0.001, 1e6, allow_nan=False),
    st.sampled_from(Mode),
    st.lists(names, min_size=1, max_size=4, unique=True),
    st.text(max_size=30),
)
def test_whatever_is_written_reads_back(
    seconds: float, mode: Mode, components: list[str], words: str
) -> None:
    config = GuardConfig(
        mode=mode,
        components=dict.fromkeys(components, parsed("components: {a: {}}").components["a"]),
        recoveries=(
            RecoverySettings(
                on=Trigger(component=components[0]),
                steps=(Step(type="terminate", parameters={"grace": seconds, "note": words}),),
                runbook=words,
            ),
        ),
    )

    assert parse_config(written(config), "", Registries(), variables={}) == config


@given(st.integers(0, 10**7))
def test_a_duration_reads_back(seconds: int) -> None:
    assert seconds_of(duration_text(float(seconds))) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("1h30m", 5400), ("250ms", 0.25), (7, 7), ("1.5h", 5400), ("2d", 172800)],
)
def test_durations(text: Any, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "10", "-1s", "1x", "1h ", "1 h", True, None, -1, "nan"])
def test_what_is_no_duration(text: Any) -> None:
    assert seconds_of(text) is None


@pytest.mark.parametrize(("text", "size"), [("10GiB", 10 * 2**30), ("1 kB", 1000), (5, 5)])
def test_sizes(text: Any, size: int) -> None:
    assert bytes_of(text) == size


def test_a_probe_is_built_from_its_parameters_in_either_spelling() -> None:
    one = build(
        "disk", {"path": "/x", "warn": "30m", "limits": {"a": "auto*8"}}, KINDS.probes or {}, ""
    )
    other = build(
        "disk", {"path": "/x", "warn_s": 1800, "limits_s": {"a": "auto*8"}}, KINDS.probes or {}, ""
    )

    assert one == other
    assert one.limits_s == {"a": Automatic(8.0)}


def test_a_fault_of_a_parameter_names_it_its_value_and_its_constraint() -> None:
    with pytest.raises(ConfigurationError) as caught:
        build("disk", {"path": "/x", "share": 2}, KINDS.probes or {}, "check disk")

    assert caught.value.details["parameter"] == "share"
    assert caught.value.details["value"] == "2"
    assert caught.value.details["constraint"] == "a finite number and at least 0 and at most 1"


def test_faults_of_a_configuration_that_was_made_in_python() -> None:
    config = parsed(GOOD)
    found = faults_of(config, Registries({}, {}))

    assert faults_of(config, KINDS) == []
    assert {fault.path for fault in found} == {
        "check disk.type", "check trainer.progress.type", "recovery trainer.hang.type",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("own", "top", "found"),
    [
        (None, None, Mode.OBSERVE), (Mode.ACT, None, Mode.ACT), (None, Mode.ACT, Mode.ACT),
        (Mode.ACT, Mode.OBSERVE, Mode.OBSERVE), (Mode.OBSERVE, Mode.ACT, Mode.OBSERVE),
        (Mode.SUGGEST, None, Mode.SUGGEST), (None, Mode.SUGGEST, Mode.SUGGEST),
    ],
)  # fmt: skip
def test_the_mode_of_the_file_is_the_default_and_the_most(
    own: Mode | None, top: Mode | None, found: Mode
) -> None:
    recovery = RecoverySettings(on=Trigger(component="a"), steps=(Step(type="x"),), mode=own)

    assert GuardConfig(mode=top).mode_of(recovery) is found


# The real kinds: schema, sample, shipped files.


def test_the_schema_is_one_and_says_what_the_reader_says(tmp_path: Path) -> None:
    schema = json_schema(registries())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    text = sample(tmp_path)

    assert list(validator.iter_errors(yaml.safe_load(text))) == []
    wrong = text.replace("type: disk,", "type: disk, wran: 3m,")
    assert list(validator.iter_errors(yaml.safe_load(wrong)))
    with pytest.raises(ConfigurationError, match="did you mean 'warn'"):
        parse_config(wrong, "s.yaml", registries())


def test_every_parameter_of_every_kind_is_described() -> None:
    known = registries()
    assert described(Disk) == {
        "path": "of the disk.",
        "warn_s": "how long it may last.",
        "crit_s": "how long it may last.",
    }
    reserved = {
        "id",
        "component",
        "interval",
        "for",
        "of",
        "clear_after",
        "fault",
        "runbook",
        "type",
    }
    for kind in (known.probes or {}).values():
        assert not reserved & set(json.loads(json.dumps(list(described(kind)))))


def test_a_sample_is_made_from_the_runs_that_are_found(tmp_path: Path) -> None:
    for name in ("one", "two words"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "heartbeat.json").write_text("{}")
    config = parse_config(sample(tmp_path), "s.yaml", registries(), variables={})

    assert [name for name, _ in runs_below(tmp_path)] == ["one", "two_words"]
    assert set(config.components) == {"storage", "compute", "one", "two_words"}
    assert config.mode is Mode.OBSERVE


@pytest.mark.parametrize("name", ["pipeline_guard.yaml", "pipeline_guard_router.yaml"])
def test_the_shipped_configurations_are_read(name: str) -> None:
    path = ROOT / "configs" / name
    config = parse_config(path.read_text(), str(path), registries(), variables=VARIABLES)

    assert config.recoveries
    assert {config.mode_of(each) for each in config.recoveries} == {Mode.OBSERVE}


def test_a_gate_is_read_with_its_parameters_and_an_unknown_one_is_a_fault() -> None:
    kinds = Registries(KINDS.probes, KINDS.remedies, {"price": Terminate})
    config = parse_config("gates: [{type: price, grace: 5s}]", "c.yaml", kinds)

    assert config.gates[0].parameters == {"grace": "5s"}
    assert parse_config(written(config), "c.yaml", kinds) == config
    with pytest.raises(ConfigurationError, match="did you mean 'price'"):
        parse_config("gates: [{type: prize}]", "c.yaml", kinds)
