"""Anything else: a command, or a job that is run again over HTTP."""

from __future__ import annotations

import http.client
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import SplitResult, urlsplit

from pipeline_guard.config.values import POSITIVE
from pipeline_guard.model import Applied, Case
from pipeline_guard.remedies.actions import command_setting, locked, needs, refusal, run, setting

_ANSWER_BYTES: Final = 2_000


@dataclass(frozen=True, kw_only=True)
class Command:
    """Run a command; exit code 0 means that it did what it should.

    It is told about the case in its environment: `GUARD_CASE`, `GUARD_COMPONENT`, `GUARD_FAULT`,
    `GUARD_CHECK`, `GUARD_ATTEMPT`. No reading, no figure and no evidence is handed over.

    Args:
        command: the program and its arguments; no shell. Setting `recovery_command`.
        folder: its working folder.
        undo: how to take it back; kept as evidence, never run by this remedy.
    """

    command: tuple[str, ...] = ()
    folder: Path | None = None
    undo: tuple[str, ...] = ()

    def objection(self, case: Case) -> str | None:
        """Refuse without a command."""
        found = command_setting(case, self.command, "recovery_command")
        return None if found else needs("recovery_command")

    def intent(self, case: Case) -> str:
        """Which program."""
        found = command_setting(case, self.command, "recovery_command")
        return f"run {Path(found[0]).name if found else 'nothing'}"

    def apply(self, case: Case, within_s: float) -> Applied:
        """Run it."""
        command = command_setting(case, self.command, "recovery_command")
        if not command:
            raise refusal(needs("recovery_command"))
        told = {
            "GUARD_CASE": case.id, "GUARD_COMPONENT": str(case.component),
            "GUARD_FAULT": str(case.fault), "GUARD_CHECK": case.check,
            "GUARD_ATTEMPT": str(case.attempt),
        }  # fmt: skip
        with locked(f"command:{case.component}:{command}"):
            done = run(command, within_s, folder=self.folder, environment=told)
        if done.code != 0:
            state = "what it had done by then stands"
            raise refusal(
                f"{command[0]} ended with code {done.code}", state, output=done.text[:400]
            )
        evidence = {"command": list(command), "undo": list(self.undo), "output": done.text[:400]}
        return Applied(summary=f"{Path(command[0]).name} ended well", evidence=evidence)


@dataclass(frozen=True, kw_only=True)
class RerunJob:
    """Send a job again by an HTTP POST.

    The same case and attempt send the same key: a server that honours `Idempotency-Key` runs the
    job once, however often it is sent.

    Args:
        url: takes the job. Setting `job_url`.
        body: a file with it, as JSON. Setting `job_body`.
        bearer_file: holds a token, sent as `Authorization: Bearer ...`.
        answer_s: the server must answer within this time.
    """

    url: str = ""
    body: Path | None = None
    bearer_file: Path | None = None
    answer_s: Annotated[float, POSITIVE] = 10.0

    def objection(self, case: Case) -> str | None:
        """Refuse what is no URL, and a job that is not there."""
        url = str(setting(case, self.url, "job_url") or "")
        if not url:
            return needs("job_url")
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            return "job_url is no http or https URL without a password"
        body = setting(case, self.body, "job_body")
        return None if body is None or Path(body).is_file() else f"{Path(body).name} is not there"

    def intent(self, case: Case) -> str:
        """Where to."""
        return f"send the job to {setting(case, self.url, 'job_url')} again"

    def apply(self, case: Case, within_s: float) -> Applied:
        """Send it."""
        wrong = self.objection(case)
        if wrong is not None:
            raise refusal(wrong)
        parts = urlsplit(str(setting(case, self.url, "job_url")))
        key = f"{case.id}-{case.attempt}"
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        connection = kind(parts.hostname or "", parts.port, timeout=min(self.answer_s, within_s))
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        with locked(f"job:{parts.netloc}{target}"):
            try:
                connection.request("POST", target, self._bytes(case), self._headers(key))
                answer = connection.getresponse()
                text = answer.read(_ANSWER_BYTES).decode(errors="replace")
            except (OSError, http.client.HTTPException) as error:
                state = f"it may have arrived; it carries the key {key}"
                raise refusal(f"the job cannot be sent: {type(error).__name__}", state) from error
            finally:
                connection.close()
        if not 200 <= answer.status < 300:
            raise refusal(f"the server answered {answer.status}", output=text[:400])
        evidence = {"status": answer.status, "key": key, "location": answer.getheader("Location")}
        return Applied(summary=f"the job was taken ({answer.status})", evidence=evidence)

    def _bytes(self, case: Case) -> bytes:
        body = setting(case, self.body, "job_body")
        return b"{}" if body is None else Path(body).read_bytes()

    def _headers(self, key: str) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        if self.bearer_file is not None:
            headers["Authorization"] = f"Bearer {self.bearer_file.read_text().strip()}"
        return headers


def _connection(parts: SplitResult, within_s: float) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    if parts.scheme == "https":
        return http.client.HTTPSConnection(host, parts.port, timeout=within_s)
    return http.client.HTTPConnection(host, parts.port, timeout=within_s)
