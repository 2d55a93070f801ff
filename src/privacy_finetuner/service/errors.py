"""What the service refuses before it does anything.

PrivacyError
+-- UnknownDataset       no data set of that name may be used here
|   +-- UnknownUpload    none of that name was sent
+-- UnknownModel         no model of that name may be used here
+-- UploadRefused        a data set that was sent is not taken: its name, its size, its form
|   +-- UploadTooLarge   it is larger than may be sent
+-- UploadConflict       another data set of that name is there, or a job uses it
+-- ServiceMisplaced     the home or the database cannot be used as configured; nothing was opened
+-- PlainHttpRefused     in production, a password would cross the network unencrypted
"""

from __future__ import annotations

from typing import ClassVar

from privacy_core.errors import PrivacyError


class UnknownDataset(PrivacyError):
    """No data set of that name may be used here. Nothing was started.

    One answer for a file that is not there, one outside the allowed folders, one reached through a
    link that leaves them, and one of another organisation: a stranger learns nothing of the disk.
    """

    code: ClassVar[str] = "unknown_dataset"

    def __init__(self) -> None:
        super().__init__()

    def __str__(self) -> str:
        return (
            "there is no such data set for this service; expected `sample:records` or a file below "
            "an allowed folder, as GET /api/v1/datasets lists them; nothing was started"
        )


class UnknownUpload(UnknownDataset):
    """This organisation has sent no data set of that name."""

    code: ClassVar[str] = "not_found"

    def __str__(self) -> str:
        return "no data set of that name was sent; nothing was changed"


class UnknownModel(PrivacyError):
    """No model of that name may be used here. Nothing was started."""

    code: ClassVar[str] = "unknown_model"

    def __init__(self) -> None:
        super().__init__()

    def __str__(self) -> str:
        return (
            "there is no such model for this service; expected `sample:model`, a folder below an "
            "allowed one, or a hub name that the operator allowed, as GET /api/v1/models lists "
            "them; nothing was started"
        )


class UploadRefused(PrivacyError, ValueError):
    """A data set that was sent is not taken. Nothing of it was kept."""

    code: ClassVar[str] = "upload_refused"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.reason}; nothing was kept"


class UploadTooLarge(UploadRefused):
    """It is larger than may be sent, or than there is room for."""

    code: ClassVar[str] = "upload_too_large"


class UploadConflict(PrivacyError):
    """The data set stays as it is."""

    code: ClassVar[str] = "conflict"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.reason}; nothing was changed"


class ServiceMisplaced(PrivacyError):
    """The home or the database cannot be used as configured. Nothing was opened."""

    code: ClassVar[str] = "service_misplaced"


class PlainHttpRefused(PrivacyError):
    """Passwords would cross the network in the clear. The service was not started."""

    code: ClassVar[str] = "plain_http_refused"

    def __init__(self, host: str) -> None:
        super().__init__(host)
        self.host = host

    def __str__(self) -> str:
        return (
            f"in production, {self.host} would take passwords over plain HTTP; expected a loopback "
            "address, a certificate (--tls-certificate, --tls-key), or --behind-tls-proxy where a "
            "proxy in front speaks HTTPS; nothing was started"
        )
