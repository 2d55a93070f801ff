"""Alerts to people: a Slack channel and mailboxes are told that there is one, not what is in it.

An alert is in the audit trail before anybody is told. What cannot be handed over is logged and
stops nothing: somebody who floods the router with alerts must not stop its answers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from federated_dp_llm.config import RouterConfig
from privacy_core.errors import PrivacyError
from privacy_runtime import logs
from privacy_runtime.notify import MailServer, Notifier, NotifyOptions, security_alert
from privacy_runtime.notify.endpoints import Seals
from privacy_runtime.notify.notices import SECURITY_ALERT
from privacy_runtime.notify.sinks.http import Posting
from privacy_runtime.secret import Secret
from privacy_runtime.world import Clock, Entropy

TENANT: Final = "router"
_log = logs.logger(__name__)


class Alerts:
    """Announces alerts, durably, to whom the configuration names.

    Args:
        notifier: its outbox; this owns it.
        entropy: names alerts.
    """

    def __init__(self, notifier: Notifier, *, entropy: Entropy) -> None:
        self.notifier, self._entropy = notifier, entropy

    def announce(self, kind: str, severity: str) -> None:
        """Say that there is an alert."""
        notice = security_alert(
            tenant=TENANT,
            alert_id=self._entropy.token_bytes(8).hex(),
            threat_type=kind,
            severity=severity.lower(),
        )
        try:
            self.notifier.announce(notice)
        except PrivacyError as error:
            _log.error("an alert was not announced", kind=kind, code=error.code)

    def close(self) -> None:
        """Deliver no more in this process; what waits goes out after the next start."""
        self.notifier.close()


def open_alerts(
    config: RouterConfig,
    where: Path | str,
    *,
    seal: Seals,
    clock: Clock,
    entropy: Entropy,
    posting: Posting | None = None,
) -> Alerts | None:
    """The outbox of a router, delivering; None: the configuration names nobody.

    Args:
        config: section `notices`.
        where: a SQLite file, or the database.
        seal: encrypts addresses.
        clock: dates messages.
        entropy: names them.
        posting: how messages are posted; None: to public addresses, with TLS.
    """
    notices = config.notices
    operator = [("email", Secret(mailbox)) for mailbox in notices.mail_to]
    if notices.slack_url is not None:
        operator.append(("slack", notices.slack_url))
    if not operator:
        return None
    mail = None
    if notices.mail_host is not None:
        mail = MailServer(host=notices.mail_host, port=notices.mail_port, sender=notices.mail_from)
    options = NotifyOptions(
        posting=posting or Posting(),
        mail=mail,
        operator=tuple(operator),
        operator_events=(SECURITY_ALERT,),
    )
    notifier = Notifier.open(where, seal=seal, clock=clock, entropy=entropy, options=options)
    notifier.start()
    return Alerts(notifier, entropy=entropy)
