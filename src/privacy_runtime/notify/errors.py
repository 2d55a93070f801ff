"""What can go wrong with messages, as a tree.

PrivacyError
+-- NotifyError             base
    +-- UnknownEndpoint     no endpoint, or delivery, of this organisation has the id
    +-- EndpointLimit       the organisation has as many as it may have
    +-- AddressRefused      the address is none that messages are sent to; nothing was sent
    +-- SignatureRefused    a received message is not from whom it says, or too old
    +-- NotifyUnavailable   the outbox's database could not do it; nothing was announced
"""

from __future__ import annotations

from typing import ClassVar

from privacy_core.errors import PrivacyError


class NotifyError(PrivacyError):
    """Base of this room's refusals."""

    code: ClassVar[str] = "notify_error"


class UnknownEndpoint(NotifyError):
    """There is none of that id, or it is another organisation's. Nothing was changed."""

    code: ClassVar[str] = "unknown_endpoint"

    def __init__(self, what: str = "endpoint") -> None:
        super().__init__(what)
        self.what = what

    def __str__(self) -> str:
        return f"there is no such {self.what}; nothing was changed"


class EndpointLimit(NotifyError):
    """The organisation has as many endpoints as it may have. None was added."""

    code: ClassVar[str] = "endpoint_limit"

    def __init__(self, *, most: int) -> None:
        super().__init__(most)
        self.most = most

    def __str__(self) -> str:
        return f"an organisation has at most {self.most} endpoints; none was added"


class AddressRefused(NotifyError):
    """An address that messages are not sent to. Nothing was sent.

    Args:
        reason: in words, without the address.
    """

    code: ClassVar[str] = "address_refused"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the address is refused: {self.reason}; nothing was sent"


class SignatureRefused(NotifyError):
    """A received message is not what its sender signed. Do not act on it."""

    code: ClassVar[str] = "signature_refused"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the message is refused: {self.reason}"


class NotifyUnavailable(NotifyError):
    """The database of the outbox could not do it. What was asked for did not happen."""

    code: ClassVar[str] = "notify_unavailable"

    def __init__(self, store: str, *, reason: str) -> None:
        super().__init__(store, reason)
        self.store = store
        self.reason = reason

    def __str__(self) -> str:
        return f"the outbox {self.store} cannot do it now ({self.reason}); nothing was changed"
