"""What can go wrong with sealed files.

SealedError
+-- SealBroken        bytes are not those that were sealed; nothing of them was handed out as whole
+-- NotSealed         it is no sealed file, or of a version unknown here
+-- RolledBack        an older state stands where a newer one was sealed
+-- ReplicationFailed too few places hold a copy that was read back
+-- BlobMissing       a place holds no such blob
"""

from __future__ import annotations

from typing import ClassVar

from privacy_core.errors import PrivacyError


class SealedError(PrivacyError):
    """Base of what sealing and opening refuse."""

    code: ClassVar[str] = "sealed_error"


class SealBroken(SealedError):
    """Bytes are not those that were sealed: changed, cut, reordered, or of another file."""

    code: ClassVar[str] = "seal_broken"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}; it was not used"


class NotSealed(SealedError):
    """It is no sealed file, or of a version unknown here."""

    code: ClassVar[str] = "not_sealed"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.name} cannot be opened: {self.reason}; it was not used"


class RolledBack(SealedError):
    """An older state stands where a newer one was sealed, or a sealed one is gone."""

    code: ClassVar[str] = "rolled_back"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}; nothing was restored"


class ReplicationFailed(SealedError):
    """Too few places hold a copy that was read back and is equal.

    Attributes:
        held: places that do.
        wanted: how many should.
    """

    code: ClassVar[str] = "replication_failed"

    def __init__(self, name: str, *, held: int, wanted: int, reasons: tuple[str, ...]) -> None:
        super().__init__(name, held, wanted, reasons)
        self.name = name
        self.held = held
        self.wanted = wanted
        self.reasons = reasons

    def __str__(self) -> str:
        said = "; ".join(self.reasons)
        return f"{self.name} is held by {self.held} places, {self.wanted} were asked for: {said}"


class BlobMissing(SealedError):
    """A place holds no such blob."""

    code: ClassVar[str] = "blob_missing"

    def __init__(self, place: str, name: str) -> None:
        super().__init__(place, name)
        self.place = place
        self.name = name

    def __str__(self) -> str:
        return f"{self.place} holds no {self.name}"
