"""Requests per second of a job's status, and memory of open WebSockets, on one machine.

    python benchmarks/service_load.py --json [--url postgresql://...] [--seconds 10]
                                      [--connections 16] [--sockets 500]

The service is the real one: identity, journal, ledger and jobs in PostgreSQL (a schema of its own,
dropped afterwards; without `--url` or TEST_DATABASE_URL in SQLite), one server process, request
logs written to a file, every limit counted. Only the rates are wider than documented, or one client
would be told to wait. The load comes from `wrk` on the same machine, with a Bearer token, and from
as many WebSockets as asked for, each of which hears one event of a running job; memory is the
server's resident set before the first and after the last of them was heard.

Needs `wrk` (Debian: wrk).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
from websockets.asyncio.client import connect

from privacy_finetuner.api.app import create_app
from privacy_finetuner.environment import EnvironmentConfig
from privacy_finetuner.jobs.model import TrainingSpec
from privacy_finetuner.service import Service
from privacy_runtime import logs
from privacy_runtime.http import Rate, RateLimits
from privacy_runtime.http.limits import RATES
from privacy_runtime.http.server import ServerOptions, serve
from privacy_runtime.http.streams import Seats
from privacy_runtime.identity import Role, bootstrap_admin

_FIGURE = re.compile(r"^\s*(50|75|90|99)%\s+([\d.]+)(us|ms|s)\s*$", re.MULTILINE)
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@contextmanager
def place(url: str) -> Iterator[str]:
    """Yield where a throw-away deployment may keep its state; empty for SQLite."""
    if not url:
        yield ""
        return
    import psycopg
    from psycopg.sql import SQL, Identifier

    schema = f"http_load_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SQL("CREATE SCHEMA {}").format(Identifier(schema)))
        try:
            yield f"{url}{'&' if '?' in url else '?'}options=-csearch_path%3D{schema}"
        finally:
            connection.execute(SQL("DROP SCHEMA {} CASCADE").format(Identifier(schema)))


def be_server(home: Path, where: str, port: int) -> None:
    """Open a deployment with a viewer and a job, say so on stdout, and serve it."""
    named: dict[str, Any] = {"database": {"url": where}} if where else {}
    config = EnvironmentConfig(environment="testing", **named)
    running = logs.install(logs.LogOptions(level="info"))
    with Service.open(config, home=home) as service:
        print(json.dumps(_prepared(service)), flush=True)
        wide = {name: Rate(name, 10**9, rate.window_s) for name, rate in RATES.items()}
        app = create_app(service, limits=RateLimits(service.clock, rates=wide))
        app.state.access.seats = Seats(each=10_000, most=10_000)
        serve(app, ServerOptions(port=port))
    running.close()


def _prepared(service: Service) -> dict[str, str]:
    """A viewer who is logged in, and a job of the organisation that nobody works on."""
    identity, password = service.identity, secrets.token_urlsafe(24)
    user, first = bootstrap_admin(identity.accounts)
    if first is None:
        raise SystemExit("the deployment is not a new one")
    identity.logins.change_password(user.name, first.reveal(), password, source="here")
    job = service.jobs.submit(
        TrainingSpec(model="sample:model", dataset="sample:records", privacy={"epsilon": 1.0}),
        tenant=user.tenant,
        owner=user.id,
        name="load",
    )
    # An administrator without a second factor may nothing; a viewer needs none.
    import sqlalchemy as sa

    from privacy_runtime.identity.schema import USERS

    lower = sa.update(USERS).where(USERS.c.id == user.id).values(role=str(Role.VIEWER))
    identity.store.database.change(lambda connection: connection.execute(lower))
    tokens = identity.logins.log_in(user.name, password, source="here")
    return {"token": tokens.access_token.reveal(), "job": job.id}


def requests(
    port: int, seen: dict[str, str], server: psutil.Process, *, seconds: int, connections: int
) -> dict[str, Any]:
    """Ask for the job's status as fast as answers come."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise SystemExit("wrk is not installed")
    url = f"http://127.0.0.1:{port}/api/v1/training/{seen['job']}/status"
    header = f"Authorization: Bearer {seen['token']}"
    answer = httpx2.get(url, headers={"Authorization": f"Bearer {seen['token']}"})
    answer.raise_for_status()
    command = [wrk, "-t1", f"-c{connections}", "--latency", "-H", header, url]
    subprocess.run([*command[:-1], "-d2s", url], check=True, capture_output=True)
    before = server.cpu_times()
    done = subprocess.run(
        [*command[:-1], f"-d{seconds}s", url], check=True, capture_output=True, text=True
    )
    after, text = server.cpu_times(), done.stdout
    spent_s = after.user + after.system - before.user - before.system
    if "Non-2xx" in text or "Socket errors" in text:
        raise SystemExit(f"not every request was answered:\n{text}")
    found = {int(q): round(float(v) * _UNITS[u], 2) for q, v, u in _FIGURE.findall(text)}
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    if rate is None or set(found) != {50, 75, 90, 99}:
        raise SystemExit(f"wrk said something else:\n{text}")
    return {
        "requests_per_s": float(rate[1]),
        "server_cpu_us_per_request": round(spent_s / (float(rate[1]) * seconds) * 1e6),
        "p50_ms": found[50],
        "p90_ms": found[90],
        "p99_ms": found[99],
        "answer": answer.json(),
    }


async def _listen(port: int, seen: dict[str, str], sockets: int, server: psutil.Process) -> Any:
    url = f"ws://127.0.0.1:{port}/ws/v1/jobs/{seen['job']}"
    headers = {"Authorization": f"Bearer {seen['token']}"}
    before, begun, open_, heard = server.memory_info().rss, time.perf_counter(), [], 0
    try:
        for start in range(0, sockets, 50):
            some = min(50, sockets - start)
            opening = (
                connect(url, additional_headers=headers, compression=None) for _ in range(some)
            )
            open_ += await asyncio.gather(*opening)
        for one in open_:
            async with asyncio.timeout(20):
                heard += json.loads(await one.recv())["seq"] == 1
        seconds = time.perf_counter() - begun
        await asyncio.sleep(2)
        after = server.memory_info().rss
        alive = sum(one.close_code is None for one in open_)
        return {
            "sockets": alive,
            "sockets_heard": heard,
            "sockets_opened_in_s": round(seconds, 2),
            "sockets_memory_mb": round((after - before) / 2**20, 1),
        }
    finally:
        await asyncio.gather(*(one.close() for one in open_))


@contextmanager
def running(home: Path, where: str) -> Iterator[tuple[int, dict[str, str], psutil.Process]]:
    """The service in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, __file__, "--server", str(home), where, str(port)]
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
        try:
            line = process.stdout.readline() if process.stdout else b""
            if not line:
                raise SystemExit((home / "server.log").read_text())
            for _ in range(600):
                with socket.socket() as asked:
                    if asked.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield port, json.loads(line), psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(30)


def main() -> None:
    if sys.argv[1:2] == ["--server"]:
        be_server(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document only")
    parser.add_argument("--url", default=os.environ.get("TEST_DATABASE_URL", ""))
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--sockets", type=int, default=500)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, place(options.url) as where:
        home = Path(folder)
        with running(home, where) as (port, seen, server):
            figures = requests(
                port, seen, server, seconds=options.seconds, connections=options.connections
            )
            figures |= asyncio.run(_listen(port, seen, options.sockets, server))
            figures["server_memory_mb"] = round(server.memory_info().rss / 2**20, 1)
    figures["answer"] = sorted(figures["answer"])
    result = {
        **figures,
        "store": "postgres" if options.url else "sqlite",
        "processes": 1,
        "connections": options.connections,
        "seconds": options.seconds,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
    }
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:22s} {value}")


if __name__ == "__main__":
    main()
