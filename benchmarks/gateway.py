"""What the MCP gateway adds to a call: direct and through it, in process and over HTTP.

    python benchmarks/gateway.py --json [--calls 300] [--size 1024] [--names] [--over memory|http]

A tool returns a record of about `--size` bytes with five identifying values, as text and as
structured content (both are examined). The same client calls the same server directly and through
a gateway with the product's detector and vault; the calls alternate, so that both see the same
machine. In memory all of it is one process, without frames. Over HTTP the server and the gateway
are processes of their own on the loopback, and the client speaks streamable HTTP to either.
`--names` adds the shipped name model. Figures are milliseconds of single calls in a row; `added` is
the difference of the two distributions' percentiles; `cpu` is the mean processor time of this
process in a call (over HTTP: the client's alone), which other programs disturb less.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from mcp import Client
from mcp.server.mcpserver import MCPServer
from pydantic import BaseModel

from privacy_finetuner.context.gateway.gateway import Gateway
from privacy_finetuner.context.gateway.policy import (
    HttpTarget,
    Limits,
    Policy,
    RedactionPolicy,
    ServerPolicy,
    StdioTarget,
)
from privacy_finetuner.context.gateway.wiring import opened

SENTENCE = "The patient slept well, ate little and asked for the window to be opened. "
WARM_UP = 30


class Record(BaseModel):
    """What the tool returns."""

    name: str
    mail: str
    phone: str
    card: str
    ssn: str
    note: str


def record(number: int, size: int) -> Record:
    """A record of about `size` bytes; half of its values were seen before, half are new."""
    fresh = number % 2
    found = Record(
        name="Maria Gonzalez",
        mail=f"maria.gonzalez{number * fresh}@example.org",
        phone="+1 415 555 2671",
        card="4111 1111 1111 1111",
        ssn=f"219-09-{9999 - number * fresh % 9000:04d}",
        note="",
    )
    room = max(0, size - len(found.model_dump_json()))
    found.note = (SENTENCE * (room // len(SENTENCE) + 1))[:room]
    return found


def make_server(size: int) -> MCPServer:
    """The server that both ways lead to."""
    server = MCPServer("records")
    count = iter(range(10**9))

    @server.tool()
    def read(patient: int) -> Record:
        """Read a record."""
        return record(next(count), size)

    return server


def policy_of(names: bool, target: Any, journal: Path) -> Policy:
    server = ServerPolicy(name="records", target=target)
    return Policy(
        servers=(server,),
        redaction=RedactionPolicy(names=names),
        limits=Limits(calls_per_minute=10**6),
        journal=str(journal),
    )


async def time_both(direct: Client, through: Client, calls: int) -> dict[str, Any]:
    """Call both ways in turn."""
    await direct.list_tools()
    await through.list_tools()
    times: dict[str, list[float]] = {"direct": [], "gateway": []}
    cpu = dict.fromkeys(times, 0.0)
    for number in range(WARM_UP + calls):
        for way, client, name in (
            ("direct", direct, "read"),
            ("gateway", through, "records__read"),
        ):
            started, busy = time.perf_counter(), time.process_time()
            result = await client.call_tool(name, {"patient": number})
            times[way].append((time.perf_counter() - started) * 1e3)
            cpu[way] += (time.process_time() - busy) * 1e3 * (number >= WARM_UP)
            if result.is_error or ("example.org" in str(result)) != (way == "direct"):
                raise SystemExit(f"the {way} call is not what it should be")
    return {way: (times[way][WARM_UP:], cpu[way] / calls) for way in times}


@asynccontextmanager
async def in_memory(arguments: argparse.Namespace, folder: Path) -> AsyncIterator[Any]:
    server = make_server(arguments.size)
    policy = policy_of(arguments.names, StdioTarget(command=("unused",)), folder / "journal.db")
    with opened(policy, targets=lambda _: server) as gateway:
        async with running(gateway) as through, Client(server) as direct:
            yield direct, through


@asynccontextmanager
async def running(gateway: Gateway) -> AsyncIterator[Client]:
    async with gateway.running() as front, Client(front) as client:
        yield client


@asynccontextmanager
async def over_http(arguments: argparse.Namespace, folder: Path) -> AsyncIterator[Any]:
    ports = [free_port(), free_port()]
    shared = [sys.executable, __file__, "--size", str(arguments.size)]
    shared += ["--names"] if arguments.names else []
    environment = {**os.environ, "BENCH_FOLDER": str(folder)}
    processes = [
        subprocess.Popen([*shared, "--serve", role, *map(str, ports)], env=environment)  # noqa: ASYNC220
        for role in ("server", "gateway")
    ]
    try:
        for port in ports:
            await wait_for(port)
        async with (
            Client(f"http://127.0.0.1:{ports[0]}/mcp") as direct,
            Client(f"http://127.0.0.1:{ports[1]}/mcp") as through,
        ):
            yield direct, through
    finally:
        for process in processes:
            process.kill()
            process.wait()


def serve(role: str, ports: list[int], arguments: argparse.Namespace) -> None:
    """Be one of the processes behind `--over http`."""
    import uvicorn

    from privacy_finetuner.context.gateway.serving import serve_http

    if role == "server":
        app = make_server(arguments.size).streamable_http_app()
        uvicorn.run(app, port=ports[0], log_level="error", access_log=False)
        return
    target = HttpTarget(url=f"http://127.0.0.1:{ports[0]}/mcp")
    folder = Path(os.environ["BENCH_FOLDER"])
    with opened(policy_of(arguments.names, target, folder / "journal.db")) as gateway:
        anyio.run(serve_http, gateway, "127.0.0.1", ports[1])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def wait_for(port: int) -> None:
    with anyio.fail_after(60):
        while True:
            try:
                async with await anyio.connect_tcp("127.0.0.1", port):
                    return
            except OSError:
                await anyio.sleep(0.1)


def summary(times: list[float], cpu: float) -> dict[str, float]:
    cuts = statistics.quantiles(times, n=100)
    return {
        "p50_ms": round(cuts[49], 3),
        "p99_ms": round(cuts[98], 3),
        "cpu_ms": round(cpu, 3),
        "n": len(times),
    }


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    way = in_memory if arguments.over == "memory" else over_http
    with tempfile.TemporaryDirectory() as folder:
        async with way(arguments, Path(folder)) as (direct, through):
            times = await time_both(direct, through, arguments.calls)
    found = {name: summary(*values) for name, values in times.items()}
    added = {
        key: round(found["gateway"][key] - found["direct"][key], 3)
        for key in ("p50_ms", "p99_ms", "cpu_ms")
    }
    return {"over": arguments.over, "names": arguments.names, **found, "added": added}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--over", choices=("memory", "http"), default="memory")
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--names", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", nargs=3, metavar=("ROLE", "PORT", "PORT"), help="internal")
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve[0], [int(port) for port in arguments.serve[1:]], arguments)
        return
    found = anyio.run(measure, arguments)
    if arguments.json:
        print(json.dumps(found, indent=1))
        return
    for name in ("direct", "gateway", "added"):
        p50, p99, cpu = (found[name][key] for key in ("p50_ms", "p99_ms", "cpu_ms"))
        print(f"{name:8} p50 {p50:7.3f} ms   p99 {p99:7.3f} ms   cpu {cpu:7.3f} ms")


if __name__ == "__main__":
    main()
