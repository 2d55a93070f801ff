"""Services of others: what is called, with stand-ins that write down their arguments."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline_guard.errors import RecoveryError
from pipeline_guard.remedies.commands import Command, RerunJob
from pipeline_guard.remedies.services import (
    DrainNode,
    RestartContainer,
    RestartRollout,
    RestartUnit,
    RollBackRollout,
)

from .conftest import case  # noqa: TID252  of this folder


class StandIn:
    """A program that writes down how it was called and says what it was told to."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "program"
        self._log = folder / "calls"
        self.says({})

    def says(self, answers: dict[str, tuple[int, str]]) -> None:
        """By a word of its arguments, its exit code and output."""
        branches = "".join(
            f"  *' {word} '*) printf '%s\\n' '{text}'; exit {code};;\n"
            for word, (code, text) in answers.items()
        )
        self.path.write_text(
            f'#!/bin/sh\necho "$*" >> {self._log}\ncase " $* " in\n{branches}  *) exit 0;;\nesac\n'
        )
        self.path.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []


@pytest.fixture
def program(tmp_path: Path) -> StandIn:
    return StandIn(tmp_path)


def test_a_unit_is_restarted_and_its_state_before_is_kept(program: StandIn) -> None:
    program.says({"show": (0, "LoadState=loaded")})
    remedy = RestartUnit(unit="router.service", program=str(program.path))
    assert remedy.objection(case()) is None

    applied = remedy.apply(case(), 10)

    assert program.calls[-1] == "restart router.service"
    assert applied.evidence["before"] == ["LoadState=loaded"]


@pytest.mark.parametrize("state", ["masked", "not-found"])
def test_a_unit_that_is_not_loaded_is_an_objection(program: StandIn, state: str) -> None:
    program.says({"show": (0, f"LoadState={state}")})

    objection = RestartUnit(unit="x", program=str(program.path)).objection(case())
    assert state in (objection or "")


def test_a_container_is_restarted(program: StandIn) -> None:
    remedy = RestartContainer(container="router", program=str(program.path), grace_s=7)
    assert remedy.objection(case()) is None

    remedy.apply(case(), 10)

    assert program.calls[-1] == "restart --time 7 router"


def test_a_rollout_is_restarted_and_waited_for(program: StandIn) -> None:
    program.says({"get": (0, "4")})
    remedy = RestartRollout(workload="deployment/router", program=str(program.path))

    applied = remedy.apply(case({"namespace": "ml"}), 30)

    assert program.calls[1:] == [
        "--namespace=ml rollout restart deployment/router",
        "--namespace=ml rollout status deployment/router --timeout=28s",
    ]
    assert applied.evidence["undo"][-1] == "--to-revision=4"


def test_a_rollout_goes_back(program: StandIn) -> None:
    RollBackRollout(workload="deployment/router", program=str(program.path)).apply(case(), 30)

    assert "rollout undo deployment/router" in program.calls


def test_a_rollout_that_does_not_get_ready_says_where_it_began(program: StandIn) -> None:
    program.says({"get": (0, "4"), "status": (1, "error: timed out")})
    remedy = RestartRollout(workload="deployment/router", program=str(program.path))

    with pytest.raises(RecoveryError, match="began at revision 4") as caught:
        remedy.apply(case(), 30)
    assert caught.value.details["output"] == "error: timed out"


def test_a_node_is_drained_but_never_the_last_one(program: StandIn) -> None:
    program.says({"nodes": (0, "gpu-1 \ngpu-2 \ngpu-3 true")})
    remedy = DrainNode(node="gpu-1", program=str(program.path))
    assert remedy.objection(case()) is None
    applied = remedy.apply(case(), 60)

    assert program.calls[-2:] == [
        "cordon gpu-1", "drain gpu-1 --ignore-daemonsets --timeout=58s",
    ]  # fmt: skip
    assert applied.evidence["undo"][1:] == ["uncordon", "gpu-1"]
    program.says({"nodes": (0, "gpu-1 \ngpu-2 true")})
    assert "last node" in (remedy.objection(case()) or "")
    assert "no node" in (DrainNode(node="x", program=str(program.path)).objection(case()) or "")


@pytest.mark.parametrize("name", ["--all", "-x", "a b", "a;reboot", "$(reboot)", ""])
@pytest.mark.parametrize("kind", ["unit", "container", "workload", "node"])
def test_what_could_be_an_option_or_a_script_is_no_name(
    program: StandIn, kind: str, name: str
) -> None:
    remedies: dict[str, Any] = {
        "unit": RestartUnit, "container": RestartContainer, "workload": RestartRollout,
        "node": DrainNode,
    }  # fmt: skip
    remedy = remedies[kind](**{kind: name}, program=str(program.path))

    assert remedy.objection(case()) is not None
    assert program.calls == []


def test_a_program_that_is_not_installed_is_an_objection() -> None:
    remedy = RestartUnit(unit="router", program="systemctl-of-nowhere")

    assert "not installed" in (remedy.objection(case()) or "")


def test_a_command_is_told_the_case_and_nothing_it_found(tmp_path: Path) -> None:
    script = f"env | grep -E '^GUARD_|secret' | sort > {tmp_path}/told"
    fault = case(evidence={"secret": "secret"}, attempt=2)

    applied = Command(command=("/bin/sh", "-c", script), undo=("true",)).apply(fault, 10)

    assert (tmp_path / "told").read_text().splitlines() == [
        "GUARD_ATTEMPT=2", "GUARD_CASE=a_1", "GUARD_CHECK=trainer.progress",
        "GUARD_COMPONENT=model_training", "GUARD_FAULT=hang",
    ]  # fmt: skip
    assert applied.evidence["undo"] == ["true"]


def test_a_command_that_fails_says_how() -> None:
    with pytest.raises(RecoveryError, match="code 3") as caught:
        Command(command=("/bin/sh", "-c", "echo why; exit 3")).apply(case(), 10)

    assert caught.value.details["output"] == "why"


@pytest.fixture
def server() -> Iterator[Any]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.server.heard.append((self.path, dict(self.headers), body))  # type: ignore[attr-defined]
            self.send_response(self.server.status)  # type: ignore[attr-defined]
            self.send_header("Location", "/jobs/7")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing: a test's output is its result."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        found.heard, found.status = [], 202  # type: ignore[attr-defined]
        thread = threading.Thread(target=found.serve_forever, args=(0.02,))
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def test_a_job_is_sent_again_under_one_key(server: Any, tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(json.dumps({"model": "m"}))
    (tmp_path / "token").write_text("swordfish")
    settings = {
        "job_url": f"http://127.0.0.1:{server.server_address[1]}/api/jobs",
        "job_body": str(tmp_path / "job.json"),
    }
    remedy = RerunJob(bearer_file=tmp_path / "token")
    assert remedy.objection(case(settings)) is None

    applied = remedy.apply(case(settings), 10)
    remedy.apply(case(settings), 10)

    keys = {headers["Idempotency-Key"] for _, headers, _ in server.heard}
    path, headers, body = server.heard[0]
    assert (path, json.loads(body), keys) == ("/api/jobs", {"model": "m"}, {"a_1-1"})
    assert headers["Authorization"] == "Bearer swordfish"
    assert applied.evidence["location"] == "/jobs/7"
    assert "swordfish" not in f"{applied} {remedy}"


def test_a_server_that_refuses_is_said(server: Any) -> None:
    server.status = 409
    url = f"http://127.0.0.1:{server.server_address[1]}/"

    with pytest.raises(RecoveryError, match="409"):
        RerunJob(url=url).apply(case(), 10)


@pytest.mark.parametrize("url", ["", "ftp://x/", "http://a:b@c/", "http:///x"])
def test_what_is_no_url_is_an_objection(url: str) -> None:
    assert RerunJob(url=url).objection(case()) is not None
