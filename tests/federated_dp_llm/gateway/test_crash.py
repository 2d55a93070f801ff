"""A gateway that is killed: whatever a backend heard of is paid, or held and then counted."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.federated_dp_llm.gateway.parts import (
    ACCOUNT,
    KEY,
    MODEL,
    Asked,
    answer,
    chat,
    completion,
    serving,
)

from federated_dp_llm.gateway.client import Pool
from federated_dp_llm.gateway.faults import BackendFault
from privacy_runtime.allowances import open_allowances
from privacy_runtime.append_log import read_log
from privacy_runtime.testing import ManualClock

GATEWAY = """
import asyncio, json, sys
from pathlib import Path
from federated_dp_llm.gateway.app import make_app
from federated_dp_llm.gateway.audit import AuditTrail
from federated_dp_llm.gateway.options import GatewayOptions
from federated_dp_llm.gateway.serve import run
from privacy_runtime.allowances import AsyncAllowances, open_allowances
from privacy_runtime.http.server import ServerOptions
from tests.federated_dp_llm.gateway.parts import ACCOUNT, authenticate

folder, port, section = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
store = open_allowances(folder / "allowances.db")
store.open_accounts({ACCOUNT: 1 << 40})
options = GatewayOptions.of(section)
run(
    make_app(
        allowances=AsyncAllowances(store), backends=options.values(), authenticate=authenticate,
        accounts_of=lambda _: (ACCOUNT,), audit=AuditTrail(folder / "audit"),
        policy=options.policy(),
    ),
    ServerOptions(port=port),
)
store.close()
"""


def free_port() -> int:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


async def listening(port: int) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


async def killed(folder: Path, how: signal.Signals) -> tuple[list[Asked], list[str]]:
    """Kill a gateway in the middle of many requests; what a backend heard, what clients got."""
    answered: list[str] = []
    enough = asyncio.Event()

    async def handler(_: Asked, reader: object, writer: asyncio.StreamWriter) -> None:
        del reader
        if len(server.asked) >= 60:
            enough.set()
        await asyncio.sleep(0.02)
        writer.write(answer(completion(9)))

    async with serving(handler) as server:
        port = free_port()
        backend = {"name": "b", "url": f"http://127.0.0.1:{server.port}", "models": [MODEL]}
        command = [sys.executable, "-c", GATEWAY, str(folder), str(port)]
        process = subprocess.Popen([*command, json.dumps({"backends": [backend]})])  # noqa: ASYNC220
        try:
            await listening(port)
            pool = Pool("gateway", f"http://127.0.0.1:{port}", max_size=16)
            body = chat()
            head = pool.head("/v1/chat/completions", [("authorization", f"Bearer {KEY}")])
            head += b"content-length: %d\r\n\r\n" % len(body)

            async def client() -> None:
                while True:
                    try:
                        got = await pool.ask(head, body)
                    except BackendFault:
                        return
                    assert got.status == 200
                    answered.append(got.header(b"x-request-id").decode())

            clients = [asyncio.create_task(client()) for _ in range(16)]
            await asyncio.wait_for(enough.wait(), 60)
            process.send_signal(how)
            await asyncio.gather(*clients)
            await pool.aclose()
        finally:
            if how is signal.SIGKILL:
                process.kill()
            await asyncio.to_thread(process.wait, 30)
        return list(server.asked), answered


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_no_request_that_a_backend_heard_of_is_unpaid_after_the_gateway_died(
    tmp_path: Path, how: signal.Signals
) -> None:
    """Killed in the middle of many requests; then every hold is counted, at its deadline."""

    heard, answered = asyncio.run(killed(tmp_path, how))

    assert len(heard) >= 60
    clock = ManualClock()
    clock.advance(10 * 365 * 86_400)  # long after every deadline
    store = open_allowances(tmp_path / "allowances.db", clock=clock)
    store.expire()
    balance = store.balances([ACCOUNT])[ACCOUNT]
    store.close()
    assert balance.reserved == 0
    assert balance.spent >= 9 * len({asked.request_id for asked in heard})
    noted = {entry.body["request_id"] for entry in read_log(tmp_path / "audit")}
    if how is signal.SIGTERM:  # an orderly end loses nothing
        assert set(answered) <= noted
        assert balance.spent == 9 * len(heard)
