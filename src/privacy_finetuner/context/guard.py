"""`ContextGuard`: what leaves is what you meant to send.

The story: a *detector* finds spans (`privacy_core.redaction`), the level and the threshold decide
which of them count, a *strategy* chooses the operator that takes the place of each, and the result
says span by span what was done. Documents of any format come as `pieces`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

from privacy_core.redaction.findings import Detector, NameTagger
from privacy_core.redaction.operators import Scope
from privacy_core.redaction.rewriting import rewrite
from privacy_finetuner.context.explanations import explained
from privacy_finetuner.context.json_text import JsonText
from privacy_finetuner.context.lookout import MESSAGE_FRAME, Columns, Lookout, labels_of, rules_of
from privacy_finetuner.context.pieces import Edit, Piece, edited
from privacy_finetuner.context.results import (
    EntityFound,
    Protected,
    ProtectedValue,
    ProtectionResult,
    RedactionReport,
)
from privacy_finetuner.context.strategies import (
    OperatorChoice,
    RedactionStrategy,
    Sealing,
    choice_of,
    keys_for,
    strategies_of,
    writing_strategies,
)
from privacy_finetuner.errors import ConfigurationError

if TYPE_CHECKING:
    from privacy_core.redaction.streaming import StreamingRedactor, Window
    from privacy_runtime.pseudonyms.keys import RedactionKeys
    from privacy_runtime.pseudonyms.streams import StreamingRevealer
    from privacy_runtime.pseudonyms.vault import SessionVault
    from privacy_runtime.world import Entropy

_TRAVELLING: Final = (
    *("strategies", "sensitivity_threshold", "preserve_structure", "reversible_redaction"),
    "tenant",
)


class ContextGuard:
    """Finds personal and secret values in text and puts something else in their place.

    Guarantee: no character of a span that was found and counts is in the result, except what its
    operator put there (a mask's layout, a year). What is *not* found stays: see docs/redaction.md
    for how much that is, measured. The same input, settings and keys give the same output.
    What `protect` wrote it does not redact again, unless it looks like a value by intention
    (SURROGATE, FORMAT_PRESERVING).

    ====================================  ======================================================
    `reversible_redaction=True` and       then
    ====================================  ======================================================
    SEMANTIC_ENCRYPTION not in the list   refused, unless SURROGATE is and there is a `vault`:
                                          nothing else leads back
    no `keys`                             a key is made; `encryption_key` hands it over, and
                                          without it nothing leads back
    ====================================  ======================================================

    Args:
        strategies: in order of preference; see `context.strategies`.
        sensitivity_threshold: precision that the redactions together shall have, as calibrated.
            Where the level would be less precise, its least sure rules are left out; see
            `context.thresholds`.
        preserve_structure: line breaks and tabs inside a value stay where they are.
        reversible_redaction: only strategies that lead back may write into the text.
        keys: what hashes, tokens and surrogates are made with; needed for them to agree between
            processes. `None`: a key is made where one is needed.
        vault: keeps what surrogates stand for, so that they lead back; its keys are the guard's.
        tenant: whose data it is; two tenants' hashes and tokens have nothing in common.
        detector: one of your own, instead of ours with `names`, `locales`, `allow`, `deny`.
        names: a tagger of names of your own; `None`: none, values of known form only; left out:
            the models that are shipped.
        locales: countries whose identifiers count; left out: all.
        allow: values that are never redacted.
        deny: values that always are.
        entropy: where a key comes from; only tests replace it.

    Raises:
        ConfigurationError: an unknown or missing strategy, or no way back where one was asked for.
        InvalidParameter: the threshold is not in [0, 1).
    """

    def __init__(  # noqa: PLR0913 -- the documented four, and keywords
        self,
        strategies: Sequence[RedactionStrategy | str],
        sensitivity_threshold: float = 0.8,
        preserve_structure: bool = True,
        reversible_redaction: bool = False,
        *,
        keys: RedactionKeys | None = None,
        vault: SessionVault | None = None,
        tenant: str = "default",
        detector: Detector | None = None,
        names: NameTagger | Literal["shipped"] | None = "shipped",
        locales: Sequence[str] | None = None,
        allow: Sequence[str] = (),
        deny: Sequence[str] = (),
        entropy: Entropy | None = None,
    ) -> None:
        self.strategies = strategies_of(strategies)
        self.sensitivity_threshold = sensitivity_threshold
        self.preserve_structure = preserve_structure
        self.reversible_redaction = reversible_redaction
        self.tenant = tenant
        self.lookout = Lookout(
            threshold=sensitivity_threshold,
            detector=detector,
            names=names,
            locales=locales,
            allow=allow,
            deny=deny,
        )
        writing = writing_strategies(self.strategies, vault, must_lead_back=reversible_redaction)
        self._vault = vault
        self._keys, self._made_key = keys_for(self.strategies, keys, vault, tenant, entropy)
        self._choice: OperatorChoice = choice_of(
            writing, self._keys, tenant, vault, preserve_structure=preserve_structure
        )
        self._sealing = Sealing.of(self.strategies, self._keys, tenant)

    def __repr__(self) -> str:
        names = ", ".join(strategy.value for strategy in self.strategies)
        return f"ContextGuard([{names}], tenant={self.tenant!r})"

    @property
    def encryption_key(self) -> str:
        """The key that was made for this object, in hexadecimal: keep it, or nothing leads back.

        Raises:
            ConfigurationError: none was made, because keys were given or none is needed.
        """
        if not self._made_key:
            why = "its strategies need none" if self._keys is None else "keys were given"
            raise ConfigurationError(f"no key was made for this guard: {why}")
        return self._made_key

    def protect(
        self,
        text: str,
        sensitivity_level: str = "medium",
        preserve_entities: Iterable[str] | None = None,
        *,
        hints: Sequence[str] = (),
        scope: Scope | None = None,
    ) -> ProtectionResult:
        """Replace what was found in a text.

        Args:
            text: any string, also empty.
            sensitivity_level: `low` (validated identifiers and secrets), `medium` (also what points
                at one person) or `high` (also what narrows the circle).
            preserve_entities: types to leave, by name or alias (`["DATE", "ORG"]`).
            hints: words beside the text that say what it is, such as a column's name.
            scope: of a conversation, so that `[PERSON_2]` is the same in all of it.

        Raises:
            InvalidParameter: no such level. UnknownEntity: no such type; names the nearest.
        """
        made = self.protect_pieces(
            [Piece(text, hints=tuple(hints))],
            sensitivity_level=sensitivity_level,
            preserve_entities=preserve_entities,
            scope=scope,
        )
        return ProtectionResult.of(edited(text, made.edits[0]), made, self.tenant)

    def batch_protect(
        self, texts: Sequence[str], *, workers: int = 1, **kwargs: Any
    ) -> list[ProtectionResult]:
        """Protect many texts, each a document of its own, in their order.

        Args:
            texts: the texts.
            workers: processes; above 1, `keys` must come from a key file.
            **kwargs: as `protect`: `sensitivity_level`, `preserve_entities`.

        Raises:
            TypeError: an unknown keyword.
        """
        for name in set(kwargs) - {"sensitivity_level", "preserve_entities"}:
            raise TypeError(f"batch_protect() has no parameter {name!r}")
        if workers > 1:
            from privacy_finetuner.context.batch import protect_texts  # noqa: PLC0415 -- processes

            return protect_texts(self, texts, workers=workers, **kwargs)
        return [self.protect(text, **kwargs) for text in texts]

    def protect_json(
        self,
        value: Any,
        sensitivity_level: str = "medium",
        preserve_entities: Iterable[str] | None = None,
        *,
        columns: Columns | None = None,
    ) -> ProtectedValue:
        """Protect every string, number and key of a JSON value; names along the path are hints.

        Strings that hold JSON stay JSON. The same value gets the same replacement everywhere in it.

        Args:
            value: what `json.dumps` takes, with string keys.
            sensitivity_level: as in `protect`.
            preserve_entities: as in `protect`.
            columns: name -> entity type: all of what stands under it; or `"keep"`.

        Raises:
            ConfigurationError: the value is not JSON.
        """
        record = JsonText.of_value(value)
        made = self.protect_pieces(
            record.pieces,
            sensitivity_level=sensitivity_level,
            preserve_entities=preserve_entities,
            columns=columns,
        )
        return ProtectedValue.of(json.loads(record.render(made.edits)), made, self.tenant)

    def protect_messages(
        self,
        messages: Sequence[Mapping[str, Any]],
        sensitivity_level: str = "medium",
        preserve_entities: Iterable[str] | None = None,
    ) -> ProtectedValue:
        """Protect a chat: contents, parts, names and the arguments of tool calls.

        Roles, part types and ids of calls stay. `[PERSON_2]` is one person in all messages.
        """
        return self.protect_json(
            list(messages), sensitivity_level, preserve_entities, columns=MESSAGE_FRAME
        )

    def protect_pieces(
        self,
        pieces: Sequence[Piece],
        *,
        sensitivity_level: str = "medium",
        preserve_entities: Iterable[str] | None = None,
        columns: Columns | None = None,
        scope: Scope | None = None,
    ) -> Protected:
        """Decide the edits of the pieces of one record; what is numbered is numbered in it."""
        preserved, rules = labels_of(preserve_entities), rules_of(columns)
        scope = scope if scope is not None else self.scope()
        made = Protected([], [], [], [])
        for piece in pieces:
            found = self.lookout.findings(
                piece, sensitivity_level, rules, preserved=preserved, marks=scope.marks
            )
            made.findings.extend(found)
            kept = [f for f in found if f.label not in preserved]
            if not kept and "[" not in piece.text:  # nor a mark whose number is taken
                made.edits.append([])
                continue
            done = rewrite(piece.text, kept, self._choice, scope).replacements
            column = self.lookout.shown_column(piece.column) if done else ""
            for one in done:
                made.entities.append(EntityFound.of(one, column))
                made.entries.append(self._sealing.entry(piece.text[one.start : one.end], one))
            made.edits.append([Edit(one.start, one.end, one.replaced_by) for one in done])
        return made

    def explain_redactions(
        self,
        text: str,
        sensitivity_level: str = "medium",
        preserve_entities: Iterable[str] | None = None,
    ) -> RedactionReport:
        """Say what would be redacted and why, what would stay and why, and what still leaks.

        The report holds positions and rules, not the text.
        """
        piece = Piece(text)
        return explained(
            notes=self.lookout.notes(sensitivity_level),
            counting=self.lookout.findings(piece, sensitivity_level),
            noticed=self.lookout.findings(piece, "high"),
            preserved=labels_of(preserve_entities),
            level=sensitivity_level,
            threshold=self.lookout.threshold(sensitivity_level),
            choose=self._choice,
        )

    def reverse_protection(
        self, protected_text: str, encryption_key: str | RedactionKeys | None = None
    ) -> str:
        """Put back what tokens stand for.

        Tokens that were changed, cut, re-typed or made by others stay as they are, and so do
        replacements that do not lead back; text around them may have been rewritten.

        Args:
            protected_text: what `protect` gave, also after a model rewrote it.
            encryption_key: hexadecimal, base64 or a passphrase; left out: this guard's own.

        Raises:
            KeyFormatRefused: it is no key.
            WrongKey: there are tokens, and the key opens none of them.
        """
        from privacy_finetuner.context.reversal import key_for, revealed  # noqa: PLC0415 -- slow

        key = key_for(encryption_key, self._keys)
        return revealed(protected_text, key, self.tenant, vault=self._vault)

    def stream(
        self,
        sensitivity_level: str = "medium",
        preserve_entities: Iterable[str] | None = None,
        *,
        window: Window | None = None,
        bulk: bool = False,
    ) -> StreamingRedactor:
        """A redactor of text that arrives in pieces: `feed(chunk) -> str`, at the end `close()`.

        What it returns does not depend on the pieces. It is what `protect` returns for the whole,
        except at the level `high`, where `protect` also looks back: a name that is recognised late
        is redacted in the sentences before as well.

        Args:
            sensitivity_level: as in `protect`.
            preserve_entities: as in `protect`.
            window: how much is decided at once, where `bulk` is not fine enough.
            bulk: for files and pipes: 8,192 characters at a time, some twenty times as fast. False
                is for a person who reads along: by words, or by sentences with names.
        """
        from privacy_finetuner.context.streams import redactor  # noqa: PLC0415 -- few need it

        looks = (self.lookout, self._choice, self.scope(), sensitivity_level)
        return redactor(*looks, labels_of(preserve_entities), window, bulk=bulk)

    def reveal_stream(
        self,
        encryption_key: str | RedactionKeys | None = None,
        *,
        labels: Iterable[str] | None = None,
    ) -> StreamingRevealer:
        """Put values back into text that arrives in pieces: `feed(chunk) -> str`, then `close()`.

        All in all it returns what `reverse_protection` does. A wrong key raises nothing here:
        `refused` counts the tokens that stay, and why.

        Args:
            encryption_key: as in `reverse_protection`.
            labels: entity types that may be revealed; left out: all.

        Raises:
            KeyFormatRefused: it is no key.
            ConfigurationError: there is none; or a vault, whose surrogates are read as a whole.
            UnknownEntity: no such type; names the nearest.
        """
        from privacy_finetuner.context.reversal import key_for, revealer  # noqa: PLC0415 -- slow

        allowed = None if labels is None else labels_of(labels)
        return revealer(key_for(encryption_key, self._keys), self.tenant, allowed, self._vault)

    def scope(self) -> Scope:
        """A fresh document or conversation, inside which numbers agree.

        With a key at hand, what only looks like a sealed token is looked at like other text.
        """
        return Scope(is_authentic=self._sealing.is_authentic)

    def settings(self) -> dict[str, Any]:
        """What decides the output, as JSON: with the id of the key, without a key or a value."""
        return {
            "strategies": [strategy.value for strategy in self.strategies],
            "preserve_structure": self.preserve_structure,
            "reversible_redaction": self.reversible_redaction,
            "tenant": self.tenant,
            "key_id": None if self._keys is None else self._keys.key_id,
            **({} if self._vault is None else {"vault": True}),
            **self.lookout.settings(),
        }

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to another process; keys travel as the path of their file, or not at all."""
        if self._made_key or self._vault is not None:
            raise ConfigurationError(
                "this guard made its own key or has a vault, which do not travel to other "
                "processes: give keys=RedactionKeys.load(path)"
            )
        arguments = {name: getattr(self, name) for name in _TRAVELLING}
        return _made_again, ({**arguments, "keys": self._keys, **self.lookout.arguments},)


def _made_again(arguments: dict[str, Any]) -> ContextGuard:
    return ContextGuard(**arguments)
