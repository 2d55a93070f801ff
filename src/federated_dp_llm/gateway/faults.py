"""What can go wrong between the gateway and a backend, as a tree.

FederatedError
+-- BackendFault           a backend gave no whole answer
    +-- ConnectFailed      no connection; nothing was sent
    +-- ConnectTimeout     no connection in time; nothing was sent
    +-- PoolExhausted      every connection is in use and none came free; nothing was sent
    +-- HeaderTimeout      the request was sent, no header of an answer came
    +-- FirstByteTimeout   a header came, and no byte of a body
    +-- IdleTimeout        a body began, and stopped
    +-- TotalTimeout       all of it took too long
    +-- ConnectionLost     it hung up before the answer was whole
    +-- MalformedAnswer    what it sent is not the protocol
    +-- AnswerTooLarge     it sent more than is read here

Two facts decide what follows. `is_sent`: the backend may have worked for the request, so its price
is not given back. `is_begun`: a byte of its answer is here, so nobody else is asked.
"""

from __future__ import annotations

from typing import ClassVar

from federated_dp_llm.errors import FederatedError


class BackendFault(FederatedError):
    """A backend gave no whole answer.

    Attributes:
        backend: its name.
        is_sent: whether the backend may have the request.
        is_begun: whether an answer had begun.
        detail: what was found; never content.
    """

    code: ClassVar[str] = "backend_fault"
    what: ClassVar[str] = "gave no whole answer"
    status: ClassVar[int] = 502

    def __init__(
        self, backend: str, *, is_sent: bool = True, is_begun: bool = False, detail: str = ""
    ) -> None:
        super().__init__(backend, is_sent, is_begun, detail)
        self.backend = backend
        self.is_sent = is_sent
        self.is_begun = is_begun
        self.detail = detail

    def __str__(self) -> str:
        state = "the request was sent" if self.is_sent else "nothing was sent"
        return f"backend {self.backend!r} {self.what}{self.detail and f' ({self.detail})'}; {state}"


class ConnectFailed(BackendFault):
    """No connection could be made. Nothing was sent."""

    code: ClassVar[str] = "backend_connect_failed"
    what: ClassVar[str] = "cannot be reached"


class ConnectTimeout(BackendFault):
    """No connection was made in time. Nothing was sent."""

    code: ClassVar[str] = "backend_connect_timeout"
    what: ClassVar[str] = "did not take a connection in time"
    status: ClassVar[int] = 504


class PoolExhausted(BackendFault):
    """No connection came free in time. Nothing was sent."""

    code: ClassVar[str] = "backend_pool_exhausted"
    what: ClassVar[str] = "had no free connection in time"
    status: ClassVar[int] = 503


class HeaderTimeout(BackendFault):
    """The request was sent, and no header of an answer came in time."""

    code: ClassVar[str] = "backend_header_timeout"
    what: ClassVar[str] = "sent no header in time"
    status: ClassVar[int] = 504


class FirstByteTimeout(BackendFault):
    """The header came, and no byte of a body in time."""

    code: ClassVar[str] = "backend_first_byte_timeout"
    what: ClassVar[str] = "sent a header and no body in time"
    status: ClassVar[int] = 504


class IdleTimeout(BackendFault):
    """The body began and stopped."""

    code: ClassVar[str] = "backend_idle_timeout"
    what: ClassVar[str] = "stopped in the middle of an answer"
    status: ClassVar[int] = 504


class TotalTimeout(BackendFault):
    """The whole answer took too long."""

    code: ClassVar[str] = "backend_total_timeout"
    what: ClassVar[str] = "did not end its answer in time"
    status: ClassVar[int] = 504


class ConnectionLost(BackendFault):
    """The backend hung up before the answer was whole."""

    code: ClassVar[str] = "backend_connection_lost"
    what: ClassVar[str] = "hung up before its answer was whole"


class MalformedAnswer(BackendFault):
    """The backend's answer is not the protocol."""

    code: ClassVar[str] = "backend_malformed_answer"
    what: ClassVar[str] = "sent something that is no answer"


class AnswerTooLarge(BackendFault):
    """The backend's answer, or one event of it, is larger than is read here."""

    code: ClassVar[str] = "backend_answer_too_large"
    what: ClassVar[str] = "sent more than is read here"
