"""The command: what it refuses before it starts, and a node that is killed while it answers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.planted import see
from typer.testing import CliRunner

from federated_dp_llm.cli.node import node
from federated_dp_llm.errors import NodeUnavailable
from federated_dp_llm.federation.amounts import price_of
from federated_dp_llm.federation.client import NodeClient
from federated_dp_llm.federation.messages import PROTOCOL, NodeCard, PublicAsk, Step, Terms
from federated_dp_llm.federation.signing import prompt_digest, sign_terms
from federated_dp_llm.node.home import ALLOWANCES
from federated_dp_llm.node.ledger import PatientLedger
from privacy_runtime.allowances import open_allowances
from privacy_runtime.signing import SigningKey
from privacy_runtime.testing import ManualClock
from privacy_runtime.world import SystemClock, SystemEntropy

CODE = """
import typer
from federated_dp_llm.cli.node import node
app = typer.Typer()
app.command()(node)
app()
"""
PROMPT = "cough"


@pytest.fixture
def files(tmp_path: Path, llama_folder: Path) -> dict[str, Path]:
    records = tmp_path / "records.jsonl"
    lines = [{"patient": f"p-{k}", "text": f"cough {k}", "cohort": "trial"} for k in range(3)]
    records.write_text("\n".join(map(json.dumps, lines)))
    SigningKey.create(tmp_path / "router-key.pem", SystemEntropy(), now=SystemClock().now())
    return {
        "model": llama_folder,
        "records": records,
        "home": tmp_path / "home",
        "router-key": tmp_path / "router-key.pem.pub",
    }


def run(*arguments: str) -> tuple[int, str, str]:
    app = typer.Typer()
    app.command()(node)
    done = CliRunner().invoke(app, list(arguments))
    see("stderr of the command", done.stderr)
    return done.exit_code, done.stdout, done.stderr


def options(files: dict[str, Path], *more: str, without: str = "") -> list[str]:
    named = [(f"--{name}", str(path)) for name, path in files.items() if name != without]
    return [word for pair in named for word in pair] + list(more)


def test_without_a_routers_key_it_says_how_to_get_one(files: dict[str, Path]) -> None:
    code, out, err = run(*options(files, "--json", without="router-key"))

    assert code == 2
    assert json.loads(out)["error"]["code"] == "no_router_key"
    assert "router-key.pem.pub" in err
    assert not files["home"].exists()


def test_a_check_says_what_would_be_served(files: dict[str, Path]) -> None:
    more = ("--check", "--json", "--record-tokens", "16", "--patient-epsilon", "3")
    code, out, _ = run(*options(files, *more))

    assert code == 0
    said = json.loads(out)
    assert said["cohorts"] == ["all", "trial"]
    assert (said["slots"], said["context_length"]) == (32, 64)
    assert 0 < said["promise_nano_rho"] < 10**9
    assert "p-0" not in out


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (("--host", "0.0.0.0"), "--cert"),  # noqa: S104  refused
        (("--cert", "c.pem"), "--client-ca"),
        (("--slots", "0"), "slots"),
        (("--patient-epsilon", "0"), "epsilon"),
        (("--delta", "1"), "delta"),
        (("--selection", "best"), "selection"),
        (("--match", "0"), "match"),
        (("--record-tokens", "64"), "record_tokens"),
        (("--mask-peers", "peers.json"), "--mask-key"),
    ],
)
def test_what_cannot_be_promised_is_refused(
    files: dict[str, Path], more: tuple[str, ...], word: str
) -> None:
    code, _, err = run(*options(files, *more, "--check"))

    assert code == 2
    assert word in err


def test_records_that_are_none_are_refused_without_their_content(files: dict[str, Path]) -> None:
    files["records"].write_text('{"patient": "p-1", "text": "knee pain."')

    code, _, err = run(*options(files, "--check"))

    assert code == 2
    assert "line 1" in err


@contextmanager
def served(files: dict[str, Path], port: int) -> Iterator[subprocess.Popen[str]]:
    arguments = options(files, "--port", str(port), "--json", "--record-tokens", "16")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert process.stdout is not None
        assert "node" in json.loads(process.stdout.readline())
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


async def card_of(client: NodeClient) -> NodeCard:
    """The card, once the node listens."""
    for _ in range(200):
        try:
            return await client.card()
        except NodeUnavailable:
            await asyncio.sleep(0.05)
    raise AssertionError("the node does not listen")


def terms_for(card: NodeCard, request_id: str) -> Terms:
    now = SystemClock().now()
    return Terms(
        protocol=PROTOCOL,
        request_id=request_id,
        node_id=card.node_id,
        cohort="all",
        slots=64,
        slots_here=card.slots,
        clip=1.0,
        temperature=1.0,
        max_tokens=8,
        candidates=32,
        adjacency="replace",
        vote_rho=0.0,
        weights=card.weights,
        tokenizer=card.tokenizer,
        prompt_digest=prompt_digest(PROMPT),
        issued_at=now.timestamp(),
        expires_at=(now + timedelta(seconds=60)).timestamp(),
    )


async def first_step(client: NodeClient, terms: Terms, key: SigningKey) -> Any:
    handle = (await client.open(sign_terms(terms, key).session(PROMPT))).handle
    public = await client.public(
        PublicAsk(prompt=PROMPT, released=(), draft=3, candidates=32, reach_logits=0.1)
    )
    step = Step(
        handle=handle,
        released=(),
        draft=public.draft,
        candidates=public.candidates,
        logits=public.logits,
    )
    return await client.step(step)


@pytest.mark.slow
def test_a_node_that_is_killed_has_charged_what_it_answered(
    files: dict[str, Path], tmp_path: Path, unused_port: int
) -> None:
    key = SigningKey.load(tmp_path / "router-key.pem")
    terms: list[Terms] = []

    async def main(process: subprocess.Popen[str]) -> None:
        client = NodeClient("node", f"http://127.0.0.1:{unused_port}")
        card = await card_of(client)
        terms.append(terms_for(card, "request-1"))
        sums = await first_step(client, terms[0], key)
        assert any(any(part) for part in sums.sums)
        process.send_signal(signal.SIGKILL)
        process.wait()
        await client.aclose()

    with served(files, unused_port) as process:
        asyncio.run(main(process))

    later = ManualClock(SystemClock().now() + timedelta(hours=1))
    store = open_allowances(files["home"] / ALLOWANCES, clock=later)
    ledger = PatientLedger(store, promise=1)
    whole = price_of(terms[0], tokens=8, voted=True)
    for patient in ("p-0", "p-1", "p-2"):
        balance = ledger.balance(patient)
        assert balance is not None
        assert (balance.spent, balance.reserved) == (0, whole)
    ledger.expire()
    spent = [ledger.balance(patient) for patient in ("p-0", "p-1", "p-2")]
    assert [balance.spent for balance in spent if balance] == [whole] * 3
    ledger.close()


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
