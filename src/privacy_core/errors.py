"""What can go wrong in the mathematics, as a tree.

PrivacyError
+-- InvalidParameter      a caller's number is outside its domain
+-- UnsupportedEvent      an accountant cannot price this act; nothing was changed
+-- CalibrationFailed     no parameter in the bracket meets the target
+-- MalformedEvent        stored or received data is not an event this version knows

Every error carries the numbers that caused it, never the data.
"""

from __future__ import annotations

from typing import ClassVar


class PrivacyError(Exception):
    """Base of every error this platform raises on purpose."""

    code: ClassVar[str] = "privacy_error"


class InvalidParameter(PrivacyError, ValueError):
    """A caller's number is outside its domain. Nothing was computed.

    It is a `ValueError` too, so that callers who know only Python catch it.
    """

    code: ClassVar[str] = "invalid_parameter"

    def __init__(self, parameter: str, *, found: object, expected: str) -> None:
        super().__init__(parameter, found, expected)
        self.parameter = parameter
        self.found = found
        self.expected = expected

    def __str__(self) -> str:
        return f"{self.parameter} is {self.found!r}, expected {self.expected}"


class UnsupportedEvent(PrivacyError):
    """An accountant has no sound price for this event. Nothing was composed."""

    code: ClassVar[str] = "unsupported_event"

    def __init__(self, *, accountant: str, event: str, reason: str) -> None:
        super().__init__(accountant, event, reason)
        self.accountant = accountant
        self.event = event
        self.reason = reason

    def __str__(self) -> str:
        return f"accountant {self.accountant!r} cannot price {self.event}: {self.reason}"


class CalibrationFailed(PrivacyError):
    """No parameter in the searched bracket meets the target."""

    code: ClassVar[str] = "calibration_failed"

    def __init__(self, parameter: str, *, lowest: float, highest: float, target: str) -> None:
        super().__init__(parameter, lowest, highest, target)
        self.parameter = parameter
        self.lowest = lowest
        self.highest = highest
        self.target = target

    def __str__(self) -> str:
        return (
            f"no {self.parameter} between {self.lowest:g} and {self.highest:g} "
            f"meets {self.target}; nothing was chosen"
        )


class MalformedEvent(PrivacyError, ValueError):
    """Stored or received data does not describe an event that this version knows."""

    code: ClassVar[str] = "malformed_event"
