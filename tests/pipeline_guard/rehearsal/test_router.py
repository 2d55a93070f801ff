"""Faults done to the real router and a real node, found and healed by a real guard."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from signal import SIGSTOP

import pytest

from federated_dp_llm.demo.watched import SCENES, WatchedFederation, hurt_program
from pipeline_guard.rehearsal.stage import Scene
from pipeline_guard.rehearsal.trials import rehearse
from privacy_runtime.allowances import open_allowances
from privacy_runtime.world import SystemClock

NODE = """
import sys
from pathlib import Path
from federated_dp_llm.node.home import Promise, open_agent
from federated_dp_llm.node.policy import NodePolicy
from federated_dp_llm.node.records import Records
from federated_dp_llm.node.retrieval import Retrieval
from federated_dp_llm.node.server import make_app
from privacy_runtime.http.server import ServerOptions, serve
from privacy_runtime.signing import PublicKey, TrustedKeys, parse_json
from tests.federated_dp_llm.node.toy import RECORDS, ToyModel

folder, key, port = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
agent = open_agent(
    folder / "node", NodePolicy(node_id="north", slots=64, cohorts=("all",)), ToyModel(),
    Retrieval(Records.of(RECORDS), match=0.2),
    trusted=TrustedKeys([PublicKey.from_json(parse_json(key.read_bytes()))]),
    promise=Promise(epsilon=100, delta=1e-6),
)
serve(make_app(agent), ServerOptions(port=port))
"""
ROOT = Path(__file__).parents[3]


def toy_node(folder: Path, key: Path, port: int) -> list[str]:
    """A node in everything but its model, which loads in no time."""
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}){NODE}"
    return [sys.executable, "-c", program, str(folder), str(key), str(port)]


def federation(folder: Path) -> WatchedFederation:
    asked = {"prompt": "which drug helps cough", "labels": ["amber", "birch"], "cohort": "all"}
    return WatchedFederation(folder, node=toy_node, more=asked)


def hang(folder: Path) -> Scene:
    it = federation(folder)
    return hurt_program(it, name="hang", hurts="router", number=SIGSTOP, is_asked=False)


def test_a_router_that_hangs_is_found_and_answers_again_and_every_account_is_exact() -> None:
    [trial] = rehearse(["hang"], {"hang": hang}, clock=SystemClock(), limit_s=120.0)

    assert trial.healed, trial.note
    assert trial.epsilon_difference == 0.0
    assert trial.detected_s is not None
    assert trial.recovered_s is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", list(SCENES))
def test_every_fault_of_the_router_is_found_and_healed(name: str) -> None:
    if name == "router_disk_full" and os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    [trial] = rehearse([name], SCENES, clock=SystemClock())

    assert trial.healed, trial.note
    assert trial.epsilon_difference == 0.0


def test_an_account_that_says_too_much_or_too_little_is_found(tmp_path: Path) -> None:
    it = federation(tmp_path)
    user, node = "user/rehearsal/nano-rho", "nano-rho/everyone"
    places = (tmp_path / "router" / "allowances.db", tmp_path / "node" / "allowances.sqlite3")
    places[1].parent.mkdir()
    for place, account in zip(places, (user, node), strict=True):
        store = open_allowances(place)
        store.open_accounts({account: 10**12})
        store.close()
    assert it.epsilon_difference() == 0.0

    _spent(places[0], user, "answer/rehearsal/q_1/aa", 1000)
    digest = hashlib.sha256(b"rehearsal\0q_1").hexdigest()
    _spent(places[1], node, f"answer/{digest}", 1000)
    it.asker.told["q_1"] = 1000
    assert it.epsilon_difference() == 0.0
    it.asker.told["q_1"] = 400
    assert (it.epsilon_difference() or 0.0) > 0
    it.asker.told["q_1"] = 1600
    assert (it.epsilon_difference() or 0.0) < 0
    it.asker.told |= {"q_1": 1000, "q_2": 700}
    assert (it.epsilon_difference() or 0.0) < 0, "an answer that nobody paid for"


def _spent(place: Path, account: str, key: str, amount: int) -> None:
    store = open_allowances(place)
    store.reserve(key, {account: 5 * amount}, ttl_s=60)
    store.settle(key, {account: amount})
    store.close()
