"""Many clients at once, who repeat what was not answered, while processes are killed.

Every request has an idempotency key. What each client was shown is written down, piece by piece, so
that it can be compared with what stands debited.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import httpx2
from tests.federated_dp_llm.e2e.deployment import Account, Deployment

from federated_dp_llm.demo.sample import HOSPITALS, cohorts
from privacy_runtime.keystream import KeyStream
from privacy_runtime.testing import SeededEntropy

TOKENS: Final = 8
KINDS: Final = ("label", "label", "label", "text", "text", "stream", "agreed", "public", "public",
                "public stream")  # fmt: skip
FINAL: Final = {
    "budget_too_small", "consensus_unavailable", "privacy_budget_exceeded", "already_begun",
}  # fmt: skip
"""Codes that mean the same if asked again; `already_begun`: before a kill, and paid."""
_ASKED_AGAIN: Final = 0.2
"""Share of the answered requests that are repeated for nothing, with the same key."""
_WAIT_MOST_S: Final = 8.0
T = TypeVar("T")


class Chance:
    """Draws that are the same for the same names."""

    def __init__(self, *names: object) -> None:
        digest = hashlib.sha256(repr(names).encode()).digest()
        self._stream = KeyStream.fresh(SeededEntropy(int.from_bytes(digest[:8], "big")))

    def share(self) -> float:
        """Between 0 and 1."""
        return float(self._stream.uniforms(1)[0])

    def of(self, those: Sequence[T]) -> T:
        """One of these."""
        return those[int(self.share() * len(those))]


@dataclass(slots=True)
class Job:
    """One request, and what its client was shown.

    Attributes:
        answers: whole answers, in the order they came; repetitions among them.
        pieces: text of streams that broke off before their answer.
        refused: the code that ended it without an answer.
        tries: how often it was sent.
    """

    number: int
    kind: str
    user: str
    body: dict[str, Any]
    answers: list[dict[str, Any]] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    refused: str | None = None
    tries: int = 0

    @property
    def key(self) -> str:
        """Its idempotency key."""
        return f"visit-{self.number:05d}"

    @property
    def request_id(self) -> str:
        """As the router derives it from user and key."""
        return "q_" + hashlib.sha256(f"{self.user}\0{self.key}".encode()).hexdigest()[:32]

    @property
    def is_private(self) -> bool:
        """Whether records are read."""
        return not self.kind.startswith("public")


def jobs(count: int, *, seed: int, users: int, departments: tuple[str, ...]) -> list[Job]:
    """Mixed requests of several users; one in eight asks what somebody asked before."""
    chance = Chance("jobs", seed)
    found = []
    for number in range(count):
        kind, user = chance.of(KINDS), chance.of(range(users))
        cohort = chance.of(cohorts())
        case = chance.of(range(8)) if chance.share() < 0.125 else 1000 + number
        body: dict[str, Any] = {
            "prompt": f"Which drug is given for {cohort.cohort}? Case {case}",
            "user_id": f"doctor-{user}",
            "department": departments[user % len(departments)],
            "cohort": cohort.cohort,
            "max_tokens": TOKENS,
            "temperature": 1.0,
            "privacy_budget": 2.0,
            "priority": chance.of(range(1, 6)),
        }
        if kind in ("label", "agreed"):
            body["labels"] = [cohort.usual_drug, cohort.drug, cohort.other_drugs[0]]
        body["require_consensus"] = kind == "agreed"
        body["stream"] = kind.endswith("stream")
        if kind.startswith("public"):
            body["context"] = "none"
        found.append(Job(number, kind, f"doctor-{user}", body))
    return found


@dataclass(slots=True)
class Storm:
    """Clients, a killer, and somebody who looks at the accounts meanwhile.

    Attributes:
        kills: who was killed, in order.
        overspent: accounts that were seen above their cap.
        codes: of refusals, and how often each came; `lost`: no answer at all.
    """

    deployment: Deployment
    jobs: list[Job]
    seed: int
    at_once: int = 1000
    kills: list[str] = field(default_factory=list)
    overspent: list[str] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)
    looks: int = 0
    _done: int = 0
    _moved: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def run(self, kills: int) -> None:
        """Ask everything, kill so many times meanwhile, end when every client has an end."""
        limits = httpx2.Limits(max_connections=256, max_keepalive_connections=64)
        async with httpx2.AsyncClient(limits=limits, timeout=60.0) as client:
            gate = asyncio.Semaphore(self.at_once)
            looking = asyncio.create_task(self._look())
            killing = asyncio.create_task(self._kill(kills))
            await asyncio.gather(*(self._ask(client, gate, job) for job in self.jobs))
            await killing
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def repeat(self, job: Job) -> None:
        """Ask once more what was answered."""
        async with httpx2.AsyncClient(timeout=60.0) as client:
            await self._settled(client, job, Chance("again", job.number))

    async def _ask(self, client: httpx2.AsyncClient, gate: asyncio.Semaphore, job: Job) -> None:
        chance = Chance("client", self.seed, job.number)
        async with gate:
            await self._settled(client, job, chance)
            if job.answers and chance.share() < _ASKED_AGAIN:
                await self._settled(client, job, chance)
        async with self._moved:
            self._done += 1
            self._moved.notify_all()

    async def _settled(self, client: httpx2.AsyncClient, job: Job, chance: Chance) -> None:
        """Send until there is an answer, or a refusal that would come again."""
        pause_s = 0.5
        while True:
            job.tries += 1
            wait_s = 0.0
            try:
                code, wait_s = await self._sent(client, job)
            except (httpx2.HTTPError, json.JSONDecodeError):
                code = "lost"
            if code is None:
                return
            self.codes[code] += 1
            if code in FINAL:
                job.refused = code
                return
            pause_s = min(_WAIT_MOST_S, 1.5 * max(pause_s, min(wait_s, _WAIT_MOST_S)))
            await asyncio.sleep(pause_s * (0.5 + chance.share()))

    async def _sent(self, client: httpx2.AsyncClient, job: Job) -> tuple[str | None, float]:
        """Send once; the code of a refusal, and how long the router asks to wait."""
        headers = {
            "Idempotency-Key": job.key,
            # Each user from an address of their own, by way of the proxy that this test is.
            "X-Forwarded-For": f"10.0.{sum(job.user.encode()) % 200}.{job.number % 200}",
        }
        request = client.stream(
            "POST", f"{self.deployment.url}/v1/inference", json=job.body, headers=headers
        )
        async with request as response:
            if "event-stream" in response.headers.get("content-type", ""):
                return await self._streamed(response, job), 0.0
            document = json.loads(await response.aread())
        if response.status_code == 200:
            job.answers.append(document)
            return None, 0.0
        return document["error"]["code"], float(response.headers.get("retry-after", 0))

    async def _streamed(self, response: httpx2.Response, job: Job) -> str | None:
        text, name = "", ""
        try:
            async for line in response.aiter_lines():
                field_, _, value = line.partition(": ")
                if field_ == "event":
                    name = value
                elif field_ == "data" and name == "piece":
                    text += json.loads(value)["text"]
                elif field_ == "data" and name == "answer":
                    job.answers.append(json.loads(value))
                    return None
                elif field_ == "data" and name == "error":
                    return str(json.loads(value)["error"]["code"])
        finally:
            if text and (not job.answers or job.answers[-1]["response"] != text):
                job.pieces.append(text)
        return "lost"

    async def _kill(self, kills: int) -> None:
        """One of the four processes, whenever so many more clients have an end."""
        chance = Chance("kills", self.seed)
        names = ["router", "router", *HOSPITALS]
        for place in range(kills):
            await self._reached((place + 1) * len(self.jobs) / (kills + 1))
            victim = chance.of(names) if kills > 2 else names[1 + place]
            await asyncio.sleep(chance.share())
            await asyncio.to_thread(self.deployment.kill, victim)
            self.deployment.start(victim)
            self.kills.append(victim)

    async def _reached(self, done: float) -> None:
        async with self._moved:
            await self._moved.wait_for(lambda: self._done >= done)

    async def _look(self) -> None:
        """Read every account again and again."""
        while True:
            for name in ("router", *HOSPITALS):
                accounts = await asyncio.to_thread(self.deployment.accounts, name)
                self.overspent += [f"{name}: {n}" for n, a in accounts.items() if _over(a)]
                self.looks += 1
            await asyncio.sleep(1.0)


def _over(account: Account) -> bool:
    return account.spent + account.reserved > account.cap
