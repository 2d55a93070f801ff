"""Mixed queries while router and nodes are killed: no cap exceeded, nothing unpaid, nothing open.

A real router (`serve`), three nodes as processes with the demo's records, real clients. The short
test is one kill of the router and one of a node; the slow ones are a thousand clients at once and
twenty kills, over SQLite and PostgreSQL. Nodes have a model that takes no time to load
(`light_node.py`), in one of the slow ones the demo's (`federated-dp-llm node`).
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.federated_dp_llm.e2e.deployment import SETTLED_S, Caps, Deployment, Reservation
from tests.federated_dp_llm.e2e.storm import TOKENS, Job, Storm, jobs
from tests.privacy_finetuner.jobs.conftest import schema_url

from federated_dp_llm.demo.sample import HOSPITALS, MODEL
from federated_dp_llm.federation.amounts import NANO
from federated_dp_llm.routing.quotas import department_account, user_account
from federated_dp_llm.routing.vocabulary import TokenizerFile

SEED = 40510
UPKEEP_S = 65.0  # the router looks for what is over every minute


@pytest.fixture(params=["sqlite", "postgresql", "sqlite, the demo's model"])
def caps_kept_in(request: pytest.FixtureRequest) -> Iterator[tuple[str | None, bool]]:
    """Where the router's accounts are (None: SQLite below its home); whether nodes are light."""
    if request.param != "postgresql":
        yield None, request.param == "sqlite"
        return
    url, drop = schema_url()
    yield url, True
    drop()


@pytest.mark.slow
def test_a_router_and_a_node_that_are_killed_leave_exact_books(tmp_path: Path) -> None:
    """The short one: on SQLite, after a jump of the clock in the place of a wait."""
    caps = Caps(user=8.0, department=20.0, patient=10.0)
    with Deployment(tmp_path, caps, is_light=True) as deployment:
        storm = Storm(deployment, jobs(30, seed=SEED, users=4, departments=DEPARTMENTS), SEED)

        asyncio.run(stormed(storm, kills=2))
    for name in ("router", *HOSPITALS):
        deployment.expire(name, after_s=SETTLED_S)

    assert storm.kills == ["router", HOSPITALS[0]]
    exact(storm)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_thousand_clients_and_twenty_kills_leave_exact_books(
    tmp_path: Path, caps_kept_in: tuple[str | None, bool]
) -> None:
    database, is_light = caps_kept_in
    caps = Caps(user=14.0, department=60.0, patient=8.0)
    with Deployment(tmp_path, caps, database, is_light=is_light) as deployment:
        asked = jobs(1000, seed=SEED, users=12, departments=DEPARTMENTS)
        storm = Storm(deployment, asked, SEED)

        asyncio.run(stormed(storm, kills=20, settle_s=SETTLED_S + UPKEEP_S))

        exact(storm)  # by the processes themselves: nobody opened their books for them
    assert len(storm.kills) == 20
    refused = [job.refused for job in asked]
    assert refused.count("privacy_budget_exceeded") > 0  # caps were reached, and held
    print(summary(storm))  # noqa: T201  the proof's figures, with -s


DEPARTMENTS = ("emergency", "surgery")


async def stormed(storm: Storm, *, kills: int, settle_s: float = 0.0) -> None:
    """The storm, then everything that was answered last is asked once more, after the kills."""
    await storm.deployment.ready()
    await storm.run(kills)
    await storm.deployment.ready()
    answered = [job for job in storm.jobs if job.answers]
    for job in answered[:: max(1, len(answered) // 25)]:
        await storm.repeat(job)
    await asyncio.sleep(settle_s)


def exact(storm: Storm) -> None:
    """Compare what clients were shown with what stands debited."""
    deployment = storm.deployment
    assert storm.looks > 0
    assert storm.overspent == []
    assert storm.codes["internal_error"] == 0  # whatever was killed, nothing was unforeseen
    books = {name: deployment.reservations(name) for name in ("router", *HOSPITALS)}
    for name, reservations in books.items():
        assert [one.key for one in reservations if one.is_open] == [], name
        sums: defaultdict[str, int] = defaultdict(int)
        for reservation in reservations:
            for account, amount in reservation.spent.items():
                sums[account] += amount
        for account, stands in deployment.accounts(name).items():
            assert stands.reserved == 0, account
            assert stands.spent == sums[account] <= stands.cap, account
    paid_at = {
        name: {one.key: one for one in found} for name, found in books.items() if name != "router"
    }
    words = TokenizerFile(MODEL / "tokenizer.json")
    released = {
        (question(job), answer["response"])
        for job in storm.jobs
        for answer in job.answers
        if not answer["cached"]
    }
    for job in storm.jobs:
        assert job.answers or job.refused, job.number
        assert len({answer["response"] for answer in job.answers}) <= 1, job.number
        assert len({answer["request_id"] for answer in job.answers}) <= 1, job.number
        told_again = {text for asked, text in released if asked == question(job)}
        if job.is_private and not only_cached(job, told_again):
            paid(job, books["router"], paid_at, words)


def question(job: Job) -> tuple[object, ...]:
    """What decides whether two requests are the same question of the same tenant."""
    return tuple(str(job.body.get(name)) for name in ("department", "prompt", "labels"))


def only_cached(job: Job, released: set[str]) -> bool:
    """Whether all that a client was shown is another client's paid answer to the same question.

    A cached answer says so in itself; a stream that broke off before has pieces alone.
    """
    if not (job.answers or job.pieces):
        return False
    whole = all(answer["cached"] and answer["response"] in released for answer in job.answers)
    return whole and all(any(text.startswith(p) for text in released) for p in job.pieces)


def paid(
    job: Job,
    router: list[Reservation],
    nodes: dict[str, dict[str, Reservation]],
    words: TokenizerFile,
) -> None:
    """What a client was shown was debited from user, department and every node that had a part.

    An attempt that failed midway is paid as far as it came; the next one under the same key is made
    by nodes that had no part in it, or refused. The accounts pay for the dearest of them, once:
    each attempt adds what those before it have not paid.
    """
    mine = [one for one in router if one.key.startswith(f"answer/{job.user}/{job.request_id}/")]
    fresh = [answer for answer in job.answers if not answer["cached"]]
    shown = [answer["completion_tokens"] for answer in fresh if not job.body.get("labels")]
    shown += [words.count(text) - 1 for text in job.pieces]  # without the token that begins a text
    if not (fresh or job.pieces):
        return
    least = max([round(answer["rho"] * NANO) for answer in fresh], default=0)
    for account in (user_account(job.user), department_account(job.body["department"])):
        assert all(one.spent[account] <= one.held[account] for one in mine), job.number
        most = max(one.held[account] for one in mine)
        spent = sum(one.spent[account] for one in mine)
        assert 0 < spent >= least, job.number
        for count in shown:
            assert spent >= math.floor(most * count / TOKENS), job.number
    name = hashlib.sha256(f"{job.user}\0{job.request_id}".encode()).hexdigest()
    parts = {
        at: found[f"answer/{name}"] for at, found in nodes.items() if f"answer/{name}" in found
    }
    for answer in fresh:
        asked = [parts[node] for node in answer["node_id"].split("+") if node in parts]
        assert asked, job.number
        for part in asked:
            assert all(least <= spent <= part.held[at] for at, spent in part.spent.items())
    if job.pieces:
        assert any(any(part.spent.values()) for part in parts.values()), job.number


def summary(storm: Storm) -> dict[str, object]:
    """What the storm was like."""
    ends = [job.refused or "answered" for job in storm.jobs if not job.answers or not job.refused]
    return {
        "kills": {name: storm.kills.count(name) for name in dict.fromkeys(storm.kills)},
        "ends": {end: ends.count(end) for end in sorted(set(ends))},
        "refusals": dict(storm.codes),
        "sent": sum(job.tries for job in storm.jobs),
        "answers": sum(len(job.answers) for job in storm.jobs),
        "broken streams": sum(len(job.pieces) for job in storm.jobs),
        "cached": sum(answer["cached"] for job in storm.jobs for answer in job.answers),
        "looks at the accounts": storm.looks,
    }
