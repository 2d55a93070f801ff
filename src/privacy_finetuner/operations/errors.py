"""What operations refuse, as a tree.

OperationsError
+-- UnknownAlert           there is no such alert in this organisation
+-- AlertClosed            it was acknowledged or resolved before
+-- PoolRefused            the pool of workers cannot be changed like this
+-- GenerationRefused      the model does not answer this question: a number, a prompt too long
+-- GenerationFailed       the model's process did not answer; says which limit it met
    +-- GenerationBusy     as many models are being asked as may be

No message holds a prompt or an answer.
"""

from __future__ import annotations

from typing import ClassVar

from privacy_core.errors import PrivacyError


class OperationsError(PrivacyError):
    """Operations refused. Nothing was changed."""

    code: ClassVar[str] = "operations_error"


class UnknownAlert(OperationsError, KeyError):
    """There is no such alert in this organisation."""

    code: ClassVar[str] = "not_found"

    def __str__(self) -> str:
        return "there is no such alert"


class AlertClosed(OperationsError):
    """Somebody dealt with the alert, or what it was about is over."""

    code: ClassVar[str] = "conflict"

    def __init__(self, alert: str, *, status: str) -> None:
        super().__init__(alert, status)
        self.alert = alert
        self.status = status

    def __str__(self) -> str:
        return f"{self.alert} is {self.status} already; nothing was changed"


class PoolRefused(OperationsError):
    """The pool of workers stays as it is."""

    code: ClassVar[str] = "scaling_refused"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.reason}; the workers stay as they are"


class GenerationRefused(OperationsError, ValueError):
    """A model does not answer this question. Nothing was spent: asking a finished model is free."""

    code: ClassVar[str] = "generation_refused"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.reason}; nothing was spent"


class GenerationFailed(OperationsError):
    """A model's process did not answer: time or memory ran out. Nothing was spent."""

    code: ClassVar[str] = "generation_failed"
    retry_after_s: ClassVar[int] = 10

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.reason}; nothing was spent"


class GenerationBusy(GenerationFailed):
    """As many questions wait as may wait."""

    code: ClassVar[str] = "generation_busy"
    retry_after_s: ClassVar[int] = 5
