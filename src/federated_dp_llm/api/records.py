"""What the router remembers: members, settings, and what each user's answers cost.

Two streams of the journal, hash-chained, each entry beside the document that it changes:

=============  ===========================  ====================================================
stream         documents                    entries
=============  ===========================  ====================================================
`router`       `member/U`, `settings`,      who changed what, and why
               `promise`
`privacy`      `use/U`, `days/D`,           one for every answer: ids and amounts, no prompt
               `told/D/I`
=============  ===========================  ====================================================

A journal that cannot be written stops answers: what is not in the trail is not shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from federated_dp_llm.config import NodeSpec
from federated_dp_llm.core.query import Answer, Query
from privacy_core.errors import InvalidParameter
from privacy_runtime.journal import Change, Document, Draft, Journal, View
from privacy_runtime.world import Clock, Entropy

ROUTER: Final = "router"
PRIVACY: Final = "privacy"
_LATEST: Final = 50
_DAYS: Final = 90
_KEY_BYTES: Final = 16
_TRAIL: Final = {"action": "query", "outcome": "released", "compliance_standard": "HIPAA"}
"""What an audit under 45 CFR 164.312(b) asks besides who, when and about what: action, outcome."""


@dataclass(frozen=True, slots=True)
class Use:
    """What one user's answers cost, in epsilon as each answer said it.

    Attributes:
        latest: the newest answers, oldest first.
        days: the sum of each day that had one.
    """

    latest: tuple[Mapping[str, Any], ...] = ()
    days: Mapping[str, float] = field(default_factory=dict)

    def daily_average(self, today: str) -> float | None:
        """Of the days before today that had an answer; None: there were none."""
        before = [cost for day, cost in self.days.items() if day < today]
        return sum(before) / len(before) if before else None


class Records:
    """The router's memory.

    Args:
        journal: shared with identity, which owns the stream `audit`.
        clock, entropy: the world.
    """

    def __init__(self, journal: Journal, *, clock: Clock, entropy: Entropy) -> None:
        self.journal, self._clock, self._entropy = journal, clock, entropy

    def departments_of(self, user_id: str) -> tuple[str, ...]:
        """The departments of a user; the first is the default."""
        found = self.journal.document(ROUTER, f"member/{user_id}")
        return () if found is None else tuple(found["departments"])

    def members(self) -> dict[str, tuple[str, ...]]:
        """Every user that was put into a department."""
        found = self.journal.documents(ROUTER, "member/")
        return {name[len("member/") :]: tuple(doc["departments"]) for name, doc in found}

    def put_member(self, user_id: str, departments: Sequence[str], *, by: str) -> None:
        """Say to which departments a user belongs."""
        body = {"user": user_id, "departments": list(departments), "by": by}
        self._write(
            "router.member", body, {f"member/{user_id}": {"departments": list(departments)}}
        )

    def node_added(self, spec: NodeSpec, *, by: str) -> None:
        """A node was registered."""
        self.say("router.node_added", {**asdict(spec), "by": by})

    def node_removed(self, node_id: str, *, by: str) -> None:
        """A node was removed."""
        self.say("router.node_removed", {"node_id": node_id, "by": by})

    def settings(self) -> Mapping[str, Mapping[str, Any]]:
        """What administrators changed, by section."""
        return self.journal.document(ROUTER, "settings") or {}

    def put_settings(
        self, changes: Mapping[str, Mapping[str, Any]], *, by: str, reason: str
    ) -> None:
        """Keep changed settings, with who and why."""

        def decide(view: View) -> Change:
            kept = {name: dict(inner) for name, inner in view.documents.get("settings", {}).items()}
            for section, inner in changes.items():
                kept.setdefault(section, {}).update(inner)
            body = {"changes": changes, "by": by, "reason": reason}
            return Change([self._draft("router.settings", body)], {"settings": kept})

        self.journal.transact(ROUTER, decide, names=["settings"])

    def require_promise(self, delta: float) -> None:
        """Hold the deployment to the delta that its accounts were opened under.

        Raises:
            InvalidParameter: it is another one; every epsilon of the accounts would change.
        """

        def decide(view: View) -> Change:
            kept = view.documents.get("promise")
            if kept is None:
                body = {"delta": delta}
                return Change([self._draft("router.promise", body)], {"promise": body})
            if kept["delta"] != delta:
                raise InvalidParameter(
                    "privacy.delta",
                    found=delta,
                    expected=f"{kept['delta']:g}, under which this home's accounts were opened; "
                    "another delta needs a home of its own",
                )
            return Change()

        self.journal.transact(ROUTER, decide, names=["promise"])

    def say(self, type_: str, body: Mapping[str, Any], *, stream: str = ROUTER) -> None:
        """Append an entry: ids, counts and amounts, never a prompt or an answer."""
        self.journal.transact(stream, lambda _: Change([self._draft(type_, body)]))

    def answered(
        self, query: Query, answer: Answer, *, kept: tuple[str, Document] | None = None
    ) -> Use | None:
        """Append an answer's entry; return what the user's answers cost until now.

        Args:
            query: what was asked.
            answer: as it came.
            kept: name and content of the document that keeps it for its idempotency key. If there
                is one already, this answer was written down before: nothing is appended, and None
                is returned.
        """
        now = self._clock.now()
        today, name = now.date().isoformat(), f"use/{query.user_id}"
        line = {
            "at": now.isoformat().replace("+00:00", "Z"),
            "request_id": query.request_id,
            "mechanism": answer.mechanism,
            "privacy_cost": answer.privacy_cost,
            "rho": answer.rho,
            "tokens": len(answer.tokens),
            "cohort": query.cohort,
            "department": query.department,
        }
        found: list[Use] = []

        of_all = f"days/{query.department}"
        names = [name, of_all] if kept is None else [name, of_all, kept[0]]

        def decide(view: View) -> Change:
            if kept is not None and kept[0] in view.documents:
                found.clear()
                return Change()
            use = _use(view.documents.get(name))
            days = _added(use.days, today, answer.privacy_cost)
            use = Use((*use.latest, line)[-_LATEST:], days)
            found[:] = [use]
            entry = Draft("privacy.answer", self._key(), {"user": query.user_id, **line, **_TRAIL})
            department = (view.documents.get(of_all) or {}).get("days", {})
            documents: dict[str, Document | None] = {
                name: {"latest": list(use.latest), "days": dict(use.days)},
                of_all: {"days": _added(department, today, answer.privacy_cost)},
            }
            return Change([entry], documents if kept is None else {**documents, kept[0]: kept[1]})

        self.journal.transact(PRIVACY, decide, names=names)
        return found[0] if found else None

    def use_of(self, user_id: str) -> Use:
        """What a user's answers cost."""
        return _use(self.journal.document(PRIVACY, f"use/{user_id}"))

    def days_of(self, department: str) -> Use:
        """What each day's answers of a department cost."""
        return Use(
            days=(self.journal.document(PRIVACY, f"days/{department}") or {}).get("days", {})
        )

    def users(self) -> Iterator[str]:
        """Every user who has had an answer."""
        for name, _ in self.journal.documents(PRIVACY, "use/"):
            yield name[len("use/") :]

    def _write(
        self, type_: str, body: Mapping[str, Any], documents: Mapping[str, Document | None]
    ) -> None:
        change = Change([self._draft(type_, body)], documents)
        self.journal.transact(ROUTER, lambda _: change, names=list(documents))

    def _draft(self, type_: str, body: Mapping[str, Any]) -> Draft:
        return Draft(type_, self._key(), body)

    def _key(self) -> str:
        return self._entropy.token_bytes(_KEY_BYTES).hex()


def _added(days: Mapping[str, float], today: str, cost: float) -> dict[str, float]:
    """Days with more on today; the newest are kept."""
    return dict(sorted({**days, today: days.get(today, 0.0) + cost}.items())[-_DAYS:])


def _use(document: Document | None) -> Use:
    if document is None:
        return Use()
    return Use(tuple(document["latest"]), document["days"])
