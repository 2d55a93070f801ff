"""What may take the place of a value, and what a list of strategies means.

**A list is an order of preference.** Each finding is replaced by the first strategy of the list
that knows its type; most know every type. So `[GENERALIZATION, FORMAT_PRESERVING, PII_REMOVAL]`
keeps age bands and years, keeps the form of card numbers, and removes everything else; and
`[PII_REMOVAL, ENTITY_HASHING, SEMANTIC_ENCRYPTION]`, the documented list, writes `[PERSON]`.

Strategies that no finding reaches say what the redaction map carries besides: with ENTITY_HASHING
a keyed hash of each value, to link it across documents; with SEMANTIC_ENCRYPTION the sealed value,
for whoever holds the key. With `reversible_redaction=True` the text itself must lead back, so
strategies that do not are passed over.

=====================  ====================================  ==========  ====  ====================
strategy               John Doe, 4111-1111-1111-1111         leads back  key   knows
=====================  ====================================  ==========  ====  ====================
PII_REMOVAL            `[PERSON]`, `[PAYMENT_CARD]`          no          no    every type
MASKING                `**** ***`                            no          no    every type
DROPPING               (nothing)                             no          no    every type
GENERALIZATION         `30-39`, `2019`, `021**`              no          no    dates, ages, ZIP ...
ENTITY_HASHING         `[PERSON#4T9W...]`                    no          yes   every type
SEMANTIC_ENCRYPTION    `[PERSON:7KQ2:9X4...]`                yes         yes   every type
SURROGATE              `Maria Hill`, `5105105105105100`      with vault  yes   every type
FORMAT_PRESERVING      `8302-5510-7711-9027`                 no (*)      yes   long numbers
=====================  ====================================  ==========  ====  ====================

(*) The key does lead back from a format-preserved number, but the text does not say which numbers
were exchanged, so `reverse_protection` cannot.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from privacy_core.redaction import operators
from privacy_core.redaction.findings import Finding
from privacy_core.redaction.operators import Operator, Scope
from privacy_core.redaction.rewriting import Replacement
from privacy_finetuner.context.results import SealedEntry
from privacy_finetuner.errors import ConfigurationError
from privacy_runtime.world import SystemClock, SystemEntropy

if TYPE_CHECKING:
    from privacy_runtime.pseudonyms.keys import RedactionKeys
    from privacy_runtime.pseudonyms.vault import SessionVault
    from privacy_runtime.world import Entropy

_KEY_BYTES: Final = 32
_BREAKS: Final = "\n\r\t"


class RedactionStrategy(StrEnum):
    """What takes the place of a value."""

    PII_REMOVAL = "pii_removal"
    ENTITY_HASHING = "entity_hashing"
    SEMANTIC_ENCRYPTION = "semantic_encryption"
    MASKING = "masking"
    GENERALIZATION = "generalization"
    SURROGATE = "surrogate"
    FORMAT_PRESERVING = "format_preserving"
    DROPPING = "dropping"

    @property
    def needs_key(self) -> bool:
        """Whether a key decides what stands in the text."""
        return self in _KEYED

    @property
    def leads_back(self) -> bool:
        """Whether `reverse_protection` can find it in a text and undo it, without a vault."""
        return self is RedactionStrategy.SEMANTIC_ENCRYPTION


_KEYED: Final = frozenset(
    {
        RedactionStrategy.ENTITY_HASHING,
        RedactionStrategy.SEMANTIC_ENCRYPTION,
        RedactionStrategy.SURROGATE,
        RedactionStrategy.FORMAT_PRESERVING,
    }
)

# What an onlooker still learns. Said by `explain_redactions`; facts and sources: docs/redaction.md.
LEAKS: Final[dict[str, str]] = {
    "placeholder": "the type, and within a document which mentions are the same value",
    "mask": "the length and the layout of the value",
    "drop": "that something is missing, where the sentence tells",
    "generalise": "the band, the year or the first digits",
    "hash": "the type, and in all documents of the tenant which mentions are the same value: "
    "the most frequent ones can be guessed from their frequency",
    "seal": "the type, the length, and in all documents of the tenant which mentions are the same "
    "value; with the key it is personal data still",
    "surrogate": "which mentions are the same value; and a reader may take it for true",
    "format_preserving": "the length and the form, and which mentions are the same value; changes "
    "to it are not noticed",
}


def strategies_of(names: Sequence[RedactionStrategy | str]) -> tuple[RedactionStrategy, ...]:
    """The strategies by name, each once.

    Raises:
        ConfigurationError: none is given, or a name is unknown; says the nearest.
    """
    found: list[RedactionStrategy] = []
    for name in names:
        known = [strategy.value for strategy in RedactionStrategy]
        key = str(name).strip().lower().replace("-", "_")
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
            raise ConfigurationError(f"there is no strategy {str(name)[:40]!r}{hint}")
        found.append(RedactionStrategy(key))
    if not found:
        raise ConfigurationError(
            "no strategy was given: name at least one, for example RedactionStrategy.PII_REMOVAL"
        )
    return tuple(dict.fromkeys(found))


def writing_strategies(
    strategies: Sequence[RedactionStrategy],
    vault: SessionVault | None = None,
    *,
    must_lead_back: bool,
) -> tuple[RedactionStrategy, ...]:
    """The strategies that may write into a text; with a vault surrogates lead back too.

    Raises:
        ConfigurationError: the text must lead back, and none of them does.
    """
    if not must_lead_back:
        return tuple(strategies)
    kept = () if vault is None else (RedactionStrategy.SURROGATE,)
    back = tuple(strategy for strategy in strategies if strategy.leads_back or strategy in kept)
    if not back:
        raise ConfigurationError(
            "reversible_redaction=True, and none of the strategies leads back: add "
            "RedactionStrategy.SEMANTIC_ENCRYPTION, or a vault for RedactionStrategy.SURROGATE"
        )
    return back


def keys_for(
    strategies: Sequence[RedactionStrategy],
    keys: RedactionKeys | None,
    vault: SessionVault | None,
    tenant: str,
    entropy: Entropy | None,
) -> tuple[RedactionKeys | None, str]:
    """The keys of a guard, and in hexadecimal the one that was made because none was given.

    Raises:
        ConfigurationError: there are keys beside the vault's, or it is another tenant's.
    """
    if vault is not None:
        if (keys is not None and keys is not vault.rows.keys) or vault.rows.tenant != tenant:
            raise ConfigurationError(
                f"the vault is of tenant {vault.rows.tenant!r} and has its keys, the guard is of "
                f"tenant {tenant!r} or was given others: give the vault alone, of the same tenant"
            )
        return vault.rows.keys, ""
    if keys is not None or not any(strategy.needs_key for strategy in strategies):
        return keys, ""
    from privacy_runtime.pseudonyms.keys import RedactionKeys as Keys  # noqa: PLC0415 -- slow

    master = (entropy or SystemEntropy()).token_bytes(_KEY_BYTES)
    return Keys.from_master(master), master.hex()


@dataclass(frozen=True, slots=True)
class _Line:
    """An operator that leaves line breaks and tabs where they were."""

    inner: Operator

    @property
    def name(self) -> str:
        """That of the operator inside."""
        return self.inner.name

    @property
    def reversible(self) -> bool:
        """As the operator inside."""
        return self.inner.reversible

    def replace(self, value: str, finding: Finding, scope: Scope) -> str:
        """Replace the value; where it goes over a break, part by part or as a whole before it."""
        if not any(sign in value for sign in _BREAKS):
            return self.inner.replace(value, finding, scope)
        if self.inner.reversible:  # part by part: what leads back must lead back exactly
            return "".join(
                part
                if part in _BREAKS or not part.strip()
                else self.inner.replace(part, finding, scope)
                for part in _parts(value)
            )
        breaks = "".join(sign for sign in value if sign in _BREAKS)
        stands = self.inner.replace(value, finding, scope)
        return "".join(" " if sign in _BREAKS else sign for sign in stands) + breaks


def _parts(value: str) -> list[str]:
    """The value cut at its breaks, which are parts of their own."""
    parts = [""]
    for sign in value:
        if sign in _BREAKS:
            parts += [sign, ""]
        else:
            parts[-1] += sign
    return [part for part in parts if part]


@dataclass(frozen=True, slots=True)
class OperatorChoice:
    """Which operator replaces a finding.

    Attributes:
        operators: in order of preference, each with whether it knows a finding.
    """

    operators: tuple[tuple[Operator, Callable[[Finding], bool]], ...] = field(repr=False)

    def __call__(self, finding: Finding) -> Operator:
        """The first that knows the finding; the last resort is a placeholder."""
        for operator, knows in self.operators:
            if knows(finding):
                return operator
        return _FALLBACK


_FALLBACK: Final[Operator] = _Line(operators.Placeholder())


def choice_of(
    strategies: Sequence[RedactionStrategy],
    keys: RedactionKeys | None,
    tenant: str,
    vault: SessionVault | None = None,
    *,
    preserve_structure: bool,
) -> OperatorChoice:
    """The operators of the strategies. What no strategy of the list knows gets a placeholder."""
    made = [_operator(strategy, keys, tenant, vault) for strategy in strategies]
    if preserve_structure:
        return OperatorChoice(tuple((_Line(operator), knows) for operator, knows in made))
    return OperatorChoice(tuple(made))


def _operator(
    strategy: RedactionStrategy,
    keys: RedactionKeys | None,
    tenant: str,
    vault: SessionVault | None = None,
) -> tuple[Operator, Callable[[Finding], bool]]:
    """The operator of one strategy, and what it knows."""
    plain: dict[RedactionStrategy, Callable[[], Operator]] = {
        RedactionStrategy.PII_REMOVAL: operators.Placeholder,
        RedactionStrategy.MASKING: operators.Mask,
        RedactionStrategy.DROPPING: operators.Drop,
    }
    if strategy in plain:
        return plain[strategy](), _everything
    if strategy is RedactionStrategy.GENERALIZATION:
        # Who is over 89 depends on the year; without it no date of birth has a coarse form.
        generalise = operators.Generalise(this_year=SystemClock().now().year)
        return generalise, generalise.knows
    if keys is None:
        raise ConfigurationError(f"the strategy {strategy.value!r} needs a key; nothing was done")
    return _keyed(strategy, keys, tenant, vault)


def _keyed(
    strategy: RedactionStrategy, keys: RedactionKeys, tenant: str, vault: SessionVault | None
) -> tuple[Operator, Callable[[Finding], bool]]:
    from privacy_runtime import pseudonyms  # noqa: PLC0415 -- loads cryptography

    match strategy:
        case RedactionStrategy.ENTITY_HASHING:
            return pseudonyms.EntityHasher(keys, tenant), _everything
        case RedactionStrategy.SEMANTIC_ENCRYPTION:
            return pseudonyms.TokenCipher(keys, tenant), _everything
        case RedactionStrategy.SURROGATE:
            rows = None if vault is None else vault.rows
            maker = pseudonyms.SurrogateMaker(keys, tenant, rows=rows, otherwise=vault)
            return maker, _everything
        case _:
            preserving = pseudonyms.FormatPreserving(keys, tenant)
            return preserving, preserving.knows


def _everything(_finding: Finding) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Sealing:
    """What a redaction map keeps of each value besides the replacement.

    Attributes:
        seal: makes the token of a value; None: the value itself is kept, unshown.
        digest: makes its keyed hash.
    """

    seal: Operator | None = field(repr=False)
    digest: Operator | None = field(repr=False)

    @classmethod
    def of(
        cls, strategies: Sequence[RedactionStrategy], keys: RedactionKeys | None, tenant: str
    ) -> Sealing:
        """As the strategies of a list say."""
        made = {
            strategy: _operator(strategy, keys, tenant)[0]
            for strategy in (
                RedactionStrategy.SEMANTIC_ENCRYPTION,
                RedactionStrategy.ENTITY_HASHING,
            )
            if strategy in strategies
        }
        return cls(
            made.get(RedactionStrategy.SEMANTIC_ENCRYPTION),
            made.get(RedactionStrategy.ENTITY_HASHING),
        )

    @property
    def is_authentic(self) -> Callable[[str], bool] | None:
        """Tells a genuine token from what only looks like one, where there is a key."""
        return getattr(self.seal, "is_authentic", None)

    def entry(self, value: str, done: Replacement) -> SealedEntry:
        """The entry of one replacement."""
        scope = Scope()
        return SealedEntry(
            label=done.label,
            replacement=done.replaced_by,
            digest=self.digest.replace(value, done.finding, scope) if self.digest else "",
            sealed=self.seal.replace(value, done.finding, scope) if self.seal else "",
            value=None if self.seal else value,
        )
