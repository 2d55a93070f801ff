"""Mail goes over TLS to a server whose certificate fits, and Slack gets one sentence."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from privacy_core.errors import InvalidParameter
from privacy_runtime.notify import AddressRefused, BudgetStanding, MailServer, Notifier
from privacy_runtime.notify.notices import EVENTS
from privacy_runtime.notify.sinks.email import Email, require_mailbox
from privacy_runtime.notify.sinks.outcome import Outcome, Parcel
from privacy_runtime.notify.sinks.slack import sentence
from privacy_runtime.secret import Secret

from .conftest import Receiver, deliver_all  # noqa: TID252  fixtures of this folder
from .test_addresses import certificate  # noqa: TID252


class Postbox:
    """An SMTP server that takes one kind of mail, with STARTTLS."""

    def __init__(self, pem: Path, refuses: bytes = b"") -> None:
        self.mail: list[str] = []
        self.said: list[bytes] = []
        self.port = 0
        self._refuses = refuses
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pem)
        self._ready, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        self._ready.wait(30)

    def close(self) -> None:
        self._over.set()
        self._thread.join(5)

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await asyncio.to_thread(self._over.wait, 60)
        server.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._converse(reader, writer)
        finally:
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        while line := await reader.readline():
            word = line[:4].upper()
            self.said.append(line)
            if self._refuses and word == self._refuses:
                writer.write(b"550 no\r\n")
            elif word == b"STAR":
                writer.write(b"220 go\r\n")
                await writer.drain()
                try:
                    await writer.start_tls(self._context)
                except (ssl.SSLError, ConnectionError):
                    return
            elif word == b"EHLO":
                writer.write(b"250-here\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n")
            elif word == b"AUTH":
                writer.write(b"235 fine\r\n")
            elif word == b"DATA":
                writer.write(b"354 go\r\n")
                text = await reader.readuntil(b"\r\n.\r\n")
                self.mail.append(text.decode())
                writer.write(b"250 taken\r\n")
            elif word == b"QUIT":
                writer.write(b"221 bye\r\n")
                await writer.drain()
                break
            else:
                writer.write(b"250 fine\r\n")
            await writer.drain()


def parcel(event: str = "job_failed") -> Parcel:
    data = {"job_id": "job_1", "code": "out_of_memory", "attempts": 3}
    return Parcel(
        message="msg_1",
        event=event,
        body=b"{}",
        content={"data": data},
        address=Secret("officer@example.org"),
        secrets=(),
        now=datetime(2026, 1, 1, tzinfo=UTC),
    )


def server_of(box: Postbox, trust: ssl.SSLContext | None, **more: object) -> MailServer:
    return MailServer(
        host="localhost",
        port=box.port,
        sender="pf@example.org",
        trust=trust,
        limit_s=30,
        **more,  # type: ignore[arg-type]
    )


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Postbox]:
    pem, _ = certificate(tmp_path, "localhost")
    found = Postbox(pem)
    yield found
    found.close()


def test_mail_arrives_over_tls_with_an_id_that_stays(tmp_path: Path, box: Postbox) -> None:
    trust = ssl.create_default_context(cafile=str(tmp_path / "localhost.pem"))
    sink = Email(server_of(box, trust, user="pf", password=Secret("p4ss-word")))

    assert sink.send(parcel()) == Outcome(is_delivered=True, status=250)
    assert sink.send(parcel()).is_delivered
    first, second = box.mail
    assert "Message-ID: <msg_1@example.org>" in first
    assert "Message-ID: <msg_1@example.org>" in second
    assert "To: officer@example.org" in first
    assert "out_of_memory" in first
    spoken = b"".join(box.said)
    assert spoken.index(b"STARTTLS") < spoken.lower().index(b"auth plain")


def test_without_a_fitting_certificate_nothing_is_said(tmp_path: Path) -> None:
    pem, trust = certificate(tmp_path, "elsewhere.example")
    box = Postbox(pem)
    found = Email(server_of(box, trust)).send(parcel())
    box.close()

    assert found.reason == "tls"
    assert box.mail == []


@pytest.mark.parametrize(("word", "reason"), [(b"RCPT", "recipient_refused"), (b"MAIL", "refused")])
def test_a_server_that_refuses_is_tried_again(tmp_path: Path, word: bytes, reason: str) -> None:
    pem, trust = certificate(tmp_path, "localhost")
    box = Postbox(pem, refuses=word)
    found = Email(server_of(box, trust)).send(parcel())
    box.close()

    assert (found.is_delivered, found.reason, found.status) == (False, reason, 550)


def test_a_server_that_is_away_is_tried_again() -> None:
    server = MailServer(host="localhost", port=1, sender="pf@example.org", limit_s=1)

    assert Email(server).send(parcel()).reason == "connection"
    assert Email(None).send(parcel()).reason == "no_mail_server"


def test_mail_without_tls_stays_on_this_machine() -> None:
    with pytest.raises(InvalidParameter, match="starttls or tls"):
        MailServer(host="mail.example", port=25, sender="pf@example.org", security="none")
    with pytest.raises(InvalidParameter, match="e-mail"):
        MailServer(host="localhost", port=25, sender="x\r\nBcc: y@example.org")


@pytest.mark.parametrize(
    "address",
    ["", "x", "a@b@c", "a@b, c@d", "a@b\r\nBcc: c@d", "<a@b>", "a b@c", "a..b@c", "@c"],
)
def test_what_is_not_one_mailbox_is_refused(address: str) -> None:
    with pytest.raises(AddressRefused):
        require_mailbox(Secret(address))


@pytest.mark.parametrize("event", [*EVENTS, "test"])
def test_every_event_has_a_sentence(event: str) -> None:
    full = {
        "privacy_spent": {"epsilon": 1.0, "delta": 1e-5},
        "share_spent": 0.91,
        "epsilon_spent": 1.82,
        "epsilon_granted": 2.0,
    }

    assert sentence(event, full).endswith(".")
    assert sentence(event, {}).endswith(".")


def test_slack_gets_one_sentence_with_its_signs_escaped(
    notifier: Notifier, receiver: Receiver
) -> None:
    notifier.add(tenant="o_1", url=receiver.url, events=["privacy_budget_warning"], kind="slack")
    standing = BudgetStanding(
        tenant="o_1", account="<!channel> & co", epsilon_spent=1.9, epsilon_granted=2.0
    )
    notifier.watch_budgets([standing], threshold=0.9)
    deliver_all(notifier)

    ((headers, body),) = receiver.taken
    assert b"&lt;!channel&gt; &amp; co: 95% is spent" in body
    assert "webhook-signature" not in headers
