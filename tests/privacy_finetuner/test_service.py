"""The service as one value, and `privacy-finetuner serve`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx2
import pytest
from typer.testing import CliRunner

from privacy_core.errors import InvalidParameter
from privacy_finetuner.cli.app import app as cli
from privacy_finetuner.cli.serve import Network
from privacy_finetuner.environment import EnvironmentConfig
from privacy_finetuner.service import (
    Deployment,
    Homes,
    PlainHttpRefused,
    Service,
    ServiceMisplaced,
    deployment_of,
    upkeep,
)
from privacy_runtime.identity import WeakSecret
from privacy_runtime.testing import ManualClock

TESTING = EnvironmentConfig(environment="testing")


def network(**changes: Any) -> Network:
    known = {
        "host": "127.0.0.1", "port": 8080, "origin": None, "names": (), "proxies": (),
        "certificate": None, "key": None,
    }  # fmt: skip
    return Network(**{**known, **changes})


def test_a_home_is_for_its_owner_alone(tmp_path: Path) -> None:
    with Service.open(TESTING, home=tmp_path / "home") as service:
        files = [service.home, *service.home.rglob("*")]

        open_to_others = [p for p in files if stat.S_IMODE(p.lstat().st_mode) & 0o077]

    assert [p for p in open_to_others if not p.name.endswith(".pub")] == []


def test_a_second_start_goes_on_where_the_first_ended(tmp_path: Path) -> None:
    with Service.open(TESTING, home=tmp_path) as first:
        organisation = first.identity.accounts.create_organisation("clinic")
        keys = first.identity.tokens.keys.key_ids
        master = first.sealing_keys.key_id

    with Service.open(TESTING, home=tmp_path) as second:
        assert second.identity.tokens.keys.key_ids == keys
        assert second.sealing_keys.key_id == master
        second.identity.accounts.disable_organisation(organisation)


def test_what_was_opened_is_closed_when_something_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "jobs.db").mkdir()

    with pytest.raises(Exception, match=r"jobs\.db"):
        Service.open(TESTING, home=tmp_path)
    (tmp_path / "jobs.db").rmdir()

    Service.open(TESTING, home=tmp_path).close()


def test_a_home_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ServiceMisplaced, match="nothing was opened"):
        Service.open(TESTING, home=tmp_path / "file" / "home")


def test_databases_are_below_the_home_or_in_postgresql(tmp_path: Path) -> None:
    inside = Homes.of(TESTING, tmp_path)
    url = "postgresql://ada:a-long-password@db/pf"
    elsewhere = Homes.of(EnvironmentConfig(environment="testing", database_url=url), tmp_path)

    assert Path(inside.journal.reveal()).parent == tmp_path
    assert {h.reveal() for h in (elsewhere.identity, elsewhere.journal, elsewhere.jobs)} == {url}
    assert "a-long-password" not in repr(elsewhere)
    with pytest.raises(ServiceMisplaced, match="home"):
        Homes.of(EnvironmentConfig(database_url="sqlite:///other.db"), tmp_path)


def test_a_guessable_secret_is_refused_outside_development(tmp_path: Path) -> None:
    oidc = {
        "issuer": "https://id.example",
        "client_id": "pf",
        "client_secret": "hunter2hunter2",
        "organisation": "o_" + "0" * 32,
        "roles": ["trainers=trainer"],
    }
    config = EnvironmentConfig(environment="staging", oidc=oidc)

    with pytest.raises(WeakSecret, match=r"oidc\.client_secret"):
        Service.open(config, home=tmp_path / "home")

    assert not (tmp_path / "home").exists()


def test_what_the_operator_allows_is_configured_or_said() -> None:
    front = {"data_folders": ["/data"], "hub_models": ["org/small"]}
    config = EnvironmentConfig(service=front)

    both = deployment_of(config, Deployment(datasets=(Path("/more"),)))

    assert both.datasets == (Path("/data"), Path("/more"))
    assert both.hub_models == {"org/small"}


def test_a_chore_that_fails_does_not_end_the_others() -> None:
    done: list[str] = []

    def fails() -> None:
        done.append("fails")
        raise ZeroDivisionError

    async def rounds() -> None:
        async def pause(seconds: float) -> None:
            if len(done) >= 6:
                raise asyncio.CancelledError
            await asyncio.sleep(0)

        chores = [upkeep.Chore("one", 1, fails), upkeep.Chore("two", 2, lambda: done.append("ok"))]
        await upkeep.run(chores, pause=pause)

    asyncio.run(rounds())

    assert done.count("fails") >= 2
    assert done.count("ok") >= 2


def test_an_abandoned_reservation_is_a_chore(tmp_path: Path) -> None:
    with Service.open(TESTING, home=tmp_path, clock=ManualClock()) as service:
        names = [chore.name for chore in upkeep.chores_of(service)]

    assert "expire reservations" in names


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "::", "pf.example"])  # noqa: S104
def test_production_takes_no_password_over_plain_http(host: str) -> None:
    with pytest.raises(PlainHttpRefused, match="nothing was started"):
        network(host=host).require_private()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.8", "::1", "localhost"])
def test_the_loopback_is_private(host: str) -> None:
    network(host=host).require_private()


def test_tls_takes_a_certificate_and_its_key(tmp_path: Path) -> None:
    network(host="192.0.2.7", certificate=tmp_path, key=tmp_path).require_private()

    with pytest.raises(InvalidParameter):
        network(certificate=tmp_path)


@pytest.mark.parametrize(
    ("host", "origin", "address"),
    [
        ("127.0.0.1", None, "http://127.0.0.1:8080"),
        ("0.0.0.0", None, "http://127.0.0.1:8080"),  # noqa: S104
        ("::1", None, "http://[::1]:8080"),
        ("0.0.0.0", "https://pf.example", "https://pf.example"),  # noqa: S104
    ],
)
def test_the_address_that_is_printed_can_be_opened(
    host: str, origin: str | None, address: str
) -> None:
    assert network(host=host, origin=origin).address == address


def test_it_answers_to_the_names_that_it_was_given() -> None:
    policy = network(
        host="192.0.2.7", origin="https://pf.example", names=("Other.example",)
    ).policy()

    assert {"192.0.2.7", "pf.example", "other.example", "localhost"} <= set(policy.hosts)


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def served(home: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    script = Path(sys.executable).with_name("privacy-finetuner")
    command = [str(script), "serve", "--home", str(home)]
    return subprocess.Popen(
        [*command, "--workers", "0", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def stopped(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait until it answers, stop it, and return what it ended with and said."""
    process.send_signal(signal.SIGINT)
    said, log = process.communicate(timeout=60)
    return process.returncode, said, log


def wait_for(process: subprocess.Popen[str], address: str) -> None:
    """Until it answers; a process that ended says why."""
    with httpx2.Client() as client:
        while process.poll() is None:
            try:
                client.get(f"{address}/health/live")
            except httpx2.TransportError:
                threading.Event().wait(0.1)
            else:
                return
    raise AssertionError(process.communicate()[1])


def test_serve_shows_the_first_password_once_and_never_in_the_log(tmp_path: Path) -> None:
    port = str(free_port())
    address = f"http://127.0.0.1:{port}"

    process = served(tmp_path, "--port", port, "--json")
    wait_for(process, address)
    first = stopped(process)
    process = served(tmp_path, "--port", port, "--json")
    wait_for(process, address)
    second = stopped(process)

    document = json.loads(first[1])
    assert (first[0], second[0]) == (0, 0), (first[2], second[2])
    assert (document["address"], document["admin"]) == (address, "admin")
    assert document["one_time_password"]
    assert document["one_time_password"] not in first[2]
    assert json.loads(second[1])["one_time_password"] is None


@pytest.mark.slow
def test_without_a_terminal_the_password_is_in_a_file_of_the_owner(tmp_path: Path) -> None:
    port = str(free_port())

    process = served(tmp_path, "--port", port)
    wait_for(process, f"http://127.0.0.1:{port}")
    code, said, log = stopped(process)

    file = tmp_path / "first-login.txt"
    name, password = file.read_text().splitlines()
    assert code == 0, log
    assert (name, stat.S_IMODE(file.stat().st_mode)) == ("admin", 0o600)
    assert password not in said + log
    assert str(file) in said.replace("\n", "")


def test_serve_refuses_plain_http_in_production(tmp_path: Path) -> None:
    words = ["serve", "--home", str(tmp_path / "home"), "--host", "0.0.0.0", "--json"]  # noqa: S104

    ran = CliRunner().invoke(cli, words, env={"PRIVACY_ML_ENVIRONMENT": "production"})

    assert ran.exit_code == 1
    assert json.loads(ran.stdout)["error"]["code"] == "plain_http_refused"
    assert not (tmp_path / "home").exists()
