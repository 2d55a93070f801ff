"""The whole ledger under clients that crash, repeat themselves and speak out of turn.

Each seed is one world: a journal, a network that delays, doubles, loses and reorders messages, and
clients that train. A client writes a watermark and waits for its answer before it releases; then it
may die at any point. After every entry the invariants are checked against what was really released.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from privacy_core.budget import (
    Charge,
    Command,
    Commit,
    Currency,
    Entry,
    Expire,
    LedgerState,
    OpenAccount,
    Refund,
    Reserve,
    Signature,
    Status,
    Watermark,
    charge_of,
    decide,
    fold,
    protection,
    quota,
)
from privacy_core.budget.charges import fits
from privacy_core.dp_events import Gaussian, SelfComposed
from privacy_core.errors import BudgetError
from privacy_core.guarantee import Guarantee

BLOCKS = [protection("h", "1"), protection("h", "2")]
TEAM = quota("clinic", "research")
SIGNED = Signature("ada", "simulation")
STEPS_MOST = 8
CHUNK = 2
RUNS: list[Charge] = [charge_of(SelfComposed(Gaussian(12.0), n)) for n in range(STEPS_MOST + 1)]


@dataclass
class World:
    """One journal, one network, several clients."""

    seed: int
    state: LedgerState = field(default_factory=LedgerState)
    entries: list[Entry] = field(default_factory=list)
    mail: list[Command] = field(default_factory=list)
    acknowledged: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    now_us: int = 1_700_000_000_000_000

    def __post_init__(self) -> None:
        self.chance = np.random.default_rng(self.seed)  # noqa: TID251  # a test's own, fixed chance
        for i, scope in enumerate((*BLOCKS, *TEAM.with_ancestors)):
            command = OpenAccount(
                key=f"open{i}",
                scope=scope,
                guarantee=Guarantee(epsilon=(1.6, 2.2, 3.0, 2.5)[i], delta=1e-6),
                currency=Currency.GDP if i == 1 else Currency.RDP,
                signature=SIGNED,
            )
            self.append(decide(self.state, command, self.now_us).entry)

    def append(self, entry: Entry) -> None:
        """One more entry; no prefix of the journal is overspent."""
        self.entries.append(entry)
        self.state = self.state.after(entry)
        for account in self.state.scopes.values():
            assert fits(account.currency, account.total, account.caps)

    def maybe(self, probability: float) -> bool:
        return bool(self.chance.random() < probability)

    def send(self, command: Command) -> None:
        """Once, twice, or not at all; it arrives some time or never."""
        for _ in range(int(self.chance.choice([0, 1, 1, 1, 2, 3]))):
            self.mail.append(command)

    def deliver(self) -> None:
        """Let one message arrive, any of those on the way; its answer may be lost."""
        if not self.mail:
            return
        command = self.mail.pop(int(self.chance.integers(len(self.mail))))
        try:
            decision = decide(self.state, command, self.now_us)
        except BudgetError:
            self.refused.add(command.key)
            return
        if not decision.is_replay:
            self.append(decision.entry)
        if self.maybe(0.8):
            self.acknowledged.add(command.key)

    def sweep(self) -> None:
        """Expire what is due, as the ledger itself does."""
        for held in list(self.state.reservations.values()):
            if held.status is Status.OPEN and held.status_at(self.clock_us) is Status.EXPIRED:
                self.append(decide(self.state, Expire(reservation=held.key), self.now_us).entry)

    @property
    def clock_us(self) -> int:
        return max(self.now_us, self.state.clock_us)


@dataclass
class Client:
    """Reserves a run, releases it chunk by chunk, and ends it; repeats what is not answered."""

    world: World
    name: str
    planned: int
    blocks: tuple[Any, ...]
    released: int = 0
    marked: int = 0
    stage: str = "reserve"
    is_alive: bool = True

    def tick(self) -> None:
        """Do one thing, or repeat the last request, or die."""
        world = self.world
        if not self.is_alive:
            return
        if world.maybe(0.03):
            self.die()
            return
        command = self.request()
        if command.key in world.acknowledged:
            self.go_on()
        elif command.key in world.refused and not isinstance(command, Reserve):
            self.is_alive = False
        else:
            world.send(command)

    def die(self) -> None:
        """The process is gone; one started in its place remembers nothing and guesses."""
        self.is_alive = False
        if self.world.maybe(0.6):
            guess = RUNS[int(self.world.chance.integers(STEPS_MOST + 1))]
            commit = Commit(key=f"{self.name}/guess", reservation=self.name, actual=guess)
            refund = Refund(key=f"{self.name}/guess", reservation=self.name)
            self.world.send(commit if self.world.maybe(0.5) else refund)

    def request(self) -> Command:
        match self.stage:
            case "reserve":
                return Reserve(
                    key=self.name,
                    protection=self.blocks,
                    quota=(TEAM,),
                    charge=RUNS[self.planned],
                    ttl_s=600,
                )
            case "mark":
                return Watermark(
                    key=f"{self.name}/{self.marked}",
                    reservation=self.name,
                    consumed=RUNS[self.marked],
                )
            case "refund":
                return Refund(key=f"{self.name}/refund", reservation=self.name)
            case _:
                return Commit(
                    key=f"{self.name}/commit", reservation=self.name, actual=RUNS[self.marked]
                )

    def go_on(self) -> None:
        """The last request was granted: act on it, and choose the next."""
        if self.stage in {"refund", "commit"}:
            self.is_alive = False
            return
        if self.stage == "mark":
            # Some of what was announced is released, then perhaps the process dies.
            self.released += int(self.world.chance.integers(self.marked - self.released + 1))
            if self.world.maybe(0.05):
                self.die()
                return
            self.released = self.marked
        if self.stage == "reserve" and self.world.maybe(0.15):
            self.stage = "refund"
        elif self.marked == self.planned or (self.marked and self.world.maybe(0.2)):
            self.stage = "commit"
        else:
            self.stage = "mark"
            self.marked = min(self.planned, self.marked + CHUNK)


def check(world: World, clients: list[Client]) -> None:
    """What was really released is charged, in every account that it touched."""
    for scope, state in world.state.scopes.items():
        slots = 12 if state.currency is Currency.RDP else 1
        released = [0] * slots
        for client in clients:
            if client.released and scope in (*client.blocks, *TEAM.with_ancestors):
                amounts = RUNS[client.released].in_currency(state.currency)
                released = [a + b for a, b in zip(released, amounts, strict=False)]
        assert all(a <= b for a, b in zip(released, state.total, strict=False))


def live(seed: int) -> World:
    world = World(seed)
    clients: list[Client] = []
    for tick in range(60):
        if tick % 3 == 0:
            touched = tuple(b for b in BLOCKS if world.maybe(0.6)) or (BLOCKS[0],)
            planned = int(world.chance.integers(1, STEPS_MOST + 1))
            clients.append(Client(world, f"run{tick}", planned, touched))
        for client in clients:
            client.tick()
        for _ in range(4):
            world.deliver()
        world.now_us += int(world.chance.choice([1, 1, 1, 40, 700, -100])) * 1_000_000
        if world.maybe(0.2):
            world.sweep()
        check(world, clients)
    world.now_us = world.clock_us + 10**12
    world.sweep()
    check(world, clients)
    return world


def assert_sound(world: World) -> None:
    assert all(held.status is not Status.OPEN for held in world.state.reservations.values())
    assert len({entry.key for entry in world.entries}) == len(world.entries)
    assert fold(world.entries) == world.state
    assert not any(any(account.reserved) for account in world.state.scopes.values())
    for held in world.state.reservations.values():
        assert held.settled is None or held.settled.is_within(held.charge)
    # No acknowledged charge is lost.
    for key in world.acknowledged:
        assert key in world.state.entries


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_two_hundred_worlds(first: int) -> None:
    ends: set[Status] = set()
    refusals = 0
    for seed in range(first, first + 50):
        world = live(seed)
        assert_sound(world)
        ends |= {held.status for held in world.state.reservations.values()}
        refusals += len(world.refused)

    assert ends == {Status.COMMITTED, Status.REFUNDED, Status.EXPIRED}
    assert refusals > 50


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 21_000, 500))
def test_twenty_thousand_worlds(first: int) -> None:
    for seed in range(first, first + 500):
        assert_sound(live(seed))
