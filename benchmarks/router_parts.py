"""What the benchmarks of the router are made of: mock backends, our gateway as a process, loads.

    python benchmarks/router_parts.py mock PORT DRAWS SPEED SLOTS      one backend
    python benchmarks/router_parts.py gateway FOLDER PORT BACKENDS     our gateway

A mock backend speaks OpenAI's chat completions over a raw protocol. It has `SLOTS` places, each
answers one request at a time, further requests wait in line. A request says in its field `seed`
which of the draws is its service time, so that the same requests take the same time whoever routes
them. DRAWS is a file of float64 seconds, or a number for all of them.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import uvloop

MODEL = "mock-8b"
ANSWER = json.dumps(
    {
        "id": "chatcmpl-mock",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "It rained all night. " * 8},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 70, "completion_tokens": 40, "total_tokens": 110},
    }
).encode()
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
_LENGTH = re.compile(rb"content-length: ?(\d+)", re.IGNORECASE)
_SEED = re.compile(rb'"seed": ?(\d+)')


def body(seed: int | None = None) -> bytes:
    """A request of about 500 bytes."""
    asked: dict[str, Any] = {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "You answer in one short paragraph."},
            {"role": "user", "content": "What was the weather like in the night? " * 8},
        ],
        "max_tokens": 64,
        "temperature": 0.7,
    }
    if seed is not None:
        asked["seed"] = seed
    return json.dumps(asked).encode()


class _Node:
    """The places of a mock backend, and who waits for one."""

    def __init__(self, draws: np.ndarray[Any, Any], speed: float, slots: int) -> None:
        self.draws, self.speed, self.free = draws, speed, slots
        self.line: deque[tuple[_MockProtocol, float]] = deque()
        self.answer = _HEAD % len(ANSWER) + ANSWER

    def ask(self, protocol: _MockProtocol, seed: int) -> None:
        seconds = float(self.draws[seed % len(self.draws)]) / self.speed
        if not seconds:
            protocol.say(self.answer)
        elif self.free:
            self.begin(protocol, seconds)
        else:
            self.line.append((protocol, seconds))

    def begin(self, protocol: _MockProtocol, seconds: float) -> None:
        self.free -= 1
        asyncio.get_running_loop().call_later(seconds, self.end, protocol)

    def end(self, protocol: _MockProtocol) -> None:
        self.free += 1
        protocol.say(self.answer)
        if self.line:
            self.begin(*self.line.popleft())


class _MockProtocol(asyncio.Protocol):
    def __init__(self, node: _Node) -> None:
        self.node, self.rest = node, b""
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.rest += data
        while (end := self.rest.find(b"\r\n\r\n")) >= 0:
            found = _LENGTH.search(self.rest, 0, end)
            whole = end + 4 + (int(found[1]) if found else 0)
            if len(self.rest) < whole:
                return
            seed = _SEED.search(self.rest, end, whole)
            self.rest = self.rest[whole:]
            self.node.ask(self, int(seed[1]) if seed else 0)

    def say(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(answer)


async def _be_mock(port: int, draws: str, speed: float, slots: int) -> None:
    times = np.load(draws) if os.path.exists(draws) else np.array([float(draws)])  # noqa: ASYNC240
    node = _Node(times, speed, slots)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _MockProtocol(node), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


def _be_gateway(folder: Path, port: int, given: dict[str, Any]) -> None:
    """Open everything that a deployment has: identity, allowances, audit; and serve."""
    from federated_dp_llm.gateway.app import Verifier, make_app
    from federated_dp_llm.gateway.audit import AuditTrail
    from federated_dp_llm.gateway.options import GatewayOptions
    from federated_dp_llm.gateway.serve import run
    from privacy_runtime.allowances import AsyncAllowances, open_allowances
    from privacy_runtime.http import Access
    from privacy_runtime.http.server import ServerOptions
    from privacy_runtime.world import SystemClock, SystemEntropy

    clock, entropy = SystemClock(), SystemEntropy()
    identity, token, principal = _identity(folder, clock, entropy)
    store = open_allowances(given.pop("allowances", None) or folder / "allowances.db")
    accounts = (f"user/{principal.subject}/tokens", "department/all/tokens")
    store.open_accounts(dict.fromkeys(accounts, 1 << 50))
    options = GatewayOptions.of(given)
    access = Access(identity, clock=clock, entropy=entropy)
    gateway = make_app(
        allowances=AsyncAllowances(store),
        backends=options.values(),
        authenticate=Verifier(access.verified, access.known),
        accounts_of=lambda _: accounts,
        audit=AuditTrail(folder / "audit.log"),
        policy=options.policy(),
    )
    print(json.dumps({"token": token, "accounts": accounts}), flush=True)
    run(gateway, ServerOptions(port=port, connections_most=20_000))
    store.close()
    identity.close()


def _identity(folder: Path, clock: Any, entropy: Any) -> Any:
    """An identity with one analyst, who is logged in."""
    import sqlalchemy as sa

    from privacy_runtime.identity import (
        Identity,
        IdentityPolicy,
        Role,
        TokenPolicy,
        bootstrap_admin,
    )
    from privacy_runtime.identity.schema import USERS
    from privacy_runtime.journal import Journal
    from privacy_runtime.journal.sqlite import SqliteHome
    from privacy_runtime.pseudonyms import RedactionKeys

    identity = Identity.open(
        folder / "identity.db",
        Journal(SqliteHome(folder / "journal.db"), clock=clock),
        policy=IdentityPolicy(tokens=TokenPolicy(issuer="https://bench", audience="bench")),
        token_keys=folder / "token-keys",
        sealing_keys=RedactionKeys.generate(entropy, folder / "sealing-keys.json"),
        clock=clock,
        entropy=entropy,
    )
    password = secrets.token_urlsafe(24)
    user, first = bootstrap_admin(identity.accounts)
    if first is None:
        raise SystemExit("the folder is not a new one")
    identity.logins.change_password(user.name, first.reveal(), password, source="here")
    # An administrator without a second factor may nothing; an analyst needs none.
    lower = sa.update(USERS).where(USERS.c.id == user.id).values(role=str(Role.ANALYST))
    identity.store.database.change(lambda connection: connection.execute(lower))
    token = identity.logins.log_in(user.name, password, source="here").access_token.reveal()
    return identity, token, identity.sessions.authenticate(token)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes], *, seconds: float = 60.0) -> None:
    """Wait until somebody listens."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as asked:
            if asked.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"nothing listens on port {port} ({process.args})")


@contextmanager
def started(*command: str, log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended when the block is left."""
    with log.open("ab") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, **options)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(20)


@contextmanager
def mocks(
    count: int,
    folder: Path,
    *,
    draws: str = "0",
    speeds: Sequence[float] = (),
    slots: int = 1 << 30,
) -> Iterator[list[int]]:
    """So many backends, each a process; their ports."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        ports = []
        for k in range(count):
            port = free_port()
            speed = speeds[k] if speeds else 1.0
            one = stack.enter_context(
                started(
                    *(sys.executable, __file__, "mock", str(port), draws),
                    *(str(speed), str(slots)),
                    log=folder / "mock.log",
                )
            )
            wait_for(port, one)
            ports.append(port)
        yield ports


@dataclass(frozen=True)
class Target:
    """A router that is measured."""

    port: int
    token: str
    process: psutil.Process

    def cpu_s(self) -> float:
        """Processor time of its process tree so far."""
        total = 0.0
        for one in (self.process, *self.process.children(recursive=True)):
            times = one.cpu_times()
            total += times.user + times.system
        return total


@contextmanager
def gateway(folder: Path, ports: Sequence[int], **given: Any) -> Iterator[Target]:
    """Our gateway as a process, with everything on."""
    port = free_port()
    slots = given.pop("slots", 1000)
    given["backends"] = [
        {"name": f"mock-{k}", "url": f"http://127.0.0.1:{p}", "models": [MODEL], "slots": slots}
        for k, p in enumerate(ports)
    ]
    command = (sys.executable, __file__, "gateway", str(folder), str(port), json.dumps(given))
    log = folder / "gateway.log"
    with started(*command, log=log) as process:
        line = process.stdout.readline() if process.stdout else b""
        if not line:
            raise SystemExit(log.read_text())
        wait_for(port, process)
        yield Target(port, json.loads(line)["token"], psutil.Process(process.pid))


async def open_loop(
    port: int, token: str, *, arrivals_s: np.ndarray[Any, Any], seeds: bool
) -> np.ndarray[Any, Any]:
    """Ask at the given instants, whatever comes back.

    Seconds of each from when it was due; NaN: it was not answered with 200.
    """
    from federated_dp_llm.gateway.client import Pool
    from federated_dp_llm.gateway.faults import BackendFault

    pool = Pool("target", f"http://127.0.0.1:{port}", max_size=8192)
    headers = [("authorization", f"Bearer {token}"), ("content-type", "application/json")]
    head = pool.head("/v1/chat/completions", headers)
    loop = asyncio.get_running_loop()
    taken = np.full(len(arrivals_s), np.nan)
    running: set[asyncio.Task[None]] = set()

    async def ask(k: int, due: float) -> None:
        sent = body(k if seeds else None)
        try:
            answer = await pool.ask(head + b"content-length: %d\r\n\r\n" % len(sent), sent)
        except BackendFault:
            return
        if answer.status == 200:
            taken[k] = loop.time() - due

    for k in range(8):  # connections, imports, caches
        await ask(k, 0.0)
    taken[:] = np.nan
    begun = loop.time() + 0.1
    for k, at_s in enumerate(arrivals_s):
        due = begun + float(at_s)
        if (ahead := due - loop.time()) > 0:
            await asyncio.sleep(ahead)
        task = loop.create_task(ask(k, due))
        running.add(task)
        task.add_done_callback(running.discard)
    while running:
        await asyncio.wait(running)
    await pool.aclose()
    return taken


def poisson(rate_per_s: float, seconds: float, *, seed: int) -> np.ndarray[Any, Any]:
    """Instants of a Poisson process, from a fixed seed."""
    draw = np.random.default_rng(seed)
    gaps = draw.exponential(1.0 / rate_per_s, round(rate_per_s * seconds))
    return np.cumsum(gaps)


def main() -> None:
    match sys.argv[1:]:
        case ["mock", port, draws, speed, slots]:
            uvloop.run(_be_mock(int(port), draws, float(speed), int(slots)))
        case ["gateway", folder, port, given]:
            _be_gateway(Path(folder), int(port), json.loads(given))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
