"""What the service refuses before it does anything.

PrivacyError
+-- UnknownDataset       no data set of that name may be used here
+-- UnknownModel         no model of that name may be used here
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
