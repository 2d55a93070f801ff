"""Requests for objects of other organisations, noted without saying that they exist.

A stranger's object and one that nobody has are answered alike, and must take the same time. So the
request only puts its id on a list; whether it is somebody else's is looked up at the next scan, by
the loop, and journaled then::

    identity.wrong_tenant   {tenant, subject, kind}

`tenant` and `subject` are who asked; whose object it was is not said, for the entry belongs to who
asked. What was on the list of a process that is killed is lost: one interval at most.
"""

from __future__ import annotations

import re
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from privacy_runtime.identity import Identity
from privacy_runtime.identity.user_rows import select_user
from privacy_runtime.world import Clock

CROSSED: Final = "identity.wrong_tenant"
NOTED_MOST: Final = 20
"""Entries of one user within an hour; what comes after them says nothing new."""
_HOUR_S: Final = 3600.0
_LISTED_MOST: Final = 10_000
_ID: Final = re.compile(r"(?P<kind>[a-z]{1,16})_[A-Za-z0-9]{4,64}")

TenantOf = Callable[[str], str | None]
"""From the id of an object to the organisation that has it; None: nobody."""


def users_in(identity: Identity) -> TenantOf:
    """Whose user an id names."""

    def tenant_of(user: str) -> str | None:
        if not user.startswith("u_"):
            return None
        query = select_user(user=user)
        row = identity.store.read(lambda connection: connection.execute(query).one_or_none())
        return None if row is None else str(row.tenant)

    return tenant_of


@dataclass(frozen=True, slots=True)
class _Asked:
    tenant: str
    subject: str
    id: str


class Trespasses:
    """A list of ids that were asked for and not found, and what is to be said of them.

    Args:
        tenant_of: looks an object up, whoever's it is.
        clock: tells when an hour is over.
    """

    def __init__(self, tenant_of: TenantOf, clock: Clock) -> None:
        self._tenant_of, self._clock = tenant_of, clock
        self._lock = threading.Lock()
        self._list: deque[_Asked] = deque(maxlen=_LISTED_MOST)
        self._noted: Counter[str] = Counter()
        self._since_s = clock.monotonic_s()

    def not_found(self, tenant: str, subject: str, object_id: str) -> None:
        """Somebody asked for an object and was told that there is none. Returns at once."""
        if _ID.fullmatch(object_id):
            self._list.append(_Asked(tenant, subject, object_id))

    def crossed(self) -> list[dict[str, Any]]:
        """Which of the listed requests were for somebody else's object; the list is empty then.

        Raises:
            JobStoreUnavailable, IdentityStoreUnavailable: what `tenant_of` raises; what was not
                looked up yet stays on the list.
        """
        with self._lock:
            if self._clock.monotonic_s() - self._since_s > _HOUR_S:
                self._noted.clear()
                self._since_s = self._clock.monotonic_s()
            found = []
            while self._list:
                asked = self._list[0]
                owner = self._tenant_of(asked.id)
                self._list.popleft()
                if owner in (None, asked.tenant) or self._noted[asked.subject] >= NOTED_MOST:
                    continue
                self._noted[asked.subject] += 1
                kind = asked.id.partition("_")[0]
                found.append({"tenant": asked.tenant, "subject": asked.subject, "kind": kind})
            return found
