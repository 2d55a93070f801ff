"""Commands, Nagios plugins and Python functions."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_guard.config import build
from pipeline_guard.errors import ConfigurationError
from pipeline_guard.model import HealthStatus, Reading, Verdict
from pipeline_guard.probes import PROBES
from pipeline_guard.probes.commands import CommandProbe, NagiosProbe, PythonProbe, parsed

from .conftest import look  # noqa: TID252  of this folder


def shell(script: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", script)


@pytest.mark.parametrize(
    ("script", "verdict", "words"),
    [
        ("echo fine", Verdict.OK, "fine"),
        ("true", Verdict.OK, "exit code 0"),
        ("echo broken; exit 3", Verdict.CRITICAL, "exit code 3: broken"),
        ("kill -9 $$", Verdict.CRITICAL, "SIGKILL"),
    ],
)
def test_a_command_is_well_with_exit_code_zero_alone(
    script: str, verdict: Verdict, words: str
) -> None:
    reading = look(CommandProbe(command=shell(script)))

    assert reading.verdict is verdict
    assert words in reading.summary


def test_what_it_must_print_is_looked_for() -> None:
    assert look(CommandProbe(command=shell("echo all is well"), output="all .* well")).verdict == 0
    assert look(CommandProbe(command=shell("echo no"), output="yes")).verdict is Verdict.CRITICAL


def test_a_command_that_takes_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    script = f"sleep 60 & echo $! > {tmp_path}/child; wait"

    reading = look(CommandProbe(command=shell(script), answer_s=0.5))

    assert reading.verdict is Verdict.UNKNOWN
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        try:
            state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        time.sleep(0.02)
    pytest.fail("its child still runs")


def test_a_command_that_floods_is_read_to_its_end_in_bounded_memory() -> None:
    reading = look(
        CommandProbe(command=shell("head -c 5000000 /dev/zero | tr '\\0' x; echo; exit 0"))
    )

    assert reading.verdict is Verdict.OK
    assert len(reading.summary) <= 200


@pytest.mark.parametrize("command", ["/nowhere/at-all", "/etc/passwd"])
def test_what_cannot_be_run_is_unknown(command: str) -> None:
    assert look(CommandProbe(command=(command,))).verdict is Verdict.UNKNOWN
    assert look(NagiosProbe(command=(command,))).verdict is Verdict.UNKNOWN


def test_the_environment_is_added_to_the_guards() -> None:
    probe = CommandProbe(command=shell("echo $WHO $HOME"), environment={"WHO": "guard"})

    assert look(probe).summary == f"guard {os.environ['HOME']}".strip()


@pytest.mark.parametrize("kind", ["command", "nagios"])
@pytest.mark.parametrize("command", [[], [""]])
def test_no_command_is_refused(kind: str, command: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="a program"):
        build(kind, {"command": command}, PROBES, "test")


@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_the_exit_code_of_a_plugin_is_its_verdict(code: int) -> None:
    reading = look(NagiosProbe(command=shell(f"echo 'DISK - 5%|/=2643MB;5948;5958'; exit {code}")))

    assert reading.verdict == code
    assert reading.summary == "DISK - 5%"
    assert reading.measurements == {"value_bytes": 2643 * 1024.0**2}


@pytest.mark.parametrize("script", ["exit 4", "exit 127", "kill -9 $$"])
def test_every_other_end_of_a_plugin_is_unknown(script: str) -> None:
    assert look(NagiosProbe(command=shell(script))).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("text", "words", "figures"),
    [
        ("OK - load average: 0.12, 0.2|load1=0.120;5.000;10.000;0; load5=0.200;4;6;0;",
         "OK - load average: 0.12, 0.2", {"load1": 0.12, "load5": 0.2}),
        ("PING OK|rta=0.80ms;100;500;0 pl=0%;20;60;0", "PING OK",
         {"rta_seconds": 0.0008, "pl_percent": 0.0}),
        ("HTTP OK|time=0,5s;;;0 size=2KB", "HTTP OK", {"time_seconds": 0.5, "size_bytes": 2048.0}),
        ("OK|'a b''s'=3c 'in=side'=4", "OK", {"a_b_s_total": 3.0, "in_side": 4.0}),
        ("OK|x=U y=1", "OK", {"y": 1.0}),
        ("OK|x= =3 z y=;1 ok=5", "OK", {"ok": 5.0}),
        ("OK\nmore text\nlast|y=2\nz=3", "OK", {"y": 2.0, "z": 3.0}),
        ("no data", "no data", {}),
        ("", "", {}),
    ],
)  # fmt: skip
def test_performance_data_become_measurements(
    text: str, words: str, figures: dict[str, float]
) -> None:
    found, numbers = parsed(text)

    assert found == words
    assert numbers == pytest.approx(figures)


@given(st.text(max_size=300))
def test_no_text_of_a_plugin_is_too_odd_to_be_read(text: str) -> None:
    words, figures = parsed(text)

    assert len(words) <= 200
    assert all(math.isfinite(value) for value in figures.values())


def well() -> bool:
    return True


def fails() -> bool:
    raise RuntimeError("the patient is called Ada")


@pytest.mark.parametrize(
    ("returned", "verdict"),
    [
        (True, Verdict.OK),
        (False, Verdict.CRITICAL),
        (HealthStatus.HEALTHY, Verdict.OK),
        (HealthStatus.DEGRADED, Verdict.WARNING),
        (HealthStatus.RECOVERING, Verdict.WARNING),
        (HealthStatus.CRITICAL, Verdict.CRITICAL),
        (HealthStatus.FAILED, Verdict.CRITICAL),
        (Verdict.WARNING, Verdict.WARNING),
        (Reading(verdict=Verdict.OK, summary="x"), Verdict.OK),
        (None, Verdict.UNKNOWN),
        ("healthy", Verdict.UNKNOWN),
        (1, Verdict.UNKNOWN),
    ],
)
def test_what_a_function_returns_is_its_verdict(returned: object, verdict: Verdict) -> None:
    assert look(PythonProbe.of(lambda: returned)).verdict is verdict


def test_an_error_of_a_function_is_unknown_and_its_message_is_not_shown() -> None:
    reading = look(PythonProbe.of(fails))

    assert reading.verdict is Verdict.UNKNOWN
    assert "RuntimeError" in reading.summary
    assert "Ada" not in str(reading)


def test_a_function_is_found_by_its_name() -> None:
    probe = build("python", {"function": "os.path:isabs"}, PROBES, "test")

    assert look(probe).verdict is Verdict.UNKNOWN  # it wants an argument


@pytest.mark.parametrize("name", ["os", "os:", "os:nothing", "no.such:thing", "os:sep", ""])
def test_a_name_that_leads_to_no_function_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="of a function"):
        build("python", {"function": name}, PROBES, "test")
