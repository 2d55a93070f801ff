"""Redaction of training records, one by one, before they become tokens.

It leaves differential privacy as it is. Each record is mapped by itself, by a function that knows
no other record and no chance: two data sets that differ in one record (or in one user's records)
differ after the mapping in at most that record (or those). What holds for neighbouring data sets
of the mapped records therefore holds for the records as they were given. That is why what operators
remember ends with the record (`operators.Scope`): no session, no numbering across records, no list
of the surrogates given so far.

What was found is not part of the guarantee: counts of it are exact counts of private data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from privacy_finetuner.context.guard import ContextGuard
from privacy_finetuner.context.pieces import Piece, edited
from privacy_finetuner.context.strategies import RedactionStrategy
from privacy_finetuner.errors import DatasetError
from privacy_finetuner.training.records import read_records

if TYPE_CHECKING:
    from privacy_finetuner.options import Source, TrainOptions

_LEARNED = ("text", "prompt", "completion")


class RecordRedaction:
    """Replaces values in training records by placeholders, and counts.

    Guarantee: deterministic and record by record; labels, user fields and all other fields stay.

    Args:
        guard: what redacts; left out: placeholders, with the names that are shipped.
    """

    def __init__(self, guard: ContextGuard | None = None) -> None:
        self._guard = guard or ContextGuard([RedactionStrategy.PII_REMOVAL])
        self._level = ""
        self._counts: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"RecordRedaction(level={self._level!r})"

    @property
    def counts(self) -> dict[str, int]:
        """How many values of each type were replaced in the records that were read last.

        Exact counts of private data: outside the guarantee, for the holder of the records.
        """
        return dict(sorted(self._counts.items()))

    @property
    def note(self) -> str:
        """What was applied, without a count: it may stand in a published result."""
        return (
            f"ContextGuard redacted the records before tokenisation: level {self._level}, "
            f"{', '.join(s.value for s in self._guard.strategies)}, record by record; what it did "
            "not find was trained on, and is protected by differential privacy alone. Counts are "
            "outside the guarantee and not given here"
        )

    def applied(self, source: Source, options: TrainOptions) -> tuple[Source, TrainOptions]:
        """The records with values replaced, and the options that read them.

        Raises:
            DatasetError: the records cannot be read.
        """
        self._level = options.redact
        self._counts = Counter()
        public = options.eval_dataset
        return self._rows(source, options), replace(
            options,
            text_field="text",
            label_field="label",
            eval_dataset=None if public is None else self._rows(public, options, counted=False),
        )

    def _rows(self, source: Source, options: TrainOptions, *, counted: bool = True) -> Source:
        records = read_records(
            source,
            text_field=options.text_field,
            label_field=options.label_field,
            user_field=options.user_field,
        )
        return [self._redacted(row, options.redact, counted) for row in records.rows]

    def _redacted(self, row: Mapping[str, Any], level: str, counted: bool) -> dict[str, Any]:
        fields = [name for name in _LEARNED if isinstance(row.get(name), str)]
        turns = list(row.get("messages") or ()) if "messages" in row else []
        pieces = [Piece(str(row[name])) for name in fields]
        pieces += [Piece(str(turn["content"])) for turn in turns]
        made = self._guard.protect_pieces(pieces, sensitivity_level=level)
        if counted:
            self._counts.update(entity.label for entity in made.entities)
        texts = [edited(piece.text, e) for piece, e in zip(pieces, made.edits, strict=True)]
        changed: dict[str, Any] = {**row, **dict(zip(fields, texts, strict=False))}
        if turns:
            contents = texts[len(fields) :]
            changed["messages"] = [
                {**turn, "content": content} for turn, content in zip(turns, contents, strict=True)
            ]
        return changed


def taken(
    source: Source, options: TrainOptions, redaction: RecordRedaction | None, *, gateway: bool
) -> tuple[Source, TrainOptions]:
    """Records as they are trained on: read through the gateway and redacted, as was asked for.

    Raises:
        DatasetError: an MCP resource, and the gateway is not to be used; or it cannot be read.
    """
    rows = _fetched(source, use_mcp_gateway=gateway)
    return (rows, options) if redaction is None else redaction.applied(rows, options)


def _fetched(source: Source, *, use_mcp_gateway: bool) -> Source:
    """The records themselves, where a data set is named by the address of an MCP resource."""
    if not isinstance(source, str) or not source.startswith("mcp://"):
        return source
    if not use_mcp_gateway:
        raise DatasetError(
            f"{source} is an MCP resource, and use_mcp_gateway is False; nothing was read or spent"
        )
    from privacy_finetuner.context.gateway import resources  # noqa: PLC0415 -- loads the SDK

    return resources.read_records(source)
