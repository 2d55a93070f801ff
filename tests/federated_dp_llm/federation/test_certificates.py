"""Renewed files are taken while connections run; what cannot be taken changes nothing."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from tests.federated_dp_llm.federation.authority import Authority

from federated_dp_llm.federation.certificates import TlsFiles, names_host
from federated_dp_llm.federation.channel import Channel, session_of
from privacy_runtime.world import SystemClock


class Later(SystemClock):
    """The machine's clock, moved."""

    moved = timedelta()

    def now(self) -> datetime:
        return super().now() + self.moved


class Place:
    """A node's files, and what is told about them."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder, "ours")
        self.folder, self.told, self.clock = folder, [], Later()
        self.told: list[str] = []
        self.certificate, self.key = folder / "tls.pem", folder / "tls.key"
        self.put(days=30)

    def put(self, *, days: float) -> None:
        certificate, key = self.authority.issue("issued", days=days)
        certificate.replace(self.certificate)
        key.replace(self.key)

    @property
    def files(self) -> TlsFiles:
        return TlsFiles(certificate=self.certificate, key=self.key, authority=self.authority.file)

    def channel(self, *, server_side: bool) -> Channel:
        return Channel(
            self.files, server_side=server_side, problem=self.told.append, clock=self.clock
        )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_renewed_certificate_is_shown_to_new_connections_and_open_ones_go_on(
    place: Place,
) -> None:
    server, client = place.channel(server_side=True), place.channel(server_side=False)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    async def serial(writer: asyncio.StreamWriter) -> int:
        session = session_of(writer.transport)
        assert session is not None
        assert session.peer is not None
        return session.peer.serial_number

    async def main() -> tuple[int, int]:
        listening = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server)
        port = listening.sockets[0].getsockname()[1]
        reader, old = await asyncio.open_connection("127.0.0.1", port, ssl=client)
        place.put(days=60)
        assert server.renew()
        assert not server.renew()
        old.write(b"still here\n")
        assert await reader.readline() == b"still here\n"
        _, new = await asyncio.open_connection("127.0.0.1", port, ssl=client)
        serials = await serial(old), await serial(new)
        for writer in (old, new):
            writer.close()
        listening.close()
        return serials

    before, after = asyncio.run(main())
    assert before != after
    assert after == x509.load_pem_x509_certificate(place.certificate.read_bytes()).serial_number
    assert place.told == []


def test_what_cannot_be_taken_leaves_the_old_one_and_is_told_once(place: Place) -> None:
    channel = place.channel(server_side=True)
    ends = channel.not_after

    place.put(days=-1)
    assert not channel.renew()
    assert not channel.renew()
    place.put(days=60)
    place.key.write_text("none")
    assert not channel.renew()
    place.certificate.unlink()
    assert not channel.renew()

    assert channel.not_after == ends
    assert len(place.told) == 3
    assert "does not count now" in place.told[0]
    place.put(days=90)
    assert channel.renew()
    assert channel.not_after != ends


def test_a_key_of_another_certificate_is_not_taken(place: Place) -> None:
    channel = place.channel(server_side=True)

    _, other = place.authority.issue("other")
    other.replace(place.key)

    assert not channel.renew()
    assert len(place.told) == 1


@pytest.mark.parametrize(("days", "word"), [(17, "ends on"), (31, "has ended")])
def test_an_end_that_is_near_is_told_once(place: Place, days: int, word: str) -> None:
    channel = place.channel(server_side=True)
    assert not channel.renew()
    assert place.told == []

    place.clock.moved = timedelta(days=days)
    assert not channel.renew()
    assert not channel.renew()

    (said,) = place.told
    assert word in said


@pytest.mark.parametrize(
    ("named", "host", "fits"),
    [
        ("node.example", "NODE.example.", True),
        ("*.clinic.example", "north.clinic.example", True),
        ("*.clinic.example", "a.north.clinic.example", False),
        ("*.clinic.example", "clinic.example", False),
        ("*.example", "node.example", False),
        ("*", "node", False),
        ("n*.clinic.example", "north.clinic.example", False),
        ("127.0.0.1", "127.0.0.1", False),
        (None, "127.0.0.1", True),
        (None, "localhost", False),
        (None, "", False),
    ],
)
def test_a_certificate_names_its_host(
    place: Place, named: str | None, host: str, fits: bool
) -> None:
    certificate, _ = place.authority.issue("named", host=named)

    found = x509.load_pem_x509_certificate(certificate.read_bytes())

    assert names_host(found, host) is fits
    assert names_host(found, host.encode()) is fits
