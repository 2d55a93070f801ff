"""Endpoints: real sockets, real TLS."""

from __future__ import annotations

import datetime
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pipeline_guard.config import build
from pipeline_guard.errors import ConfigurationError
from pipeline_guard.model import Fault, Verdict
from pipeline_guard.probes import PROBES
from pipeline_guard.probes.endpoints import CertificateProbe, HttpProbe, TcpProbe
from privacy_runtime.secret import Secret

from .conftest import START, look  # noqa: TID252  of this folder

OK_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\nstatus: happy\n"


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is expected here."""


@contextmanager
def serving(
    answer: bytes, *, delay_s: float = 0.0, tls: ssl.SSLContext | None = None
) -> Iterator[tuple[int, list[bytes]]]:
    """A server that says `answer` to whoever connects; yields its port and what it was sent."""
    heard: list[bytes] = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            connection = self.request
            with ExitStack() as closing:
                if tls is not None:
                    connection = closing.enter_context(tls.wrap_socket(connection, True))
                if answer:
                    heard.append(connection.recv(65_536))
                    time.sleep(delay_s)
                    connection.sendall(answer)

    with _Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server.server_address[1], heard
        finally:
            server.shutdown()
            thread.join()


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_the_expected_answer_is_well_and_says_how_long_it_took() -> None:
    with serving(OK_ANSWER) as (port, heard):
        reading = look(HttpProbe(url=f"http://127.0.0.1:{port}/health?full=1", body="happy"))

    assert reading.verdict is Verdict.OK
    assert 0 < reading.measurements["latency_seconds"] < 4
    assert heard[0].startswith(b"GET /health?full=1 HTTP/1.1\r\nHost: 127.0.0.1:")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "503"),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", "302"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nsad", "body"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\nhappy", "ends early"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nhappy", "cannot be read"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 300 + b"\r\n", "too many headers"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", "cannot be read"),
    ],
)
def test_every_other_answer_is_a_dead_endpoint(answer: bytes, words: str) -> None:
    with serving(answer) as (port, _):
        reading = look(HttpProbe(url=f"http://127.0.0.1:{port}/", body="happy"))

    assert (reading.verdict, reading.fault) == (Verdict.CRITICAL, Fault.DEAD_ENDPOINT)
    assert words in reading.summary


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhap\r\n2;x=1\r\npy\r\n0\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nhappy until the end",
        b"HTTP/1.0 200 OK\r\n\r\nhappy",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhappy",
    ],
)
def test_a_body_is_read_in_each_of_its_forms(answer: bytes) -> None:
    with serving(answer) as (port, _):
        assert look(HttpProbe(url=f"http://127.0.0.1:{port}", body="happy")).verdict is Verdict.OK


def test_no_answer_in_time_is_a_dead_endpoint() -> None:
    with serving(OK_ANSWER, delay_s=1.0) as (port, _):
        reading = look(HttpProbe(url=f"http://127.0.0.1:{port}/", answer_s=0.2))

    assert "no answer within" in reading.summary
    assert reading.fault is Fault.DEAD_ENDPOINT


def test_a_late_answer_is_a_warning() -> None:
    with serving(OK_ANSWER, delay_s=0.3) as (port, _):
        reading = look(HttpProbe(url=f"http://127.0.0.1:{port}/", slow_s=0.1))

    assert (reading.verdict, reading.fault) == (Verdict.WARNING, Fault.OVERLOAD)


def test_a_closed_port_and_an_unknown_host_are_dead_endpoints() -> None:
    closed = look(HttpProbe(url=f"http://127.0.0.1:{closed_port()}/"))
    nowhere = look(HttpProbe(url="http://nowhere.invalid/"))

    assert [closed.verdict, nowhere.verdict] == [Verdict.CRITICAL] * 2
    assert "refused" in closed.summary


def test_secrets_are_sent_and_shown_nowhere(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("swordfish\n")
    with serving(OK_ANSWER) as (port, heard):
        probe = HttpProbe(
            url=f"http://127.0.0.1:{port}/",
            headers={"X-Key": Secret("opensesame")},
            bearer_file=tmp_path / "token",
        )
        reading = look(probe)

    assert b"Authorization: Bearer swordfish\r\n" in heard[0]
    assert b"X-Key: opensesame\r\n" in heard[0]
    assert not any(word in f"{reading} {probe}" for word in ("swordfish", "opensesame"))


def test_a_token_that_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    probe = HttpProbe(url="http://127.0.0.1:1/", bearer_file=tmp_path / "gone")

    assert look(probe).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    "url",
    ["", "ftp://host/", "http://", "http://a:b@host/", "http://host:99999/", "http://h/\r\nX: y"],
)
def test_what_is_no_url_is_refused_without_repeating_a_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build("http", {"url": url}, PROBES, "test")

    assert "a:b" not in str(caught.value)


def test_an_expression_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="regular expression"):
        build("http", {"url": "http://host/", "body": "("}, PROBES, "test")


def test_a_port_that_accepts_is_well_and_a_closed_one_is_not() -> None:
    with serving(b"", delay_s=0.0) as (port, _):
        open_ = look(TcpProbe(host="127.0.0.1", port=port))
    closed = look(TcpProbe(host="127.0.0.1", port=closed_port()))

    assert open_.verdict is Verdict.OK
    assert (closed.verdict, closed.fault) == (Verdict.CRITICAL, Fault.DEAD_ENDPOINT)


def certificate(folder: Path, *, begins_s: float, ends_s: float) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 for a time around START, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(START + datetime.timedelta(seconds=begins_s))
        .not_valid_after(START + datetime.timedelta(seconds=ends_s))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


DAY_S = 86_400.0


@pytest.mark.parametrize(
    ("begins_s", "ends_s", "verdict"),
    [
        (-DAY_S, 100 * DAY_S, Verdict.OK),
        (-DAY_S, 10 * DAY_S, Verdict.WARNING),
        (-DAY_S, 1 * DAY_S, Verdict.CRITICAL),
        (-DAY_S, -1, Verdict.CRITICAL),
        (DAY_S, 100 * DAY_S, Verdict.CRITICAL),
    ],
)
def test_a_certificate_is_judged_by_its_time(
    tmp_path: Path, begins_s: float, ends_s: float, verdict: Verdict
) -> None:
    path, _ = certificate(tmp_path, begins_s=begins_s, ends_s=ends_s)

    reading = look(CertificateProbe(path=path))
    assert reading.verdict is verdict
    assert reading.evidence["subject"] == "CN=localhost"


def tls_context(folder: Path) -> tuple[ssl.SSLContext, Path]:
    path, key = certificate(folder, begins_s=-3650 * DAY_S, ends_s=3650 * DAY_S)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key)
    return context, path


def test_who_asks_for_a_certificate_gets_it_and_nobody_else_is_let_in(tmp_path: Path) -> None:
    context, path = tls_context(tmp_path)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(path)
    key = next(each for each in tmp_path.iterdir() if b"PRIVATE KEY" in each.read_bytes())
    with serving(OK_ANSWER, tls=context) as (port, _):
        url = f"https://127.0.0.1:{port}/"
        shown = look(HttpProbe(url=url, is_verified=False, certificate=path, key=key))
        silent = look(HttpProbe(url=url, is_verified=False))
        lost = look(HttpProbe(url=url, certificate=tmp_path / "gone", key=key))

    assert shown.verdict is Verdict.OK, shown.summary
    assert (silent.verdict, silent.fault) == (Verdict.CRITICAL, Fault.DEAD_ENDPOINT)
    assert lost.verdict is Verdict.UNKNOWN
    with pytest.raises(ConfigurationError, match="together"):
        HttpProbe(url=url, certificate=path)


def test_the_certificate_of_a_server_is_read_whoever_signed_it(tmp_path: Path) -> None:
    context, _ = tls_context(tmp_path)
    with serving(OK_ANSWER, tls=context) as (port, _):
        reading = look(CertificateProbe(host="localhost", port=port))

    assert reading.verdict is Verdict.OK
    assert reading.measurements["left_seconds"] == pytest.approx(3650 * DAY_S)


def test_https_is_checked_by_the_authorities_that_are_named(tmp_path: Path) -> None:
    context, path = tls_context(tmp_path)
    with serving(OK_ANSWER, tls=context) as (port, _):
        url = f"https://localhost:{port}/"
        known = look(HttpProbe(url=url, authorities=path))
        stranger = look(HttpProbe(url=url))
        unchecked = look(HttpProbe(url=url, is_verified=False))
        other_name = look(HttpProbe(url=f"https://127.0.0.1:{port}/", authorities=path))

    assert [known.verdict, unchecked.verdict] == [Verdict.OK] * 2
    assert "not accepted" in stranger.summary
    assert "not accepted" in other_name.summary


def test_a_server_without_tls_and_a_file_without_certificate_are_unknown(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    with serving(OK_ANSWER) as (port, _):
        plain = look(CertificateProbe(host="127.0.0.1", port=port, answer_s=1))

    assert plain.verdict is Verdict.UNKNOWN
    assert look(CertificateProbe(path=tmp_path / "empty.pem")).verdict is Verdict.UNKNOWN
    assert look(CertificateProbe(path=tmp_path / "gone.pem")).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("parameters", [{}, {"host": "a", "path": "b"}])
def test_a_certificate_is_in_one_place(parameters: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="either host or path"):
        build("certificate", parameters, PROBES, "test")
