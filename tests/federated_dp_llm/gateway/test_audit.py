"""The audit trail: a chain that the runtime's own reader verifies."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from tests.federated_dp_llm.gateway.parts import answer, chat, completion, house, says, until

from federated_dp_llm.gateway.audit import AuditTrail, Line
from privacy_runtime.append_log import RunRecordDamaged, RunRecordLocked, read_log


def line(number: int, **more: str) -> Line:
    texts = {"subject": "u", "model": "m", "backend": "b", **more}
    return Line(
        request_id=f"{number:032x}", at="2026-01-01T00:00:00Z", status=200, held=9, spent=7, ms=3,
        **texts,
    )  # fmt: skip


def written(path: Path, *lines: Line) -> None:
    async def write() -> None:
        trail = AuditTrail(path)
        for one in lines:
            trail.add(one)
        await trail.aclose()

    asyncio.run(write())


def test_what_is_written_is_one_chain_over_restarts(tmp_path: Path) -> None:
    path = tmp_path / "audit"

    written(path, *(line(k) for k in range(5)))
    written(path, *(line(k) for k in range(5, 8)))

    entries = read_log(path)
    assert [entry.body["request_id"] for entry in entries] == [f"{k:032x}" for k in range(8)]
    assert entries[0].body["spent"] == 7


def test_a_name_cannot_break_a_line(tmp_path: Path) -> None:
    path = tmp_path / "audit"

    written(path, line(1, subject='a"}\n{"b\\', model="\u00e4\x00"))

    (entry,) = read_log(path)
    assert entry.body["subject"] == "a?}?{?b?"
    assert entry.body["model"] == "??"


def test_a_changed_line_is_noticed_before_anything_is_added(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    written(path, line(1), line(2))
    path.write_bytes(path.read_bytes().replace(b'"spent":7', b'"spent":1', 1))

    with pytest.raises(RunRecordDamaged):
        AuditTrail(path)


def test_a_torn_last_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    written(path, line(1))
    with path.open("ab") as file:
        file.write(b'{"body":')

    written(path, line(2))

    assert len(read_log(path)) == 2


def test_two_cannot_write_one_trail(tmp_path: Path) -> None:
    async def open_twice() -> None:
        first = AuditTrail(tmp_path / "audit")
        with pytest.raises(RunRecordLocked):
            AuditTrail(tmp_path / "audit")
        await first.aclose()

    asyncio.run(open_twice())


def test_every_request_that_was_authenticated_is_noted_and_no_prompt(tmp_path: Path) -> None:
    path = tmp_path / "audit"

    async def story() -> None:
        async with house(says(answer(completion(7)))) as (home, _):
            home.gateway.audit = AuditTrail(path)
            await home.ask(chat(messages=[{"role": "user", "content": "knee pain."}]))
            await home.ask(chat(model="unknown"))
            await home.ask(key="")

    asyncio.run(story())

    entries = read_log(path)
    assert [(entry.body["status"], entry.body["spent"]) for entry in entries] == [
        (200, 7),
        (404, 0),
    ]
    assert b"knee" not in path.read_bytes()
    assert b"unknown" not in path.read_bytes()


def test_nothing_is_answered_while_the_trail_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "audit"

    async def story() -> tuple[list[int], list[str]]:
        async with house(says(answer(completion(7)))) as (home, servers):
            trail = home.gateway.audit = AuditTrail(path)
            working, broken = trail._descriptor, os.open("/dev/full", os.O_WRONLY)
            trail._descriptor = broken
            statuses = [(await home.ask()).status]
            await until(lambda: trail.is_failing)
            before = len(servers[0].asked)
            refused = await home.ask()
            statuses.append(refused.status)
            assert len(servers[0].asked) == before
            trail._descriptor = working
            await until(lambda: not trail.is_failing)
            statuses.append((await home.ask()).status)
            os.close(broken)
            return statuses, [refused.code]

    statuses, codes = asyncio.run(story())

    assert statuses == [200, 503, 200]
    assert codes == ["audit_unavailable"]
    assert len(read_log(path)) == 3
