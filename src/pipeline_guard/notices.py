"""Alerts to people: Slack, signed webhooks, e-mail, Alertmanager, through an outbox that survives.

What is to be told is on the disk before anybody is told, and stays there until the receiver has
said that it has it, or twelve attempts over a day have failed. The same news is never queued twice,
so a restart repeats nothing; a crash between sending and writing down can send one message again.

Alerts with the same root are one message: the first one waits `group_wait`, so that what the root
drags down is in it. What stands is told again after `repeat`. Nothing here is on the guard's loop.
"""

from __future__ import annotations

import json
import queue
import smtplib
import sqlite3
import ssl
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Final

from pipeline_guard.config import Destination, NotifySettings
from pipeline_guard.config.settings import Mail
from pipeline_guard.errors import MonitoringError
from pipeline_guard.model import Alert
from privacy_runtime.secret import Secret
from privacy_runtime.world import Clock, SystemClock

_MOST_ATTEMPTS: Final = 12
_FIRST_PAUSE_S: Final = 5.0
_LONGEST_PAUSE_S: Final = 4 * 3_600.0
_ROUND_S: Final = 1.0
_MAIL_S: Final = 15.0
_STANDS: Final = 2.5
"""Alertmanager believes an alert for so many times `repeat`: one message may be lost."""
_KEPT_S: Final = 30 * 86_400.0
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL, destination TEXT NOT NULL, kind TEXT NOT NULL,
    root TEXT NOT NULL, body TEXT NOT NULL, due_s REAL NOT NULL, attempts INTEGER NOT NULL,
    state TEXT NOT NULL, made_s REAL NOT NULL, UNIQUE (key, destination)
)
"""

Send = Callable[[Destination, dict[str, Any], str], bool]
"""Sends a message with an id to a destination; whether the receiver has it."""


@dataclass(frozen=True, slots=True)
class _News:
    kind: str
    alert: Alert
    text: str
    only: tuple[str, ...]


class Notices:
    """Tells the destinations of a configuration.

    Args:
        settings: who they are.
        outbox: the file of what is not delivered yet.
        clock: says what is due.
        send: how messages are sent; only tests replace it.

    Raises:
        MonitoringError: the outbox cannot be opened.
    """

    def __init__(
        self,
        settings: NotifySettings,
        outbox: Path,
        *,
        clock: Clock | None = None,
        send: Send | None = None,
    ) -> None:
        self._settings = settings
        self._clock: Clock = clock or SystemClock()
        self._send = send or _Sender(settings, self._clock).send
        self._path = outbox
        self._news: queue.SimpleQueue[_News | None] = queue.SimpleQueue()
        try:
            with closing(self._open()) as connection:
                connection.execute(_SCHEMA)
        except sqlite3.Error as error:
            raise MonitoringError(
                f"the outbox {outbox} cannot be opened: {error}; nobody would be told",
                {"parameter": "notify.outbox", "value": str(outbox)},
            ) from error
        self._thread = threading.Thread(target=self._work, name="guard-notices", daemon=True)
        self._thread.start()

    def tell(self, kind: str, alert: Alert, text: str = "", *, only: Sequence[str] = ()) -> None:
        """Take in news; returns at once.

        Args:
            kind: `opened`, `resolved`, `escalated` or `suggested`.
            alert: what it is about.
            text: what is new; none: the alert's message.
            only: destinations; none: all that want this kind.
        """
        self._news.put(_News(kind, alert, text or alert.message, tuple(only)))

    def standing(self) -> dict[str, int]:
        """How many messages are `waiting`, `delivered` and `dead`."""
        with closing(self._open()) as connection:
            rows = dict(connection.execute("SELECT state, count(*) FROM outbox GROUP BY state"))
        return {state: rows.get(state, 0) for state in ("waiting", "delivered", "dead")}

    def close(self) -> None:
        """Write down what was told, and end; what waits is delivered after the next start."""
        self._news.put(None)
        self._thread.join(_ROUND_S * 5)

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=10, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def _work(self) -> None:
        with closing(self._open()) as connection:
            while True:
                try:
                    news = self._news.get(timeout=_ROUND_S)
                    if news is None:
                        return
                    self._queue(connection, news)
                except queue.Empty:
                    self._deliver(connection)
                except sqlite3.Error:  # a full disk: tried again with the next news and each round
                    continue

    def _queue(self, connection: sqlite3.Connection, news: _News) -> None:
        now_s = self._clock.now().timestamp()
        alert = news.alert
        root = alert.root or alert.id
        wait_s = self._settings.group_wait_s if news.kind == "opened" else 0.0
        body = json.dumps(_document(news), default=str)
        for name, destination in self._settings.destinations.items():
            wanted = name in news.only if news.only else not destination.events
            if not (wanted or news.kind in destination.events):
                continue
            key = f"{alert.id}:{news.kind}:{alert.severity.value}"
            connection.execute(
                "INSERT OR IGNORE INTO outbox (key, destination, kind, root, body, due_s, attempts,"
                " state, made_s) VALUES (?, ?, ?, ?, ?, ?, 0, 'waiting', ?)",
                (key, name, news.kind, root, body, now_s + wait_s, now_s),
            )

    def _deliver(self, connection: sqlite3.Connection) -> None:
        now_s = self._clock.now().timestamp()
        self._repeat(connection, now_s)
        due = connection.execute(
            "SELECT DISTINCT destination, root FROM outbox WHERE state = 'waiting' AND due_s <= ?",
            (now_s,),
        ).fetchall()
        for name, root in due:
            rows = connection.execute(
                "SELECT id, body, attempts FROM outbox "
                "WHERE state = 'waiting' AND destination = ? AND root = ? ORDER BY id",
                (name, root),
            ).fetchall()
            destination = self._settings.destinations.get(name)
            if destination is None:
                self._mark(connection, rows, "dead", now_s)
                continue
            message = {"root": root, "alerts": [json.loads(body) for _, body, _ in rows]}
            try:
                is_there = self._send(destination, message, f"msg_{rows[0][0]}_{len(rows)}")
            except (
                ValueError
            ):  # a secret or an address that is none: the others are told all the same
                is_there = False
            self._mark(connection, rows, "delivered" if is_there else "waiting", now_s)
        connection.execute("DELETE FROM outbox WHERE made_s < ?", (now_s - _KEPT_S,))

    def _mark(
        self, connection: sqlite3.Connection, rows: Sequence[Any], state: str, now_s: float
    ) -> None:
        for row, _, attempts in rows:
            pause_s = min(_FIRST_PAUSE_S * 3.0**attempts, _LONGEST_PAUSE_S)
            is_dead = state == "waiting" and attempts + 1 >= _MOST_ATTEMPTS
            connection.execute(
                "UPDATE outbox SET state = ?, attempts = attempts + 1, due_s = ? WHERE id = ?",
                ("dead" if is_dead else state, now_s + pause_s, row),
            )

    def _repeat(self, connection: sqlite3.Connection, now_s: float) -> None:
        """Tell again what was told, stands, and was told long ago."""
        connection.execute(
            "UPDATE outbox SET state = 'waiting', attempts = 0, made_s = ?, due_s = ? "
            "WHERE state = 'delivered' AND kind = 'opened' AND made_s <= ? AND NOT EXISTS ("
            "SELECT 1 FROM outbox AS other WHERE other.kind = 'resolved' "
            "AND substr(other.key, 1, instr(other.key, ':')) "
            "= substr(outbox.key, 1, instr(outbox.key, ':')))",
            (now_s, now_s, now_s - self._settings.repeat_s),
        )


def _document(news: _News) -> dict[str, Any]:
    alert = news.alert
    return {
        "event": news.kind,
        "id": alert.id,
        "component": alert.component.value,
        "severity": alert.severity.value,
        "fault": alert.fault.value,
        "check": alert.check,
        "message": news.text,
        "since": alert.since.isoformat() if alert.since else None,
        "root": alert.root,
        "runbook": alert.runbook,
        "is_flapping": alert.is_flapping,
        "resolved": alert.resolved,
        "resolution_action": alert.resolution_action,
    }


def lines_of(message: dict[str, Any]) -> list[str]:
    """A message for people: the root first, one line each."""
    alerts = sorted(message["alerts"], key=lambda each: each["id"] != message["root"])
    lines = []
    for each in alerts:
        said = f"{each['event'].upper()} {each['severity']}: {each['fault']} of {each['component']}"
        lines.append(f"{said}: {each['message']} ({each['id']})")
        if each["runbook"]:
            lines.append(f"runbook: {each['runbook']}")
    return lines


class _Sender:
    """Sends through the ways out of `privacy_runtime.notify`, which is loaded when first needed."""

    def __init__(self, settings: NotifySettings, clock: Clock) -> None:
        self._settings, self._clock = settings, clock

    def send(self, destination: Destination, message: dict[str, Any], name: str) -> bool:
        """Send once; whether the receiver has it."""
        if destination.kind == "email":
            return self._mail(destination, message, name)
        if destination.kind == "slack":
            return self._post(destination, slack_body(message), {})
        if destination.kind == "alertmanager":
            now, stands_s = self._clock.now(), _STANDS * self._settings.repeat_s
            return self._post(destination, alertmanager_body(message, now, stands_s), {})
        return self._signed(destination, message, name)

    def _signed(self, destination: Destination, message: dict[str, Any], name: str) -> bool:
        from privacy_runtime.notify.signatures import sign  # noqa: PLC0415 -- where it is configured

        body = json.dumps({"type": "pipeline_guard", "data": message}).encode()
        seconds = int(self._clock.now().timestamp())
        secrets = (destination.secret or Secret(""),)
        return self._post(
            destination, body, dict(sign(name, seconds=seconds, body=body, secrets=secrets))
        )

    def _post(self, destination: Destination, body: bytes, headers: dict[str, str]) -> bool:
        from ipaddress import ip_network  # noqa: PLC0415 -- as above

        from privacy_runtime.notify import Posting  # noqa: PLC0415 -- as above

        allowed = [ip_network(each) for each in self._settings.allow_networks]
        posting = Posting(allowed=allowed, allow_http=self._settings.allow_http)
        heads = {"content-type": "application/json", **headers}
        at = self._clock.now().timestamp()
        return posting.post(destination.url.reveal(), body, heads, at).is_delivered

    def _mail(self, destination: Destination, message: dict[str, Any], name: str) -> bool:
        server = self._settings.mail
        if server is None:
            return False
        lines = lines_of(message)
        mail = EmailMessage()
        mail["From"], mail["To"] = server.sender, destination.url.reveal()
        mail["Subject"] = f"[pipeline-guard] {lines[0][:120]}"
        mail["Message-ID"] = f"<{name}@{server.sender.rpartition('@')[2]}>"
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content("\n".join(lines) + "\n")
        context = ssl.create_default_context()
        try:
            with self._mail_server(server, context) as connection:
                if server.security == "starttls":
                    connection.starttls(context=context)
                if server.user is not None and server.password is not None:
                    connection.login(server.user, server.password.reveal())
                connection.send_message(mail)
        except (smtplib.SMTPException, OSError):
            return False
        return True

    def _mail_server(self, server: Mail, context: ssl.SSLContext) -> smtplib.SMTP:
        if server.security == "tls":
            return smtplib.SMTP_SSL(server.host, server.port, timeout=_MAIL_S, context=context)
        return smtplib.SMTP(server.host, server.port, timeout=_MAIL_S)


def slack_body(message: dict[str, Any]) -> bytes:
    """A message as a Slack webhook takes it, in the documented form."""
    escape = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
    attachments = [
        {
            "color": "danger" if each["severity"] in ("critical", "failed") else "warning",
            "fields": [
                {"title": "Component", "value": each["component"], "short": True},
                {"title": "Message", "value": each["message"].translate(escape), "short": False},
            ],
        }
        for each in message["alerts"]
    ]
    text = f"Pipeline Alert: {lines_of(message)[0].translate(escape)}"
    return json.dumps({"text": text, "attachments": attachments}).encode()


def alertmanager_body(message: dict[str, Any], now: datetime, stands_s: float) -> bytes:
    """A message as Alertmanager's `POST /api/v2/alerts` takes it.

    Alertmanager calls an alert over that it does not hear of again, after five minutes unless told
    when: what stands is said to end after the next time that it is told, what is over ends now. Its
    labels are its name there, so a severity that changed is another alert, and the one before ends.

    Args:
        message: to be told.
        now: when.
        stands_s: how long it stands without being told again.

    Source: https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml, postableAlert.
    """
    newest = {each["id"]: each for each in message["alerts"]}
    alerts = []
    for each in newest.values():
        annotations = {"summary": each["message"]}
        if each["runbook"]:
            annotations["runbook_url"] = each["runbook"]
        is_critical = each["severity"] in ("critical", "failed")
        for severity in ("critical", "warning"):
            stands = (severity == "critical") == is_critical and each["event"] != "resolved"
            ends = now + timedelta(seconds=stands_s) if stands else now
            labels = {
                "alertname": f"PipelineGuard_{each['fault']}",
                "component": each["component"],
                "check": each["check"],
                "incident": each["id"],
                "severity": severity,
            }
            times = {"startsAt": each["since"] or now.isoformat(), "endsAt": ends.isoformat()}
            alerts.append({"labels": labels, "annotations": annotations, **times})
    return json.dumps(alerts).encode()
