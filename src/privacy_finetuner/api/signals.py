"""Somebody tries an injection: seen in the short fields of requests, told to the audit trail.

Only fields that hold a name, a path or a reason are looked at. Records, prompts and texts to be
protected are data and may say anything; passwords, codes and tokens are looked at by nobody. Which
field is which stands in `WATCHED` and `UNWATCHED`, and a test finds one that is in neither.

Nothing is refused because of a sign, and no value is kept: the event names the field, the family,
the score and a keyed hash of the value, by which two attempts with one text can be told to be the
same. Events wait in memory until the next round of upkeep, so no request waits for the journal; a
process that is killed forgets those of its last seconds.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fastapi import Request

from privacy_finetuner.operations.trail import AuditTrail
from privacy_finetuner.service import Service
from privacy_runtime.http.injection import Family, InputValidator
from privacy_runtime.http.visits import Visit, visit_of
from privacy_runtime.identity.sealing import Seal
from privacy_runtime.metrics import table

EVENT: Final = "security.input_suspected"
EVERY_S: Final = 2.0
WATCHED: Final = frozenset(
    {
        *("model_name", "dataset_path", "eval_dataset", "name", "account", "quota", "username"),
        *("text_field", "label_field", "user_field", "label_names", "lora_targets", "optimizer"),
        *("label", "reason", "note", "artefact", "region", "url", "data_package_url", "dataset"),
        *("controller", "storage_location", "recipients", "transfers", "model", "unit"),
        *("security_measures", "subject_categories"),
    }
)
"""Keys of bodies that hold names, paths and reasons."""
UNWATCHED: Final = frozenset(
    {
        *("password", "old_password", "new_password", "mfa_token", "code", "refresh_token"),
        *("verification_token", "data_subject_id", "text", "texts", "value", "records", "prompt"),
        *("protected_text", "allow", "deny", "preserve_entities", "only", "locales"),
        *("optimizer_options", "sha256", "until"),
    }
)
"""Keys of bodies that hold data, secrets, or one form only."""
_FIELDS_MOST: Final = 64
_DEEPEST: Final = 4
_WAITING_MOST: Final = 1000
_OF_ONE_MOST: Final = 20


@dataclass(frozen=True, slots=True)
class _Hit:
    visit: Visit
    field: str
    family: Family
    score: int
    value: str


class Signals:
    """Looks at requests, and tells the trail what it found.

    Args:
        service: whose trail, and whose key for hashes.
    """

    def __init__(self, service: Service) -> None:
        self._validator = InputValidator()
        self._seal = Seal(service.sealing_keys, service.entropy)
        self._trail: AuditTrail = service.desks.trail
        self._entropy, self._metrics = service.entropy, service.metrics
        self._waiting: deque[_Hit] = deque(maxlen=_WAITING_MOST)
        self._recording = threading.Lock()

    async def look(self, request: Request) -> None:
        """Dependency: look at a request's path, query and body. It never refuses one."""
        visit = visit_of(request)
        for field, text in (*_addressed(request), *_fields(await _body(request))):
            for sign in self._validator.signs(text):
                self._metrics.add(table.SUSPICIOUS_INPUTS, family=sign.family.value)
                value = self._seal.pseudonym(text, purpose="suspected input")
                self._waiting.append(_Hit(visit, field, sign.family, sign.score, value))

    def record(self) -> None:
        """Write what waits into the stream `audit`: of one sender at most 20 events a round.

        Raises:
            JournalError: it could not be written; it waits for the next round.
        """
        with self._recording:
            hits = [self._waiting.popleft() for _ in range(len(self._waiting))]
            told: Counter[str] = Counter()
            for place, hit in enumerate(hits):
                sender = self._sender(hit.visit)
                who = sender.get("subject", sender["source"])
                told[who] += 1
                if told[who] > _OF_ONE_MOST:
                    continue
                body = {
                    **sender,
                    "field": hit.field,
                    "family": hit.family.value,
                    "score": hit.score,
                    "value": hit.value,
                }
                try:
                    self._trail.write(EVENT, body, entropy=self._entropy)
                except BaseException:
                    self._waiting.extendleft(reversed(hits[place:]))
                    raise

    def _sender(self, visit: Visit) -> dict[str, str]:
        """Who sent it: the user, where the request got that far, and the address, hashed."""
        source = self._seal.pseudonym(visit.network, purpose="lockout source")
        sender = {"source": source, "request": visit.request_id}
        if visit.principal is not None:
            sender |= {"tenant": visit.principal.tenant, "subject": visit.principal.subject}
        return sender


def _addressed(request: Request) -> Iterator[tuple[str, str]]:
    """What stands in the address: parameters of the path and of the query."""
    for name, value in request.path_params.items():
        yield f"path.{name}", str(value)
    for name, value in list(request.query_params.multi_items())[:_FIELDS_MOST]:
        yield (f"query.{name}" if name.isidentifier() and len(name) < 40 else "query"), value


async def _body(request: Request) -> Any:
    """The body that FastAPI has read already; nothing, where it is no JSON."""
    kind = request.headers.get("content-type", "")
    if "json" not in kind or not await request.body():
        return None
    try:
        return await request.json()
    except (ValueError, RecursionError):
        return None


def _fields(body: Any, path: str = "body", depth: int = 0) -> Iterator[tuple[str, str]]:
    """The watched texts of a body, each under its path."""
    if depth > _DEEPEST or not isinstance(body, Mapping):
        return
    for key, value in list(body.items())[:_FIELDS_MOST]:
        if key in WATCHED:
            texts = value if isinstance(value, list) else [value]
            for text in texts[:_FIELDS_MOST]:
                if isinstance(text, str):
                    yield f"{path}.{key}", text
        elif key not in UNWATCHED:
            yield from _fields(value, path, depth + 1)
