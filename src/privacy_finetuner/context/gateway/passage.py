"""One message on its way through the gateway: one set of decisions for all of its parts.

First every text is examined; only then is any of them rewritten, so that a value found in one place
(beside its name, in the structured copy of a result) is replaced in every other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from privacy_finetuner.context.gateway.errors import MessageRefused, Reason
from privacy_finetuner.context.gateway.leaves import (
    Bounds,
    ChangeText,
    Form,
    Hints,
    Json,
    LeafRewriter,
)
from privacy_finetuner.context.gateway.policy import (
    Binary,
    Limits,
    RawValues,
    RedactionPolicy,
    ToolRule,
    Zone,
)
from privacy_finetuner.context.gateway.protection import Protector, Spot, TokenSpot
from privacy_finetuner.context.gateway.schemas import Place

SHORTEST_NUMBER: Final = 5
"""Digits of a number that nothing but its own look speaks for."""


class Act(StrEnum):
    """What happened to a value."""

    TOKENISED = "tokenised"
    REVEALED = "revealed"
    PASSED = "passed"
    KEPT = "kept_token"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Item:
    """What happened to one value: all that the audit trail learns about it."""

    act: Act
    label: str
    fingerprint: str
    rule: str


@dataclass
class Tally:
    """What happened in one message, without its values."""

    items: Counter[Item] = field(default_factory=Counter)

    @property
    def reveals(self) -> bool:
        """Whether a real value was given to a tool."""
        return any(item.act in (Act.REVEALED, Act.PASSED) for item in self.items)


class Passage:
    """Rewrites the parts of one message.

    Guarantee: a text that leaves towards the model carries no value that was found anywhere in the
    message, or earlier in the session, but its token. A text that leaves towards a tool carries
    real values only of the types that its rule lists.

    Args:
        protector: of the session.
        redaction, limits: of the policy.
        grant: what the tool may have; `None`: the message goes to the model.

    Raises (every method):
        MessageRefused: the message may not pass; nothing of it was sent anywhere.
    """

    def __init__(
        self,
        protector: Protector,
        redaction: RedactionPolicy,
        limits: Limits,
        *,
        grant: ToolRule | None = None,
    ) -> None:
        self.tally = Tally()
        self._protector = protector
        self._redaction = redaction
        self._limits = limits
        self._grant = grant
        self._reveal = grant.reveal if grant is not None else frozenset()
        # Each text is examined once and decided once, however often the message repeats it: what
        # the session knows grows while it is examined, and no more while it is rewritten.
        self._found: dict[tuple[str, Hints, bool], Sequence[Spot]] = {}
        self._decided: dict[tuple[str, Hints, Form], Sequence[Spot]] = {}
        self._tokens: dict[tuple[str, str], str] = {}
        self._fingerprints: dict[tuple[str, str], str] = {}
        self._documents: dict[str, Json] = {}

    def to_model(self, message: Json) -> Json:
        """Rewrite a message of the protocol, or a part of one, for the model's eyes."""
        self._walk(self._examine).protocol(message)
        return self._walk(self._hide).protocol(message)

    def text_to_model(self, text: str) -> str:
        """Rewrite one text, which may be JSON, for the model's eyes."""
        self._walk(self._examine).free(text)
        return str(self._walk(self._hide).free(text))

    def record(self, record: dict[str, Json]) -> dict[str, Json]:
        """Rewrite one training record, of which nothing is the protocol's."""
        self._walk(self._examine).free(record)
        changed: dict[str, Json] = self._walk(self._hide).free(record)
        return changed

    def to_tool(self, arguments: Json, schema: Json = None) -> Json:
        """Rewrite free JSON for a tool: tokens become values where the rule says so.

        Args:
            arguments: what the model or the client wrote.
            schema: of the arguments; where it asks for a number, a token is not sent but refused.
        """
        self._walk(self._examine).free(arguments)
        rewritten = self._walk(self._grant_values).free(arguments)
        return self._fitted(arguments, rewritten, Place(schema, schema))

    def message_to_tool(self, message: Json) -> Json:
        """Rewrite a message of the protocol (an answer to a server's question) for a tool."""
        self._walk(self._examine).protocol(message)
        return self._walk(self._grant_values).protocol(message)

    def _walk(self, change: ChangeText) -> LeafRewriter:
        bounds = Bounds(self._limits.depth, self._limits.leaves)
        passes = self._grant is not None or self._redaction.binary is Binary.PASS
        return LeafRewriter(change, bounds=bounds, pass_binary=passes, documents=self._documents)

    def _examine(self, text: str, hints: Hints, form: Form) -> str:
        key = (text, hints, form is Form.URI)
        if key not in self._found:
            found = self._protector.detect(text, hints, is_address=form is Form.URI)
            self._found[key] = found
            if found:
                for spot in self._standing(text, found, form):
                    self._protector.learn(text[spot.start : spot.end], spot.label)
        return text

    def _spots(self, text: str, hints: Hints, form: Form) -> Sequence[Spot]:
        key = (text, hints, form)
        spots = self._decided.get(key)
        if spots is None:
            # Rewriting uncovers texts that the first walk did not see: what is behind a token.
            self._examine(text, hints, form)
            found = self._found[text, hints, form is Form.URI]
            self._decided[key] = spots = self._standing(text, found, form)
        return spots

    def _standing(self, text: str, found: Sequence[Spot], form: Form) -> Sequence[Spot]:
        spots = self._protector.standing(text, found)
        if form is Form.NUMBER and spots:
            # A number is one value: a part of it cannot be replaced, and a small one says nothing.
            digits = sum(map(str.isdigit, text))
            by_key = any(spot.rule == "key" for spot in spots)
            if not by_key and digits < SHORTEST_NUMBER:
                return ()
            return (Spot(0, len(text), spots[0].label, spots[0].rule),)
        return spots

    def _hide(self, text: str, hints: Hints, form: Form) -> str:
        """Put tokens in the place of values."""
        pieces, last = [], 0
        for spot in self._spots(text, hints, form):
            pieces += [text[last : spot.start], self._token(text[spot.start : spot.end], spot)]
            last = spot.end
        return "".join([*pieces, text[last:]]) if pieces else text

    def _grant_values(self, text: str, hints: Hints, form: Form) -> str:
        """Put values in the place of tokens where the tool may have them; tokens else."""
        tokens = self._protector.tokens.read(text)
        replacements = [self._token_for_tool(one, text[one.start : one.end]) for one in tokens]
        # What only has the form of a token stays, and what was found in it is looked at below.
        changes = [
            (one.start, one.end, replacement)
            for one, replacement in zip(tokens, replacements, strict=True)
            if one.value is not None
        ]
        changes += [
            (spot.start, spot.end, self._value_for_tool(text[spot.start : spot.end], spot))
            for spot in self._spots(text, hints, form)
        ]
        pieces, last = [], 0
        for start, end, replacement in sorted(changes):
            pieces += [text[last:start], replacement]
            last = end
        return "".join([*pieces, text[last:]]) if pieces else text

    def _token_for_tool(self, spot: TokenSpot, token: str) -> str:
        trusted = self._grant is not None and self._grant.zone is Zone.TRUSTED
        if spot.value is None:
            if trusted and self._reveal:
                raise MessageRefused(Reason.UNKNOWN_TOKEN)
            return token
        if trusted and spot.label in self._reveal:
            self._count(Act.REVEALED, spot.label, spot.value, "policy")
            return spot.value
        self._count(Act.KEPT, spot.label, spot.value, "policy")
        return token

    def _value_for_tool(self, value: str, spot: Spot) -> str:
        zone = self._grant.zone if self._grant is not None else Zone.EGRESS
        if zone is Zone.TRUSTED and spot.label in self._reveal:
            self._count(Act.PASSED, spot.label, value, spot.rule)
            return value
        if zone is Zone.EGRESS and self._redaction.raw_values is RawValues.REFUSE:
            self._count(Act.REFUSED, spot.label, value, spot.rule)
            raise MessageRefused(Reason.RAW_VALUE)
        return self._token(value, spot)

    def _token(self, value: str, spot: Spot) -> str:
        self._count(Act.TOKENISED, spot.label, value, spot.rule)
        name = (value, spot.label)
        if name not in self._tokens:
            self._tokens[name] = self._protector.tokens.token(value, spot.label)
        return self._tokens[name]

    def _count(self, act: Act, label: str, value: str, rule: str) -> None:
        name = (value, label)
        if name not in self._fingerprints:
            self._fingerprints[name] = self._protector.tokens.fingerprint(value, label)
        self.tally.items[Item(act, label, self._fingerprints[name], rule)] += 1

    def _fitted(self, before: Json, after: Json, place: Place) -> Json:
        """Make rewritten arguments what the tool's schema asks for, or refuse them.

        A number that became a token does not fit a number's place; a token that became digits does,
        once the digits are a number again.
        """
        if isinstance(after, dict):
            names = before if isinstance(before, dict) else after
            pairs = zip(after.items(), names.values(), strict=False)
            return {key: self._fitted(old, new, place.under(key)) for (key, new), old in pairs}
        if isinstance(after, list):
            items = before if isinstance(before, list) else after
            return [
                self._fitted(old, new, place.item(index))
                for index, (new, old) in enumerate(zip(after, items, strict=False))
            ]
        if isinstance(after, str) and after != before and place.wants_number:
            number = place.number(after)
            if number is None:
                raise MessageRefused(Reason.NUMBER)
            return number
        return after
