"""Models' processes: one each, few at a time, with limits that are kept. The children are real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from privacy_finetuner import demo
from privacy_finetuner.operations.errors import (
    GenerationBusy,
    GenerationFailed,
    GenerationRefused,
)
from privacy_finetuner.operations.generation import GenerationLimits, Generators
from privacy_runtime.world import SystemClock

ECHO = """
import json, os, sys, time
folder, parent, memory = sys.argv[1:4]
name = os.path.basename(folder)
if name == "broken":
    print(json.dumps({"error": "model_load_error", "message": "no model there"}), flush=True)
    raise SystemExit
if name == "mute":
    time.sleep(60)
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if asked["prompt"] == "die":
        os._exit(9)
    if asked["prompt"] == "hang":
        time.sleep(60)
    if asked["prompt"] == "garbage":
        print("not json", flush=True)
        continue
    if asked["prompt"] == "refuse":
        print(json.dumps({"error": "x", "message": "a number is out of range"}), flush=True)
        continue
    if asked["prompt"] == "environment":
        print(json.dumps({"text": json.dumps(dict(os.environ))}), flush=True)
        continue
    print(json.dumps({"text": f"{name} {os.getpid()} {asked['prompt']}"}), flush=True)
"""


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Any]:
    held: list[Generators] = []

    def make(**limits: Any) -> Generators:
        values = {"models": 2, "waiting": 8, "load_s": 10.0, "answer_s": 10.0} | limits
        command = (sys.executable, "-I", "-S", "-c", ECHO)
        generators = Generators(SystemClock(), limits=GenerationLimits(**values), command=command)
        held.append(generators)
        return generators

    yield make
    for each in held:
        each.close()


def pid_of(text: str) -> int:
    return int(text.split()[1])


def lives(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def test_a_model_is_loaded_once_and_kept(made: Any) -> None:
    generators = made()
    one, two = (generators.ask(Path("/m/a"), "hello") for _ in range(2))

    assert one == two
    assert one.startswith("a ")


def test_the_least_recently_asked_makes_room(made: Any) -> None:
    generators = made(models=2)
    a, b = (pid_of(generators.ask(Path(f"/m/{name}"), "x")) for name in "ab")
    generators.ask(Path("/m/a"), "x")
    generators.ask(Path("/m/c"), "x")

    assert not lives(b)
    assert lives(a)
    assert pid_of(generators.ask(Path("/m/a"), "x")) == a


@pytest.mark.parametrize(
    ("prompt", "says", "kind"),
    [
        ("die", "process ended", GenerationFailed),
        ("garbage", "process ended", GenerationFailed),
        ("refuse", "a number is out of range", GenerationRefused),
    ],
)
def test_a_failure_is_said_and_the_next_question_is_answered(
    made: Any, prompt: str, says: str, kind: type[Exception]
) -> None:
    generators = made()
    with pytest.raises(kind, match=says):
        generators.ask(Path("/m/a"), prompt)

    assert generators.ask(Path("/m/a"), "x").startswith("a ")


def test_a_question_that_takes_too_long_ends_the_process(made: Any) -> None:
    generators = made(answer_s=0.3)
    before = pid_of(generators.ask(Path("/m/a"), "x"))
    with pytest.raises(GenerationFailed, match=r"did not answer within 0\.3 s"):
        generators.ask(Path("/m/a"), "hang")

    assert not lives(before)
    assert pid_of(generators.ask(Path("/m/a"), "x")) != before


def test_a_model_that_does_not_load_is_said(made: Any) -> None:
    generators = made(load_s=0.3)
    with pytest.raises(GenerationRefused, match="no model there"):
        generators.ask(Path("/m/broken"), "x")
    with pytest.raises(GenerationFailed, match=r"did not load within 0\.3 s"):
        generators.ask(Path("/m/mute"), "x")


def test_too_many_questions_are_turned_away(made: Any) -> None:
    generators = made(waiting=2, answer_s=30.0)
    generators.ask(Path("/m/a"), "x")
    ends: list[str] = []

    def ask() -> None:
        with suppress(GenerationFailed):
            ends.append(generators.ask(Path("/m/a"), "hang"))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    while generators._waiting < 2:
        threading.Event().wait(0.01)
    with pytest.raises(GenerationBusy):
        generators.ask(Path("/m/a"), "x")
    generators.close()
    for thread in threads:
        thread.join()
    assert ends == []


def test_models_at_work_are_not_pushed_out(made: Any) -> None:
    generators = made(models=1, answer_s=30.0)
    generators.ask(Path("/m/a"), "x")
    thread = threading.Thread(target=lambda: suppressed(generators))
    thread.start()
    while not generators._waiting:
        threading.Event().wait(0.01)

    with pytest.raises(GenerationBusy, match="at work"):
        generators.ask(Path("/m/b"), "x")
    assert generators._waiting == 1  # the one that was turned away waits for nothing
    generators.close()
    thread.join()


def suppressed(generators: Generators) -> None:
    with suppress(GenerationFailed):
        generators.ask(Path("/m/a"), "hang")


def test_closing_ends_every_process_and_answers_nobody(made: Any) -> None:
    generators = made()
    pid = pid_of(generators.ask(Path("/m/a"), "x"))
    generators.close()

    assert not lives(pid)
    with pytest.raises(GenerationBusy):
        generators.ask(Path("/m/a"), "x")


def test_a_model_knows_no_secret_of_the_server(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIVACY_ML_DATABASE__URL", "postgresql://u:planted@h/d")
    monkeypatch.setenv("HF_TOKEN", "planted")
    assert "planted" not in made().ask(Path("/m/a"), "environment")


def test_prompts_of_any_text_arrive(made: Any) -> None:
    prompt = 'line\nbreak "quoted" \u2028 \U0001f600 \x00'

    assert made().ask(Path("/m/a"), prompt).endswith(prompt)


ORPHANS = """
import os, signal, sys
from pathlib import Path
from privacy_finetuner.operations.generation import Generators
from privacy_runtime.world import SystemClock
generators = Generators(SystemClock())
generators.ask(Path(sys.argv[1]), "Patient reports", max_new_tokens=4)
(held,) = generators._held.values()
print(held._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_model_ends_when_its_server_is_killed() -> None:
    sample = Path(demo.__file__).parent / "assets" / "model"
    ended = subprocess.run(
        [sys.executable, "-c", ORPHANS, str(sample)], capture_output=True, check=False
    )
    pid = int(ended.stdout)

    assert ended.returncode == -signal.SIGKILL
    for _ in range(1000):
        if not lives(pid):
            return
        threading.Event().wait(0.01)
    pytest.fail("the model's process outlived its server by ten seconds")
