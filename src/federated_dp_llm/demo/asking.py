"""Questions that a router is asked over HTTP, and what accounts say that their answers cost."""

from __future__ import annotations

import http.client
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from federated_dp_llm.demo.sample import cohorts

USER: Final = "rehearsal"
NANO: Final = 1e-9
DEADLINE_S: Final = 15.0
ANSWER_S: Final = 5.0
_PAUSE_S: Final = 0.5
"""Between two questions: as many as a machine can answer would spend the accounts first."""
_FAILED: Final = (http.client.HTTPException, OSError, ValueError, KeyError)


@dataclass(frozen=True, slots=True)
class Row:
    """A reservation: of which request, what was held, and what it ended with."""

    request: str
    held: int
    spent: int | None
    is_open: bool
    is_expired: bool


@dataclass(frozen=True, slots=True)
class Books:
    """An account and its reservations, read from the file of a store that others write.

    Args:
        path: of the store.
        account: whose.
        request_of: the request that a reservation's key is about.
    """

    path: Path
    account: str
    request_of: Callable[[str], str]

    def charged(self) -> tuple[int, int]:
        """What is spent, and what is held, in nano-rho."""
        with closing(self._opened()) as file:
            row = file.execute(
                "SELECT spent, reserved FROM allowance_accounts WHERE name = ?", (self.account,)
            ).fetchone()
        return (0, 0) if row is None else (int(row[0]), int(row[1]))

    def rows(self) -> Iterator[Row]:
        """Every reservation that holds something of the account."""
        with closing(self._opened()) as file:
            found = file.execute(
                "SELECT key, held, spent, ended_us, expired FROM allowance_reservations"
            ).fetchall()
        for key, held, spent, ended, expired in found:
            amounts, settled = json.loads(held), json.loads(spent or "{}")
            if self.account in amounts:
                most = int(amounts[self.account])
                yield Row(
                    request=self.request_of(key),
                    held=most,
                    spent=None if ended is None else int(settled.get(self.account, most)),
                    is_open=ended is None,
                    is_expired=bool(expired),
                )

    def difference(self, told: Mapping[str, int]) -> int:
        """What the account says was spent, less what the answers that were told cost.

        Of an answer that nobody got, what the store settled it for counts: all that was held, where
        nobody was left to settle it.
        """
        expected, seen = 0, set()
        for row in self.rows():
            seen.add(row.request)
            is_exact = row.request in told and not row.is_expired
            expected += (
                told[row.request] if is_exact else row.held if row.spent is None else row.spent
            )
        expected += sum(nano for request, nano in told.items() if request not in seen)
        return sum(self.charged()) - expected

    def _opened(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=ANSWER_S)


@dataclass(slots=True)
class Asker:
    """Asks a router questions, one after another, and keeps what each answer cost.

    Attributes:
        port: of the router.
        more: fields of the question.
        told: nano-rho by request, of every answer that arrived.
    """

    port: int
    more: Mapping[str, Any] = field(default_factory=dict)
    told: dict[str, int] = field(default_factory=dict)
    _asking: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def ask(self) -> bool:
        """Ask once; whether it was answered."""
        body = {
            "prompt": f"Which drug is given for {cohorts()[0].cohort}?",
            "user_id": USER,
            "department": "clinic",
            "cohort": cohorts()[0].cohort,
            "privacy_budget": 5.0,
            "max_tokens": 8,
            "temperature": 1.0,
            **self.more,
        }
        try:
            status, answer = exchanged(self.port, "POST", "/v1/inference", body)
            if status == http.client.OK:
                self.told[answer["request_id"]] = round(answer["rho"] / NANO)
        except _FAILED:
            return False
        return status == http.client.OK

    def begin(self) -> None:
        """Go on asking, on a thread."""

        def work() -> None:
            while self._asking.is_set():
                self.ask()
                time.sleep(_PAUSE_S)

        self._asking.set()
        self._thread = threading.Thread(target=work, name="asker", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask no more; the question under way is not waited for."""
        self._asking.clear()

    def cease(self) -> None:
        """Ask no more; the question under way is waited for."""
        self.stop()
        if self._thread is not None:
            self._thread.join(DEADLINE_S + ANSWER_S)


def exchanged(port: int, method: str, path: str, body: Any) -> tuple[int, Any]:
    """One request to this machine, and the JSON that came back.

    Raises:
        OSError, HTTPException, ValueError: nothing came, or no JSON.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S + ANSWER_S)
    with closing(connection):
        headers = {"content-type": "application/json"}
        connection.request(method, path, json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
