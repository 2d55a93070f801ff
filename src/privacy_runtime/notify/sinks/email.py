"""An e-mail over SMTP with TLS. One recipient a message; nothing of a record is ever in it."""

from __future__ import annotations

import re
import smtplib
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Final, Literal

from privacy_core.errors import InvalidParameter
from privacy_runtime.notify import notices
from privacy_runtime.notify.errors import AddressRefused
from privacy_runtime.notify.sinks.outcome import Outcome, Parcel
from privacy_runtime.notify.sinks.slack import sentence
from privacy_runtime.secret import Secret

_MAILBOX: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,253}")
_SUBJECTS: Final = {
    notices.TRAINING_COMPLETE: "Training job succeeded",
    notices.JOB_FAILED: "Training job failed",
    notices.PRIVACY_BUDGET_WARNING: "Privacy budget nearly spent",
    notices.SECURITY_ALERT: "Security alert",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MailServer:
    """Who takes our mail.

    Args:
        host: its name.
        port: its port.
        sender: in whose name.
        security: `starttls` (usually port 587) or `tls` (465); `none` for a server on this machine.
        user: to log in with; none: no login.
        password: of the user.
        limit_s: for each step of the conversation.
        trust: what certificates are checked against; None: the system's.

    Raises:
        InvalidParameter: the sender is no address, or `none` for a server elsewhere.
    """

    host: str
    port: int
    sender: str
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: str | None = None
    password: Secret | None = None
    limit_s: float = 15.0
    trust: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        if not _MAILBOX.fullmatch(self.sender):
            found = f"{len(self.sender)} characters"
            raise InvalidParameter("sender", found=found, expected="an e-mail address")
        if self.security == "none" and self.host not in ("localhost", "127.0.0.1", "::1"):
            raise InvalidParameter(
                "security", found="none", expected="starttls or tls for a server elsewhere"
            )


class Email:
    """Sends mail.

    Args:
        server: who takes it; None: none is configured, and mail waits until one is.
    """

    def __init__(self, server: MailServer | None) -> None:
        self._server = server

    def send(self, parcel: Parcel) -> Outcome:
        """See `Sink`."""
        if self._server is None:
            return Outcome(reason="no_mail_server")
        message = self._written(parcel, self._server)
        try:
            with self._connected(self._server) as connection:
                connection.send_message(message)
        except smtplib.SMTPResponseException as error:
            return Outcome(status=error.smtp_code, reason="refused")
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _ in error.recipients.values()]
            return Outcome(status=max(codes, default=None), reason="recipient_refused")
        except ssl.SSLError:
            return Outcome(reason="tls")
        except TimeoutError:
            return Outcome(reason="timeout")
        except (smtplib.SMTPException, OSError):
            return Outcome(reason="connection")
        return Outcome(is_delivered=True, status=250)

    def _connected(self, server: MailServer) -> smtplib.SMTP:
        trust = server.trust or ssl.create_default_context()
        if server.security == "tls":
            connection: smtplib.SMTP = smtplib.SMTP_SSL(
                server.host, server.port, timeout=server.limit_s, context=trust
            )
        else:
            connection = smtplib.SMTP(server.host, server.port, timeout=server.limit_s)
        try:
            if server.security == "starttls":
                connection.starttls(context=trust)
            if server.user is not None and server.password is not None:
                connection.login(server.user, server.password.reveal())
        except BaseException:
            connection.close()
            raise
        return connection

    def _written(self, parcel: Parcel, server: MailServer) -> EmailMessage:
        message = EmailMessage()
        message["From"] = server.sender
        message["To"] = parcel.address.reveal()
        message["Subject"] = f"[Privacy Finetuner] {_SUBJECTS.get(parcel.event, 'Test')}"
        message["Date"] = format_datetime(parcel.now)
        # the same at every attempt: mail programs show a message that came twice once
        message["Message-ID"] = f"<{parcel.message}@{server.sender.rpartition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(sentence(parcel.event, parcel.content.get("data", {})) + "\n")
        return message


def require_mailbox(address: Secret) -> str:
    """What lists show of a recipient: the address itself.

    Raises:
        AddressRefused: it is not one plain e-mail address.
    """
    text = address.reveal()
    if not _MAILBOX.fullmatch(text) or ".." in text:
        raise AddressRefused("it is not one e-mail address")
    return text
