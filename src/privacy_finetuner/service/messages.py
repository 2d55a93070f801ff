"""How this deployment sends messages: from the configuration to the options of the outbox."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Literal, cast

from privacy_finetuner.environment import EnvironmentConfig
from privacy_finetuner.environment.deployment import Mail
from privacy_runtime.notify import MailServer, NotifyOptions, Posting
from privacy_runtime.secret import Secret


def notify_options(config: EnvironmentConfig) -> NotifyOptions:
    """The options of `Notifier.open` that the section `notify` says."""
    notify = config.notify
    operator = [("email", Secret(mailbox)) for mailbox in notify.mail_to]
    if notify.slack_url is not None:
        operator.append(("slack", notify.slack_url))
    return NotifyOptions(
        posting=Posting(
            limit_s=notify.limit_s,
            allowed=tuple(map(ip_network, notify.allowed_networks)),
            allow_http=notify.allow_http,
        ),
        mail=_server(notify.mail),
        operator=tuple(operator),
        operator_events=notify.events,
        threads=notify.threads,
        pool_size=config.database.pool_size,
        max_overflow=config.database.max_overflow,
    )


def _server(mail: Mail) -> MailServer | None:
    if mail.host is None or mail.sender is None:
        return None
    return MailServer(
        host=mail.host,
        port=mail.port,
        sender=mail.sender,
        security=cast("Literal['starttls', 'tls', 'none']", mail.security),
        user=mail.user,
        password=mail.password,
    )
