"""Reading training records: a path, a list or a `datasets.Dataset` becomes one frozen value.

No torch and no tokenizer here. Every refusal names the file, the line or record number and the
fields, and never the data: texts, labels and user identifiers do not appear in errors or reprs.

=================  ==========================================  ====================================
kind               fields of every record                      learned from
=================  ==========================================  ====================================
"chat"             `messages`: list of {role, content}         the assistant's turns
"completion"       `prompt` and `completion`                   the completion
"classification"   `text` and `label` (str or int)             the label (or the text, as "text")
"text"             `text`                                      the whole text
=================  ==========================================  ====================================

A record that fits several rows of the table is read as the first of them. A field that is null
counts as absent.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, cast

import numpy as np

from privacy_finetuner.errors import ConfigurationError, DatasetError
from privacy_finetuner.training.record_files import rows_of_path

__all__ = [
    "LabelSpace",
    "RecordKind",
    "Records",
    "Row",
    "label_space",
    "read_records",
]

RecordKind: TypeAlias = Literal["chat", "completion", "classification", "text"]
Row: TypeAlias = Mapping[str, object]

_ROLES = ("system", "developer", "user", "assistant", "tool")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SHOWN = 12  # names of fields quoted in an error; a wide table would hide the message


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Records:
    """Validated records of one kind, in the order they were read.

    Guarantee: every row has the fields of its kind with the right types and some text to learn
    from. The repr shows sizes only.

    `fingerprint` is a SHA-256 over the canonical JSON of all records, independent of their order.
    It is computed from private data: it lets one run recognise its data, and is not for publishing
    (a holder can confirm a guess of the whole set).
    """

    kind: RecordKind
    rows: tuple[Row, ...]
    fields: tuple[str, ...]
    fingerprint: str
    source: str

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def number(self) -> int:
        """How many records there are; at least 1."""
        return len(self.rows)

    def __repr__(self) -> str:
        return f"Records(kind={self.kind!r}, number={len(self.rows)}, fields={len(self.fields)})"

    def users(self, field: str) -> list[str]:
        """The value of `field` in every record, as text, to name the unit of privacy.

        An integer and its decimal text name the same user: joining two users protects more than
        parting one.

        Raises:
            DatasetError: a record lacks the field, or its value is empty or neither text nor int.
        """
        return [_user(row, field, where=_where(self.source, i)) for i, row in enumerate(self.rows)]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSpace:
    """The classes of a classification task. The names are public, unlike who has which.

    `names[k]` is the name of class `k`; classes given by number are named by their digits.
    """

    names: tuple[str, ...]

    @property
    def size(self) -> int:
        """The number of classes; at least 2."""
        return len(self.names)


def read_records(
    source: object,
    *,
    text_field: str = "text",
    label_field: str = "label",
    prompt_field: str = "prompt",
    completion_field: str = "completion",
    messages_field: str = "messages",
    user_field: str | None = None,
) -> Records:
    """Read and validate training records.

    ==============================  ===============================================================
    source                          is read as
    ==============================  ===============================================================
    path to .jsonl                  one JSON object a line; blank lines are skipped
    path to .json                   one JSON list of objects
    path to .csv                    a header line, then rows; labels that are all integers are ints
    path to .txt                    one record a line; blank lines are skipped
    path to .parquet                one record a row
    folder                          its files of those kinds by name; all must be of one kind
    list of dicts, list of str      itself; a string is a record with only a text
    `datasets.Dataset`              its rows
    ==============================  ===============================================================

    Files are UTF-8; a byte order mark and Windows line ends are accepted.

    Args:
        source: see the table.
        text_field: the field that holds the text; the records returned call it `text`.
        label_field: the field that holds the label (`label`).
        prompt_field: the field that holds the prompt (`prompt`).
        completion_field: the field that holds the completion (`completion`).
        messages_field: the field that holds the conversation (`messages`).
        user_field: when given, every record must name its unit of privacy there.

    Raises:
        DatasetError: nothing there, not readable, or a record is not one of the four shapes.
        ConfigurationError: two of the field names are equal.
    """
    names = {
        "messages": messages_field,
        "prompt": prompt_field,
        "completion": completion_field,
        "text": text_field,
        "label": label_field,
    }
    if len(set(names.values())) < len(names):
        raise ConfigurationError("two of the field names given are equal; nothing was read")
    rows, label = _rows_of(source, text_field=text_field, label_field=label_field)
    if not rows:
        raise DatasetError(f"{label} holds no records")
    kinds = Counter(_kind(row, names, _where(label, i)) for i, row in enumerate(rows))
    if len(kinds) > 1:
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        raise DatasetError(f"{label} mixes kinds of records ({counts}); one kind was expected")
    kind = next(iter(kinds))
    own = {key: names[key] for key in _KIND_FIELDS[kind]}
    valid = tuple(_validated(row, kind, own, _where(label, i)) for i, row in enumerate(rows))
    records = Records(
        kind=kind,
        rows=valid,
        fields=tuple(sorted({field for row in valid for field in row})),
        fingerprint=_fingerprint(valid),
        source=label,
    )
    if user_field is not None:
        records.users(user_field)
    return records


def label_space(
    records: Records,
    *,
    label_names: Sequence[str] | None = None,
    num_labels: int | None = None,
) -> LabelSpace:
    """The classes of `records`: those given, or else those that occur.

    =====================  =================================================================
    labels are             classes
    =====================  =================================================================
    text, no names given   the distinct labels, sorted; `num_labels` must equal their number
    text, names given      the names; a label outside them is refused
    int                    0 .. n-1, n = `num_labels`, else the number of names, else max + 1
    =====================  =================================================================

    The set of classes is treated as public. Give `label_names` when which classes occur is itself
    private.

    Raises:
        DatasetError: records without labels, labels of both types, a label outside the classes,
            or fewer than two classes.
        ConfigurationError: `label_names` and `num_labels` disagree or repeat.
    """
    if records.kind != "classification":
        raise DatasetError(
            f"classification needs records with text and label; found kind {records.kind!r} "
            f"with fields {_quoted(records.fields)}"
        )
    if label_names is not None:
        if len(set(label_names)) < len(label_names):
            raise ConfigurationError(f"the {len(label_names)} label_names repeat a name")
        if num_labels is not None and num_labels != len(label_names):
            raise ConfigurationError(
                f"num_labels is {num_labels} and {len(label_names)} label_names were given"
            )
    labels = [row["label"] for row in records.rows]
    texts = [label for label in labels if isinstance(label, str)]
    ints = [label for label in labels if isinstance(label, int)]
    if texts and ints:
        raise DatasetError(
            f"{len(texts)} labels are text and {len(ints)} are integers; one type was expected"
        )
    names = _text_classes(texts, label_names, num_labels) if texts else None
    if names is None:
        names = _int_classes(ints, label_names, num_labels)
    if len(names) < 2:
        raise DatasetError(f"classification needs at least 2 classes; found {len(names)}")
    return LabelSpace(names=tuple(names))


_KIND_FIELDS: dict[RecordKind, tuple[str, ...]] = {
    "chat": ("messages",),
    "completion": ("prompt", "completion"),
    "classification": ("text", "label"),
    "text": ("text",),
}


def _rows_of(
    source: object, *, text_field: str, label_field: str
) -> tuple[list[Mapping[str, object]], str]:
    """The raw rows of a source and what to call it in errors."""
    if isinstance(source, str | Path):
        return rows_of_path(source, text_field=text_field, label_field=label_field)
    columns = getattr(source, "column_names", None)
    if isinstance(columns, Mapping):
        raise DatasetError(
            f"the data set has splits {_quoted(sorted(map(str, columns)))}; choose one of them"
        )
    if columns is None and not isinstance(source, list | tuple):
        raise DatasetError(
            f"records cannot be read from {type(source).__name__}; expected a path, a list of "
            "dicts or of strings, or a datasets.Dataset"
        )
    what = "the list" if columns is None else "the data set"
    rows: list[Mapping[str, object]] = []
    for i, row in enumerate(cast("Iterable[object]", source)):
        if isinstance(row, str):
            rows.append({text_field: row})
        elif isinstance(row, Mapping):
            rows.append(row)
        else:
            raise DatasetError(
                f"{_where(what, i)} is {type(row).__name__}; expected a dict or a string"
            )
    return rows, what


def _kind(row: Row, names: Mapping[str, str], where: str) -> RecordKind:
    """Which of the four shapes a row has: the first whose fields are all there."""
    present = {field for field, value in row.items() if value is not None}
    for kind, keys in _KIND_FIELDS.items():
        if all(names[key] in present for key in keys):
            return kind
    raise DatasetError(
        f"{where} has fields {_quoted(sorted(map(str, present)))}; expected "
        + ", or ".join(
            " and ".join(repr(names[key]) for key in keys) for keys in _KIND_FIELDS.values()
        )
    )


def _validated(row: Row, kind: RecordKind, names: Mapping[str, str], where: str) -> Row:
    """The row under the standard field names, its own fields checked; others kept as they are."""
    valid = {str(field): value for field, value in row.items() if field not in names.values()}
    for key, field in names.items():
        value = row[field]
        if key == "messages":
            valid[key] = _messages(value, where)
        elif key == "label":
            valid[key] = _text_or_int(value, field, where)
        else:
            valid[key] = _text(value, field, where, may_be_empty=key == "prompt")
    return valid


def _text(value: object, field: str, where: str, *, may_be_empty: bool = False) -> str:
    if not isinstance(value, str):
        raise DatasetError(f"{where}: field {field!r} is {type(value).__name__}, expected text")
    if not may_be_empty and not value.strip():
        raise DatasetError(f"{where}: field {field!r} is empty")
    if not value.isascii() and _SURROGATE.search(value):
        raise DatasetError(f"{where}: field {field!r} holds half of a surrogate pair, not Unicode")
    return value


def _text_or_int(value: object, field: str, where: str) -> str | int:
    if isinstance(value, str):
        return _text(value, field, where)
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return int(value)
    raise DatasetError(f"{where}: field {field!r} is {type(value).__name__}, expected text or int")


def _messages(value: object, where: str) -> list[dict[str, str]]:
    if not isinstance(value, list | tuple) or not value:
        found = "an empty list" if isinstance(value, list | tuple) else type(value).__name__
        raise DatasetError(f"{where}: messages is {found}, expected a list of {{role, content}}")
    turns: list[dict[str, str]] = []
    for k, turn in enumerate(value, start=1):
        spot = f"{where}, message {k}"
        if not isinstance(turn, Mapping):
            raise DatasetError(f"{spot} is {type(turn).__name__}, expected {{role, content}}")
        missing = [field for field in ("role", "content") if turn.get(field) is None]
        if missing:
            raise DatasetError(f"{spot} lacks {_quoted(missing)}")
        role = turn["role"]
        if role not in _ROLES:
            raise DatasetError(f"{spot}: role is not one of {_quoted(_ROLES)}")
        content = _text(turn["content"], "content", spot, may_be_empty=role != "assistant")
        turns.append({"role": str(role), "content": content})
    if not any(turn["role"] == "assistant" for turn in turns):
        raise DatasetError(f"{where}: no message has role 'assistant'; there is nothing to learn")
    return turns


def _user(row: Row, field: str, *, where: str) -> str:
    value = row.get(field)
    if value is None:
        raise DatasetError(
            f"{where} has no {field!r}, the field that names the unit of privacy; found "
            f"{_quoted(sorted(row))}"
        )
    return str(_text_or_int(value, field, where))


def _text_classes(
    texts: Sequence[str], label_names: Sequence[str] | None, num_labels: int | None
) -> Sequence[str]:
    if label_names is not None:
        known = set(label_names)
        unknown = sum(text not in known for text in texts)
        if unknown:
            raise DatasetError(f"{unknown} records have a label outside the {len(known)} given")
        return label_names
    names = sorted(set(texts))
    if num_labels is not None and num_labels != len(names):
        raise DatasetError(
            f"{len(names)} different labels were found and num_labels is {num_labels}; "
            "give label_names when some classes do not occur"
        )
    return names


def _int_classes(
    ints: Sequence[int], label_names: Sequence[str] | None, num_labels: int | None
) -> Sequence[str]:
    is_inferred = num_labels is None and label_names is None
    if num_labels is None:
        num_labels = len(label_names) if label_names is not None else max(ints) + 1
    outside = sum(not 0 <= label < num_labels for label in ints)
    if outside:
        raise DatasetError(f"{outside} labels are outside 0..{num_labels - 1}")
    # A stray huge label must not become a classifier head of that size.
    if is_inferred and num_labels > 10 * len(ints) + 1000:
        raise DatasetError(
            f"the labels ask for {num_labels} classes of {len(ints)} records; give num_labels"
        )
    return label_names if label_names is not None else [str(k) for k in range(num_labels)]


def _fingerprint(rows: Iterable[Row]) -> str:
    """SHA-256 of the sorted SHA-256s of each row's canonical JSON."""
    digests = sorted(
        hashlib.sha256(
            json.dumps(row, sort_keys=True, ensure_ascii=True, default=repr).encode()
        ).digest()
        for row in rows
    )
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _where(source: str, index: int) -> str:
    return f"record {index + 1} of {source}"


def _quoted(names: Sequence[str]) -> str:
    """Field names for an error, at most a dozen, each cut at 40 characters."""
    shown = ", ".join(repr(str(name)[:40]) for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"[{shown}]{more}"
