"""A small, real federation for the pipeline guard's rehearsals (`pipeline_guard.subjects`).

One hospital's node with the demo's invented records, and a router in front of it: two processes, as
an operator starts them, with ledgers of their own. While faults are done to them, questions are
asked over HTTP; afterwards every account is compared with what the answers cost.

==================  ================================================  =============================
fault               what is done                                      what the guard may do
==================  ================================================  =============================
router_kill         SIGKILL to the router, in the midst of an answer  start it
router_hang         SIGSTOP to the router                             stop it for good, start it
node_kill           SIGKILL to the node, in the midst of an answer    start it
node_hang           SIGSTOP to the node, in the midst of an answer    stop it for good, start it
router_disk_full    the disk of the router's accounts is filled up    clean it
==================  ================================================  =============================

A scene is over when the router answers again and no reservation is open at the router or the node.
What a process took with it when it died is charged in full at its deadline, some two minutes later.
"""

from __future__ import annotations

import hashlib
import sqlite3
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from signal import SIGKILL, SIGSTOP, Signals
from typing import Any, Final

import yaml

from federated_dp_llm.demo.asking import DEADLINE_S, NANO, USER, Asker, Books
from federated_dp_llm.demo.sample import MODEL, records_file
from federated_dp_llm.node.home import ALLOWANCES
from federated_dp_llm.node.ledger import EVERYBODY
from federated_dp_llm.routing.quotas import user_account
from pipeline_guard.model import Fault
from pipeline_guard.rehearsal.injections import Impossible, SmallDisk, filled
from pipeline_guard.rehearsal.stage import (
    Program,
    Repertoire,
    Scene,
    free_port,
    guard_config,
    recovery,
)
from privacy_core.decoding.prices import epsilon_of
from privacy_runtime.signing import SigningKey
from privacy_runtime.world import SystemClock, SystemEntropy

_PROGRAM: Final = (sys.executable, "-m", "federated_dp_llm.cli")
_HOSPITAL: Final = "north"
_DELTA: Final = 1e-6
_POLL_S: Final = 0.01
_WAIT_S: Final = 60.0


class WatchedFederation:
    """One node and a router in a folder, what they are asked, and what their accounts say.

    Args:
        folder: empty; for everything.
        home: of the router; None: in the folder.
        node: the node's command, from the folder, the router's public key and a port.
        more: fields of the questions.
    """

    def __init__(
        self,
        folder: Path,
        home: Path | None = None,
        *,
        node: Callable[[Path, Path, int], list[str]] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        home = home or folder / "router"
        home.mkdir(mode=0o700)
        router, hospital = free_port(), free_port()
        key = home / "router-key.pem"
        SigningKey.create(key, SystemEntropy(), now=SystemClock().now())
        config = folder / "router.yaml"
        config.write_text(yaml.safe_dump(_configuration(home, router, hospital)))
        words = (node or _node)(folder, key.with_name(f"{key.name}.pub"), hospital)
        self.urls = {
            "router": f"http://127.0.0.1:{router}/v1/health",
            "node": f"http://127.0.0.1:{hospital}/fed/v1/card",
        }
        self.programs = {
            "node": Program(folder, words, "node"),
            "router": Program(folder, (*_PROGRAM, "serve", "--config", str(config)), "router"),
        }
        self.asker = Asker(router, more or {})
        self._answers = False
        self._router = Books(home / "allowances.db", user_account(USER), _router_request)
        self._node = Books(folder / "node" / ALLOWANCES, EVERYBODY, _node_request)

    def start(self) -> None:
        """Start both."""
        for program in self.programs.values():
            program.start()

    def is_ready(self) -> bool:
        """Whether questions are answered.

        Raises:
            Impossible: one of the two has ended.
        """
        for name, program in self.programs.items():
            if not program.is_alive():
                words = program.log.read_text(errors="replace").strip().splitlines()[-1:]
                raise Impossible(f"the {name} ended before the fault: {words}")
        return self.asker.ask()

    def hurt(self, name: str, number: Signals, *, is_asked: bool) -> None:
        """Send a program a signal; `is_asked`: while an answer is under way, and paid for.

        Raises:
            Impossible: no answer was caught under way.
        """
        if not is_asked:
            self.programs[name].send(number)
            return
        self.asker.begin()
        end_s = time.monotonic() + _WAIT_S
        try:
            while not all(self._holds(books) for books in (self._router, self._node)):
                if time.monotonic() > end_s:
                    raise Impossible(f"no answer was caught under way within {_WAIT_S:.0f} s")
                time.sleep(_POLL_S)
            self.programs[name].send(number)
        finally:
            self.asker.stop()

    def is_whole(self) -> bool:
        """Whether a question was answered since the guard called it over, and nothing is held.

        One answer is enough: each is settled a moment after it is told, and would be found open.
        """
        self.asker.cease()
        self._answers = self._answers or self.asker.ask()
        with suppress(sqlite3.Error):
            books = (self._router, self._node)
            return self._answers and not any(row.is_open for b in books for row in b.rows())
        return False

    def epsilon_difference(self) -> float | None:
        """What accounts say more than the answers cost: the router's, else the node's.

        A node names a request by its digest, so that it learns no user's name.
        """
        by_digest = {_digest(request): nano for request, nano in self.asker.told.items()}
        for books, told in ((self._router, self.asker.told), (self._node, by_digest)):
            try:
                more, (spent, _) = books.difference(told), books.charged()
            except sqlite3.Error:
                return None
            if more:
                before, after = (epsilon_of(n * NANO, _DELTA) if n > 0 else 0.0
                                 for n in (spent - more, spent))  # fmt: skip
                return after - before
        return 0.0

    def end(self) -> None:
        """End both."""
        self.asker.stop()
        for program in self.programs.values():
            program.end()

    def _holds(self, books: Books) -> bool:
        with suppress(sqlite3.Error):
            return books.charged()[1] > 0
        return False


def hurt_program(
    it: WatchedFederation, *, name: str, hurts: str, number: Signals, is_asked: bool = True
) -> Scene:
    """A program of a federation is killed or stopped.

    Args:
        it: the federation.
        name: of the scene.
        hurts: `router` or `node`.
        number: SIGKILL or SIGSTOP.
        is_asked: in the midst of an answer.
    """
    step: Any = "start" if number is SIGKILL else {"restart": {"grace": "1s"}}
    return _played(
        it,
        name=name,
        fault=Fault.DEAD_ENDPOINT,
        inject=partial(it.hurt, hurts, number, is_asked=is_asked),
        recoveries=[recovery(hurts, Fault.DEAD_ENDPOINT, [step], f"{hurts}.answers")],
    )


def _hurt(folder: Path, *, name: str, hurts: str, number: Signals, is_asked: bool = True) -> Scene:
    it = WatchedFederation(folder)
    return hurt_program(it, name=name, hurts=hurts, number=number, is_asked=is_asked)


def _disk_full(folder: Path) -> Scene:
    """The disk that the router's accounts are on is filled up by somebody else's dump."""
    disk = SmallDisk.mounted(folder / "disk")
    try:
        it = WatchedFederation(folder, disk.folder / "router")
    except BaseException:
        disk.unmount()
        raise
    clean = {"root": str(disk.folder), "patterns": ["dumps/*"], "older_than": "1ms"}
    check = {"id": "storage.disk", "component": "storage", "type": "disk",
             "path": str(disk.folder), "warn_free": 0.2, "crit_free": 0.1}  # fmt: skip

    def inject() -> None:
        it.asker.begin()
        filled(disk.folder / "dumps")

    scene = _played(
        it,
        name="router_disk_full",
        fault=Fault.DISK_FULL,
        inject=inject,
        recoveries=[recovery("storage", Fault.DISK_FULL, [{"clean": clean}], "storage.disk")],
        more=check,
    )
    ended = scene.end

    def end() -> None:
        ended()
        disk.unmount()

    scene.end = end
    return scene


SCENES: Final[Repertoire] = {
    "router_kill": partial(_hurt, name="router_kill", hurts="router", number=SIGKILL),
    "router_hang": partial(
        _hurt, name="router_hang", hurts="router", number=SIGSTOP, is_asked=False
    ),
    "node_kill": partial(_hurt, name="node_kill", hurts="node", number=SIGKILL),
    "node_hang": partial(_hurt, name="node_hang", hurts="node", number=SIGSTOP),
    "router_disk_full": _disk_full,
}
"""What the guard can rehearse on a router."""


def _played(
    it: WatchedFederation,
    *,
    name: str,
    fault: Fault,
    inject: Callable[[], None],
    recoveries: list[dict[str, Any]],
    more: dict[str, Any] | None = None,
) -> Scene:
    components = {part: {"settings": it.programs[part].settings()} for part in it.programs}
    checks: list[dict[str, Any]] = [
        {"id": f"{part}.answers", "component": part, "type": "http", "url": it.urls[part],
         "answer": "1s"}
        for part in it.programs
    ]  # fmt: skip
    if more is not None:
        components[more["component"]] = {}
        checks.append(more)
    return Scene(
        name=name,
        faults=frozenset({fault}),
        config=guard_config(components, checks, recoveries),
        start=it.start,
        is_ready=it.is_ready,
        inject=inject,
        is_over=it.is_whole,
        end=it.end,
        subject=it,
    )


def _configuration(home: Path, router: int, node: int) -> dict[str, Any]:
    return {
        "environment": "testing",
        "server": {"port": router},
        "store": {"home": str(home)},
        "privacy": {
            "max_epsilon_per_query": 10.0,
            "max_budget_per_user": 100.0,
            "max_budget_per_department": 100.0,
            "delta": _DELTA,
        },
        "performance": {"deadline_s": DEADLINE_S, "cache_size": 0},
        "security": {"authentication": "none", "redact_prompts": False},
        "federation": {"tokenizer": str(MODEL / "tokenizer.json"), "step_timeout_s": DEADLINE_S},
        "nodes": {_HOSPITAL: {"endpoint": f"http://127.0.0.1:{node}"}},
    }


def _node(folder: Path, key: Path, port: int) -> list[str]:
    options = {
        "--model": MODEL,
        "--records": records_file(_HOSPITAL),
        "--name": _HOSPITAL,
        "--home": folder / "node",
        "--router-key": key,
        "--slots": 32,
        "--match": 0.2,
        "--patient-epsilon": 100,
        "--delta": _DELTA,
        "--port": port,
    }
    return [*_PROGRAM, "node", *(str(word) for option in options.items() for word in option)]


def _router_request(key: str) -> str:
    """From `answer/USER/REQUEST/NONCE`."""
    return key.split("/")[2]


def _node_request(key: str) -> str:
    """From `answer/DIGEST`."""
    return key.partition("/")[2]


def _digest(request: str) -> str:
    return hashlib.sha256(f"{USER}\0{request}".encode()).hexdigest()
