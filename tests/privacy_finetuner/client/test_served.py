"""The whole way on a real `privacy-finetuner serve`: first login to a verified certificate."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.privacy_finetuner.client.house import wait_for

from privacy_finetuner.client import Client, Unauthenticated
from privacy_finetuner.client.errors import ServiceError, Unreachable
from privacy_runtime.identity.codes import code_at, step_of
from privacy_runtime.world import SystemClock

COMMAND = str(Path(sys.executable).with_name("privacy-finetuner"))
PASSWORD = "walrus ladder 83 thimble"  # noqa: S105  opens nothing but this test


class Served:
    """A server process on a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        with socket.create_server(("127.0.0.1", 0)) as found:
            self.port = found.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> dict[str, Any]:
        """Start it; what it prints at its start."""
        log = os.open(self.home.parent / "serve.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.process = subprocess.Popen(
            [COMMAND, "serve", "--home", str(self.home), "--port", str(self.port), "--json"],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        )
        os.close(log)
        assert self.process.stdout is not None
        text = ""
        while not text.endswith("}\n"):
            line = self.process.stdout.readline()
            assert line, "the server ended at its start"
            text += line
        wait_for(self._answers, 60)
        document = json.loads(text)
        assert isinstance(document, dict)
        return document

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """As a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        if self.process is not None:
            self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.send_signal(how)
        self.process.wait(60)
        self.process.stdout.close()
        self.process = None


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path / "home")
    yield made
    made.stop()


def first_login(served: Served, one_time: str) -> Client:
    """The administrator's way in: a password of their own, then a second factor."""
    with pytest.raises(ServiceError) as refused:
        Client.login(served.url, "admin", one_time)
    assert refused.value.code == "password_change_required"
    Client.change_password(served.url, "admin", one_time, PASSWORD)
    with Client.login(served.url, "admin", PASSWORD) as client:
        seed = base64.b32decode(_padded(client.account.enrol_mfa().secret.reveal()))
        codes = client.account.confirm_mfa(code(seed)).recovery_codes
    with pytest.raises(Unauthenticated) as needed:
        Client.login(served.url, "admin", PASSWORD)
    assert needed.value.code == "code_required"
    return Client.login(served.url, "admin", PASSWORD, mfa_token=codes[0].reveal())


def _padded(text: str) -> str:
    return text + "=" * (-len(text) % 8)


def code(seed: bytes) -> str:
    return code_at(seed, step_of(SystemClock().now()))


@pytest.mark.slow
def test_from_the_first_login_to_a_certificate_across_a_killed_server(
    served: Served, tmp_path: Path
) -> None:
    first = served.start()
    with first_login(served, first["one_time_password"]) as admin:
        made = admin.users.create_user("tara", "trainer")
    Client.change_password(served.url, "tara", made.one_time_password, PASSWORD)
    with Client.login(served.url, "tara", PASSWORD) as trainer:
        job = trainer.jobs.start_training(
            "sample:model", "sample:records",
            privacy_config={"epsilon": 8.0, "delta": 1e-5, "accounting_mode": "pld"},
            training_config={"epochs": 1, "batch_size": 256, "learning_rate": 4e-3,
                             "max_length": 48},
        ).job_id  # fmt: skip
        seen: list[Any] = []
        failures: list[BaseException] = []

        def watch() -> None:
            try:
                seen.extend(trainer.jobs.watch(job))
            except BaseException as error:  # noqa: BLE001  shown below
                failures.append(error)

        stepped = threading.Event()

        def watch_steps() -> None:
            for event in trainer.jobs.watch(job):
                if event.kind == "step":
                    stepped.set()
                    return

        threading.Thread(target=watch_steps, daemon=True).start()
        watching = threading.Thread(target=watch, daemon=True)
        watching.start()
        assert stepped.wait(180)
        served.kill()
        time.sleep(1)
        assert served.start()["one_time_password"] is None
        watching.join(300)
        assert not watching.is_alive()
        assert not failures

        found = trainer.jobs.get_training(job)
        assert found.status == "succeeded", found
        # Numbers of events that this role may not see are left out, the same ones each time.
        told = [event.seq for event in trainer.jobs.training_history(job)]
        assert [event.seq for event in seen] == told
        assert told == sorted(set(told))
        steps = [event.body["step"] for event in seen if event.kind == "step"]
        assert steps[-1] == found.steps == found.step
        report = trainer.jobs.privacy_report(job)
        assert report.privacy_spent.epsilon <= 8.0
        names = {artefact.name for artefact in trainer.jobs.list_artefacts(job)}
        assert {"model.safetensors", "report.html", "certificate.json"} <= names
        file = trainer.jobs.download_artefact(job, "certificate.json", tmp_path)
        assert trainer.certificates.verify_certificate(
            trainer.jobs.training_certificate(job)
        ).is_genuine
        trainer.logout()
    done = subprocess.run(
        [COMMAND, "certificate", "verify", str(file), "--allow-unknown-key", "--json"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    served.stop()
    with pytest.raises(Unreachable):
        Client.login(served.url, "tara", PASSWORD)
