"""A router and three nodes as real processes, that can be killed and started again.

What an operator would type, on this machine: the demo's model and records, a router at a fixed port
on SQLite or PostgreSQL, nodes at fixed ports on SQLite files of their own.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import sqlalchemy as sa
import yaml

from federated_dp_llm.demo.sample import HOSPITALS, MODEL, cohorts, records_file
from privacy_runtime.allowances import open_allowances
from privacy_runtime.allowances.schema import ACCOUNTS, RESERVATIONS
from privacy_runtime.signing import SigningKey
from privacy_runtime.testing import ManualClock
from privacy_runtime.world import SystemClock, SystemEntropy

SLOTS = 8
MATCH = 0.2
DELTA = 1e-6
DEADLINE_S = 20.0
MARGIN_S = 30.0  # `AnswerPolicy.session_margin_s`
GRACE_S = 60.0  # `node.agent.GRACE_S`
SETTLED_S = DEADLINE_S + MARGIN_S + GRACE_S
"""When everything that a killed process held is counted as spent, at the latest."""
_START_S = 1200.0  # on a machine that has other things to do
_LIGHT = Path(__file__).with_name("light_node.py")
_ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """Lifetime epsilons: small enough that some are used up."""

    user: float
    department: float
    patient: float


@dataclass(slots=True)
class Deployment:
    """The processes of one router and its nodes.

    Attributes:
        folder: where everything lies.
        database: of the router; None: SQLite below its home.
        is_light: nodes of `light_node.py` in the place of `federated-dp-llm node`.
        ports: of the processes, by name.
    """

    folder: Path
    caps: Caps
    database: str | None = None
    is_light: bool = False
    departments: Sequence[str] = ("emergency", "surgery")
    ports: dict[str, int] = field(default_factory=dict)
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _closing: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.ports = dict(zip(("router", *HOSPITALS), free_ports(4), strict=True))
        home = self.folder / "router"
        home.mkdir(parents=True, mode=0o700)
        key = SigningKey.create(
            home / "router-key.pem", SystemEntropy(), now=SystemClock().now()
        ).public
        (self.folder / "router.pub").write_text(json.dumps(key.to_json()))
        document = {
            "environment": "testing",
            # Every user comes from an address of their own, as they would in life.
            "server": {"port": self.ports["router"], "proxies": ["127.0.0.1"]},
            "store": {"home": str(home)} | ({"database": self.database} if self.database else {}),
            "privacy": {
                "delta": DELTA,
                "max_epsilon_per_query": 10.0,
                "max_budget_per_user": self.caps.user,
                "max_budget_per_department": self.caps.department,
            },
            "performance": {"deadline_s": DEADLINE_S, "max_concurrent_requests": 64},
            "security": {"authentication": "none"},
            "federation": {"tokenizer": str(MODEL / "tokenizer.json"), "step_timeout_s": 10.0},
            "nodes": {
                name: {"endpoint": f"http://127.0.0.1:{self.ports[name]}"} for name in HOSPITALS
            },
            "departments": {name: {} for name in self.departments},
            "cohorts": {cohort.cohort: {"slots": SLOTS * len(HOSPITALS)} for cohort in cohorts()},
        }
        (self.folder / "router.yaml").write_text(yaml.safe_dump(document))

    @property
    def url(self) -> str:
        """Of the router."""
        return f"http://127.0.0.1:{self.ports['router']}"

    def __enter__(self) -> Deployment:
        for name in self.ports:
            self.start(name)
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._processes):
            self.kill(name)
        self._closing.close()

    def start(self, name: str) -> None:
        """Start one process; it is ready some seconds later."""
        log = self._closing.enter_context((self.folder / f"{name}.log").open("ab"))
        self._processes[name] = subprocess.Popen(
            self._command(name),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(_ROOT)},
        )

    def kill(self, name: str) -> None:
        """Kill one process, and wait until it is gone."""
        process = self._processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait(30)

    def stop(self, name: str) -> None:
        """End one process in an orderly way."""
        process = self._processes.pop(name)
        process.terminate()
        process.wait(60)

    async def ready(self) -> None:
        """Wait until the router answers and says that all nodes are well."""
        states: object = "the router does not answer"
        try:
            async with asyncio.timeout(_START_S), httpx2.AsyncClient(timeout=10) as client:
                while states != dict.fromkeys(HOSPITALS, "healthy"):
                    self._require_living()
                    await asyncio.sleep(0.2)
                    try:
                        shown = await client.get(f"{self.url}/v1/admin/nodes")
                        states = {node["node_id"]: node["state"] for node in shown.json()}
                    except (httpx2.HTTPError, KeyError, ValueError, TypeError) as error:
                        states = f"the router does not answer: {type(error).__name__}"
        except TimeoutError:
            raise AssertionError(f"not ready after {_START_S:g} s: {states}") from None

    def _require_living(self) -> None:
        for name, process in self._processes.items():
            if process.poll() is not None:
                log = (self.folder / f"{name}.log").read_text()[-2000:]
                raise AssertionError(f"{name} ended with {process.returncode}: {log}")

    def accounts(self, name: str) -> dict[str, Account]:
        """The accounts of the router, or of a node's patients, as they stand on disk."""
        with self._reading(name) as connection:
            rows = connection.execute(sa.select(ACCOUNTS)).all()
        return {row.name: Account(row.cap, row.spent, row.reserved) for row in rows}

    def reservations(self, name: str) -> list[Reservation]:
        """Everything that was ever reserved there."""
        with self._reading(name) as connection:
            rows = connection.execute(sa.select(RESERVATIONS)).all()
        return [
            Reservation(
                key=row.key,
                is_open=row.ended_us is None,
                held=msgspec.json.decode(row.held),
                spent=msgspec.json.decode(row.held if row.spent is None else row.spent),
            )
            for row in rows
        ]

    def expire(self, name: str, *, after_s: float) -> None:
        """Open a stopped process's accounts so much later, and end what is over."""
        clock = ManualClock(SystemClock().now())
        clock.advance(after_s)
        store = open_allowances(self._place(name), clock=clock)
        store.expire()
        store.close()

    def _reading(self, name: str) -> sa.Connection:
        place = self._place(name)
        if isinstance(place, Path):
            return sa.create_engine(f"sqlite:///file:{place}?mode=ro&uri=true").connect()
        return sa.create_engine(place.replace("postgresql://", "postgresql+psycopg://")).connect()

    def _place(self, name: str) -> Path | str:
        if name != "router":
            return self.folder / name / "allowances.sqlite3"
        return self.database or self.folder / "router" / "allowances.db"

    def _command(self, name: str) -> list[str]:
        command = [sys.executable, "-m", "federated_dp_llm.cli"]
        if name == "router":
            return [*command, "serve", "--config", str(self.folder / "router.yaml"), "--json"]
        if self.is_light:
            place = [self.folder / name, records_file(name), name, self.ports[name]]
            limits = [SLOTS, MATCH, self.caps.patient, DELTA, self.folder / "router.pub"]
            return [sys.executable, str(_LIGHT), *map(str, place + limits)]
        options = {
            "--model": MODEL,
            "--records": records_file(name),
            "--name": name,
            "--home": self.folder / name,
            "--router-key": self.folder / "router.pub",
            "--slots": SLOTS,
            "--match": MATCH,
            "--patient-epsilon": self.caps.patient,
            "--delta": DELTA,
            "--port": self.ports[name],
        }
        return [*command, "node", *(str(word) for pair in options.items() for word in pair)]


@dataclass(frozen=True, slots=True)
class Account:
    """Amounts in nano-rho."""

    cap: int
    spent: int
    reserved: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """What was held under a key, and what of it was spent; all of it while it is open."""

    key: str
    is_open: bool
    held: Any
    spent: Any


def free_ports(count: int) -> Iterator[int]:
    """Ports of this machine that nobody listens at just now."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        yield from [int(listener.getsockname()[1]) for listener in listeners]
