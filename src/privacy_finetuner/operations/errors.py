"""What operations refuse, as a tree.

OperationsError
+-- UnknownAlert           there is no such alert in this organisation
+-- AlertClosed            it was acknowledged or resolved before
+-- NotRestrained          the user is not restrained in this organisation
+-- UnknownSource          no file of this digest is set aside
+-- SourceSetAside         a file of records is set aside; nothing was started
+-- PrivateFigure          a figure was computed from records and never released; nothing was judged
+-- SimulationFailed       an attack could not be carried out in the sandbox
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


class NotRestrained(OperationsError, KeyError):
    """The user may ask as much as anybody, or is none of this organisation."""

    code: ClassVar[str] = "not_found"

    def __init__(self, subject: str) -> None:
        super().__init__(subject)
        self.subject = subject

    def __str__(self) -> str:
        return f"{self.subject} is not restrained; nothing was changed"


class UnknownSource(OperationsError, KeyError):
    """No file of this digest is set aside."""

    code: ClassVar[str] = "not_found"

    def __init__(self, sha256: str) -> None:
        super().__init__(sha256)
        self.sha256 = sha256

    def __str__(self) -> str:
        return f"no file of digest {self.sha256[:12]} is set aside; nothing was changed"


class SourceSetAside(OperationsError, ValueError):
    """A file of records may not be trained on for now. Nothing was started, nothing was spent."""

    code: ClassVar[str] = "source_set_aside"

    def __init__(self, sha256: str) -> None:
        super().__init__(sha256)
        self.sha256 = sha256

    def __str__(self) -> str:
        return (
            f"the records (digest {self.sha256[:12]}) are set aside after a security alert; "
            "nothing was started. Who answers for them releases the digest with a reason"
        )


class PrivateFigure(OperationsError, ValueError):
    """A figure comes from records and was never released: a look would cost budget."""

    code: ClassVar[str] = "private_figure"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return (
            f"{self.name!r} is computed from single records or from an unreleased batch; pass what "
            "was released (`TrainingHistory`, `on_log`) or public. Nothing was judged"
        )


class SimulationFailed(OperationsError):
    """An attack could not be carried out in its sandbox: nothing is known of its detection."""

    code: ClassVar[str] = "simulation_failed"

    def __init__(self, attack: str, reason: str) -> None:
        super().__init__(attack, reason)
        self.attack = attack
        self.reason = reason

    def __str__(self) -> str:
        return f"the attack {self.attack!r} was not carried out: {self.reason}; the sandbox is gone"


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
