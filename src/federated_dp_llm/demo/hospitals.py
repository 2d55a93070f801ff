"""The demo's hospitals: three nodes, each with its own records and its own ledger of patients."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from federated_dp_llm.demo.sample import HOSPITALS, MODEL, cohorts, records_file
from federated_dp_llm.errors import NodeUnavailable
from federated_dp_llm.federation.client import NodeClient
from federated_dp_llm.federation.port import Node
from federated_dp_llm.node.home import ALLOWANCES, Promise, open_agent
from federated_dp_llm.node.ledger import PatientLedger
from federated_dp_llm.node.policy import NodePolicy
from federated_dp_llm.node.records import Records
from federated_dp_llm.node.retrieval import Retrieval
from privacy_core.decoding.prices import epsilon_of
from privacy_runtime.allowances import open_allowances
from privacy_runtime.files import write_atomic
from privacy_runtime.signing import PublicKey, TrustedKeys

SLOTS: Final = 32
"""Of each hospital."""
MATCH: Final = 0.2
"""Questions here have three to five words that are not the commonest; the condition is one."""
_START_S: Final = 120.0
_STOP_S: Final = 10.0
_LOOK_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Spent:
    """What the patients of one hospital paid, in epsilon: only a demo may show it.

    Attributes:
        hospital: whose.
        amounts: what was paid, and by how many patients.
    """

    hospital: str
    amounts: tuple[tuple[float, int], ...]


@asynccontextmanager
async def in_process(
    folder: Path, router: PublicKey, promise: Promise
) -> AsyncIterator[list[Node]]:
    """The hospitals in this process, over one copy of the model."""
    from federated_dp_llm.node.hf import HfModel  # noqa: PLC0415 -- loads torch

    model = HfModel.load(MODEL)
    async with AsyncExitStack() as stack:
        nodes: list[Node] = []
        for name in HOSPITALS:
            agent = open_agent(
                folder / name,
                NodePolicy(node_id=name, slots=SLOTS, cohorts=_cohort_names()),
                model,
                Retrieval(Records.read(records_file(name)), match=MATCH),
                trusted=TrustedKeys([router]),
                promise=promise,
            )
            stack.push_async_callback(agent.aclose)
            nodes.append(agent)
        yield nodes


@asynccontextmanager
async def as_processes(
    folder: Path, router: PublicKey, promise: Promise
) -> AsyncIterator[list[Node]]:
    """Each hospital as a process of its own, as in life; ended when the context is left.

    Raises:
        NodeUnavailable: one did not start in time, or ended.
    """
    key = folder / "router.pub"
    write_atomic(key, json.dumps(router.to_json()).encode())
    async with AsyncExitStack() as stack:
        started = []
        for name, port in zip(HOSPITALS, _free_ports(len(HOSPITALS)), strict=True):
            log = stack.enter_context((folder / f"{name}.log").open("ab"))
            process = await asyncio.create_subprocess_exec(
                *_command(name, folder, key, port, promise),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            stack.push_async_callback(_end, process)
            client = NodeClient(name, f"http://127.0.0.1:{port}")
            stack.push_async_callback(client.aclose)
            started.append((client, process))
        for client, process in started:
            await _ready(client, process, folder)
        yield [client for client, _ in started]


def spent(folder: Path, *, delta: float) -> list[Spent]:
    """Read every hospital's ledger, after its node has ended."""
    found = []
    for name in HOSPITALS:
        store = open_allowances(folder / name / ALLOWANCES)
        try:
            ledger = PatientLedger(store, promise=0)
            counts: dict[int, int] = {}
            for patient in sorted(Records.read(records_file(name)).patients):
                balance = ledger.balance(patient)
                paid = 0 if balance is None else balance.spent + balance.reserved
                counts[paid] = counts.get(paid, 0) + 1
        finally:
            store.close()
        amounts = tuple(
            (epsilon_of(paid * 1e-9, delta) if paid else 0.0, patients)
            for paid, patients in sorted(counts.items())
        )
        found.append(Spent(name, amounts))
    return found


def _command(name: str, folder: Path, key: Path, port: int, promise: Promise) -> list[str]:
    """What an operator would type, for one hospital."""
    options = {
        "--model": MODEL,
        "--records": records_file(name),
        "--name": name,
        "--home": folder / name,
        "--router-key": key,
        "--slots": SLOTS,
        "--match": MATCH,
        "--patient-epsilon": promise.epsilon,
        "--delta": promise.delta,
        "--port": port,
    }
    words = [str(word) for option in options.items() for word in option]
    return [sys.executable, "-m", "federated_dp_llm.cli", "node", *words]


async def _ready(client: NodeClient, process: asyncio.subprocess.Process, folder: Path) -> None:
    """Wait until a node answers.

    Raises:
        NodeUnavailable: it ended, or takes longer than two minutes.
    """
    log = folder / f"{client.node_id}.log"
    try:
        async with asyncio.timeout(_START_S):
            while process.returncode is None:
                try:
                    await client.card()
                except NodeUnavailable:
                    await asyncio.sleep(_LOOK_S)
                else:
                    return
    except TimeoutError:
        raise NodeUnavailable(client.node_id, f"did not start in time; see {log}") from None
    raise NodeUnavailable(client.node_id, f"ended with status {process.returncode}; see {log}")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ask a node to stop, and see that it does. A ledger survives either way."""
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens at just now."""
    with ExitStack() as stack:
        found = []
        for _ in range(count):
            listener = stack.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            found.append(int(listener.getsockname()[1]))
        return found


def _cohort_names() -> tuple[str, ...]:
    return tuple(cohort.cohort for cohort in cohorts())
