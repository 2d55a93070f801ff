"""Messages to the outside: signed webhooks and other sinks behind one durable outbox.

::

    notifier = Notifier.open(home / "notify.db", seal=seal)
    notifier.start()
    notifier.announce(training_complete(tenant=..., job_id=..., epsilon=1.0, delta=1e-5, steps=96))

A receiver checks what arrives with `verify(headers, body, secret)`.
"""

from privacy_runtime.notify.endpoints import KINDS, Delivery, Endpoint, IssuedEndpoint
from privacy_runtime.notify.errors import (
    AddressRefused,
    EndpointLimit,
    NotifyError,
    NotifyUnavailable,
    SignatureRefused,
    UnknownEndpoint,
)
from privacy_runtime.notify.notices import (
    EVENTS,
    BudgetStanding,
    Notice,
    compliance_due,
    job_failed,
    security_alert,
    training_complete,
)
from privacy_runtime.notify.notifier import Notifier, NotifyOptions
from privacy_runtime.notify.outbox import Standing
from privacy_runtime.notify.signatures import verify
from privacy_runtime.notify.sinks.email import MailServer
from privacy_runtime.notify.sinks.http import Posting

__all__ = [
    "EVENTS",
    "KINDS",
    "AddressRefused",
    "BudgetStanding",
    "Delivery",
    "Endpoint",
    "EndpointLimit",
    "IssuedEndpoint",
    "MailServer",
    "Notice",
    "Notifier",
    "NotifyError",
    "NotifyOptions",
    "NotifyUnavailable",
    "Posting",
    "SignatureRefused",
    "Standing",
    "UnknownEndpoint",
    "compliance_due",
    "job_failed",
    "security_alert",
    "training_complete",
    "verify",
]
