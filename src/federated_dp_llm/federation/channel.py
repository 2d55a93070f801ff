"""TLS 1.3 with a hybrid post-quantum key exchange: between router and nodes, and to clients.

Python's own `ssl` speaks with the system's OpenSSL and cannot say which group was negotiated. Here
records pass through pyOpenSSL and the OpenSSL that `cryptography` brings (4.0), which offers and
prefers X25519MLKEM768: what is recorded today stays closed to a quantum computer of tomorrow as
long as either X25519 or ML-KEM-768 holds. Where the other end has no such group, X25519 is agreed,
and seen: `Channel.groups`, `Session.group`. With `require_pq` such a connection is ended before a
word, or this end's certificate, has left.

A `Channel` is an `ssl.SSLContext` to asyncio, uvloop, uvicorn and httpx, because these ask for that
type; what is set on it otherwise has no effect.

Source: RFC 8446; FIPS 203; draft-ietf-tls-ecdhe-mlkem (X25519MLKEM768).
"""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final, Literal, NoReturn, Self, overload

from cryptography import x509
from OpenSSL import SSL

from federated_dp_llm.federation.certificates import Renewable, TlsFiles, names_host
from privacy_runtime.world import Clock

HYBRID: Final = "X25519MLKEM768"
CLASSICAL: Final = "X25519"
_OTHER: Final = "other"


class NoHybridGroup(ssl.SSLError):
    """The other end has no post-quantum group, and this end wants one. Nothing was sent."""


class Channel(ssl.SSLContext):
    """How one end of the federation speaks: certificates, TLS 1.3, and which groups it saw.

    Guarantees: TLS 1.3 or nothing; the other end's chain is verified, and towards a server its
    name; with `require_pq` no connection without `HYBRID` carries a byte of either program.

    Args:
        files: own certificate and whom to trust; a server without a certificate cannot be.
        server_side: which end this is.
        asks_certificate: whether a server asks every caller for a certificate, and hears no other.
        require_pq: see above.
        problem: told when renewed files are not taken, and when the certificate is about to end.
        clock: None: the machine's.

    Raises:
        InvalidParameter: the files cannot be used.
    """

    groups: Counter[str]
    refused: int

    def __new__(cls, files: TlsFiles, *, server_side: bool, **_: Any) -> Self:
        """Make the shell that asyncio asks for."""
        del files
        return super().__new__(
            cls, ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT
        )

    def __init__(
        self,
        files: TlsFiles,
        *,
        server_side: bool,
        asks_certificate: bool = True,
        require_pq: bool = False,
        problem: Callable[[str], None] = lambda _: None,
        clock: Clock | None = None,
    ) -> None:
        self.is_server, self.require_pq = server_side, require_pq
        self._asks_certificate = asks_certificate
        self.groups, self.refused = Counter(), 0
        self._protocols: list[bytes] = []
        self._renewable = Renewable(files, self._settings, problem=problem, clock=clock)

    @property
    def not_after(self) -> datetime | None:
        """When the own certificate ends; None: there is none."""
        return self._renewable.not_after

    def renew(self) -> bool:
        """Take renewed files, if there are any; open connections stay as they are."""
        return self._renewable.renew()

    def tell(self, problem: Callable[[str], None]) -> None:
        """Say who is told of files that cannot be taken."""
        self._renewable.problem = problem

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        """Offer these protocols, best first."""
        self._protocols = [one.encode("ascii") for one in alpn_protocols]

    def wrap_bio(  # type: ignore[override]  # a `Session` is what an `SSLObject` is, without the class
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: Any = None,
    ) -> Session:
        """Begin a connection over two buffers."""
        del session  # none is resumed: a ticket would carry an older handshake's secrets
        if server_side != self.is_server:
            raise ssl.SSLError("this channel is the other end's")
        return Session(self, self._renewable.context, incoming, outgoing, server_hostname)

    def wrap_socket(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: only event loops speak through a channel."""
        raise ssl.SSLError("a channel has no blocking sockets")

    def prepare(self, connection: SSL.Connection) -> None:
        """Set what belongs to one connection."""
        if self._protocols and not self.is_server:
            connection.set_alpn_protos(self._protocols)

    def require(self, group: str) -> None:
        """Check an agreed group.

        Raises:
            NoHybridGroup: it is not the one that is required.
        """
        if self.require_pq and group != HYBRID:
            self.refused += 1
            raise NoHybridGroup(
                ssl.SSL_ERROR_SSL, f"the other end agreed on {group}, {HYBRID} is required"
            )

    def saw(self, group: str) -> None:
        """Count a finished handshake."""
        self.groups[group if group in (HYBRID, CLASSICAL) else _OTHER] += 1

    def _settings(self) -> SSL.Context:
        context = SSL.Context(SSL.TLS_SERVER_METHOD if self.is_server else SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        verify = SSL.VERIFY_PEER
        if self.is_server:
            asked = verify | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
            verify = asked if self._asks_certificate else SSL.VERIFY_NONE
            context.set_alpn_select_callback(_http1)
        context.set_verify(verify)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_options(SSL.OP_NO_TICKET)
        return context


class Session:
    """One connection: what asyncio and anyio expect of an `ssl.SSLObject`."""

    def __init__(
        self,
        channel: Channel,
        context: SSL.Context,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        host: str | bytes | None,
    ) -> None:
        self.context, self.server_side, self.server_hostname = channel, channel.is_server, host
        self.group: str | None = None
        self._in, self._out = incoming, outgoing
        self._unopened = False
        self._connection = SSL.Connection(context, None)
        channel.prepare(self._connection)
        if channel.is_server:
            self._connection.set_accept_state()
            return
        self._connection.set_connect_state()
        name = host.encode("idna") if isinstance(host, str) else host
        if name and not _is_address(name):
            self._connection.set_tlsext_host_name(name)

    @property
    def session(self) -> None:
        """None: sessions are not resumed."""
        return

    def do_handshake(self) -> None:
        """Shake hands, then look at the other end's name and at the group.

        Raises:
            NoHybridGroup: see `Channel`; the rest of the handshake is not sent.
            ssl.SSLError: the handshake failed.
        """
        self._fed()
        try:
            self._connection.do_handshake()
        except SSL.Error as error:
            self._require_group()  # it is known before a certificate is sent, by either end
            self._drained()
            raise self._translated(error) from error
        self._require_host()
        self.group = self._require_group() or _OTHER
        self.context.saw(self.group)
        self._drained()

    @overload
    def read(self, len: int = 1024, buffer: None = None) -> bytes: ...
    @overload
    def read(self, len: int, buffer: Any) -> int: ...
    def read(self, len: int = 1024, buffer: Any = None) -> bytes | int:
        """Read what has arrived: bytes, or how many went into `buffer`; nothing at the end."""
        self._fed()
        try:
            if buffer is None:
                return self._connection.recv(len)
            return self._connection.recv_into(buffer, len or None)
        except SSL.ZeroReturnError:
            return b"" if buffer is None else 0
        except SSL.Error as error:
            raise self._translated(error) from error
        finally:
            self._drained()

    def write(self, data: Any) -> int:
        """Write; returns how much was taken."""
        self._fed()
        try:
            return self._connection.send(bytes(data)) if len(data) else 0
        except SSL.Error as error:
            raise self._translated(error) from error
        finally:
            self._drained()

    def unwrap(self) -> None:
        """Say goodbye, and wait for the other end's."""
        self._fed()
        try:
            done = self._connection.shutdown()
            if not done and not self._connection.get_shutdown() & SSL.RECEIVED_SHUTDOWN:
                self._received_goodbye()
        except SSL.ZeroReturnError:
            return
        except SSL.Error as error:
            raise self._translated(error) from error
        finally:
            self._drained()

    def pending(self) -> int:
        """How much can be read; at least 1 where records have arrived and were not opened yet.

        uvloop reads no further where this is 0 and nothing waits in its own buffer.
        """
        return self._connection.pending() or int(self._unopened)

    @overload
    def getpeercert(self, binary_form: Literal[False] = False) -> dict[str, Any]: ...
    @overload
    def getpeercert(self, binary_form: Literal[True]) -> bytes: ...
    def getpeercert(self, binary_form: bool = False) -> dict[str, Any] | bytes:
        """The other end's certificate in DER, or its end; empty before the handshake."""
        peer = self.peer
        if peer is None:
            return b"" if binary_form else {}
        if binary_form:
            from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415

            return peer.public_bytes(Encoding.DER)
        return {"notAfter": peer.not_valid_after_utc.strftime("%b %d %H:%M:%S %Y GMT")}

    @property
    def peer(self) -> x509.Certificate | None:
        """The other end's certificate."""
        return self._connection.get_peer_certificate(as_cryptography=True)

    def selected_alpn_protocol(self) -> str | None:
        """The agreed protocol."""
        return self._connection.get_alpn_proto_negotiated().decode("ascii") or None

    def version(self) -> str:
        """`TLSv1.3`."""
        return self._connection.get_protocol_version_name()

    def cipher(self) -> tuple[str, str, int] | None:
        """Name, version and secret bits."""
        name, bits = self._connection.get_cipher_name(), self._connection.get_cipher_bits()
        return None if name is None or bits is None else (name, self.version(), bits)

    def compression(self) -> None:
        """None: TLS 1.3 has none."""
        return

    def shared_ciphers(self) -> None:
        """Not known here."""
        return

    def get_channel_binding(self, cb_type: str = "tls-unique") -> None:
        """None: TLS 1.3 has no such binding."""
        del cb_type

    def _require_group(self) -> str | None:
        """The agreed group, None as long as there is none; what is to be sent stays here if not."""
        name = self._connection.get_group_name()
        group = CLASSICAL if name is not None and name.lower() == "x25519" else name
        if group is not None:
            self.context.require(group)
        return group

    def _require_host(self) -> None:
        if self.server_side:
            return
        peer = self.peer
        if peer is None or not names_host(peer, self.server_hostname or ""):
            raise ssl.SSLCertVerificationError(
                ssl.SSL_ERROR_SSL, "the certificate is another host's"
            )

    def _received_goodbye(self) -> None:
        """Read until the other end says goodbye; what it still says is nobody's."""
        while self._connection.recv(16_384):
            pass

    def _fed(self) -> None:
        """Hand over what has arrived."""
        data = self._in.read()
        if data:
            self._connection.bio_write(data)
            self._unopened = True
        elif self._in.eof:
            self._connection.bio_shutdown()

    def _drained(self) -> None:
        """Hand out what is to be sent."""
        while True:
            try:
                self._out.write(self._connection.bio_read(65_536))
            except SSL.Error:
                return

    def _translated(self, error: SSL.Error) -> ssl.SSLError:
        """In the words of `ssl`, which event loops know."""
        if isinstance(error, SSL.WantReadError):
            self._unopened = False
            return ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "more has to arrive")
        if isinstance(error, SSL.WantWriteError):
            return ssl.SSLWantWriteError(ssl.SSL_ERROR_WANT_WRITE, "something has to leave")
        reasons = _reasons(error)
        if isinstance(error, SSL.SysCallError) or "unexpected eof" in reasons:
            return ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "the connection was cut")
        if "certificate verify failed" in reasons:
            return ssl.SSLCertVerificationError(ssl.SSL_ERROR_SSL, reasons)
        return ssl.SSLError(ssl.SSL_ERROR_SSL, reasons or "the other end cannot be understood")


def session_of(stream: Any) -> Session | None:
    """The connection below a stream or transport, if it goes through a channel."""
    look = getattr(stream, "get_extra_info", None)
    found = None if look is None else look("ssl_object")
    return found if isinstance(found, Session) else None


def _reasons(error: SSL.Error) -> str:
    parts = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return ", ".join(str(part[-1]) for part in parts)


def _http1(_: SSL.Connection, offered: list[bytes]) -> Any:
    return b"http/1.1" if b"http/1.1" in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def _is_address(name: bytes) -> bool:
    from ipaddress import ip_address  # noqa: PLC0415

    try:
        ip_address(name.decode("ascii").strip("[]"))
    except ValueError:
        return False
    return True
