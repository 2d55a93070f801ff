"""Redaction of training records: a function of one record, or differential privacy is lost."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
from mcp.server import Server

from privacy_core.redaction.findings import Finding
from privacy_finetuner import ContextGuard, RedactionStrategy
from privacy_finetuner.context.gateway.policy import (
    Policy,
    RedactionPolicy,
    ServerPolicy,
    StdioTarget,
)
from privacy_finetuner.context.gateway.record_texts import records_of
from privacy_finetuner.context.gateway.resources import read_records
from privacy_finetuner.context.records import RecordRedaction
from privacy_finetuner.errors import DatasetError
from privacy_finetuner.options import TrainOptions
from privacy_runtime.pseudonyms.keys import RedactionKeys

OTHER = {"note": "Order 533215468 went to the north dock."}
FIRST = {"note": "nothing", "ssn": "533215468"}
KEYS = RedactionKeys.from_master(bytes(range(32)))


class TwoCapitals:
    """Two capitalised words are a person."""

    def detect(
        self, text: str, *, level: str = "medium", hints: Sequence[str] = ()
    ) -> tuple[Finding, ...]:
        return tuple(
            Finding(m.start(), m.end(), "PERSON", 0.99, "test", ())
            for m in re.finditer(r"[A-Z][a-z]+ [A-Z][a-z]+", text)
        )


def read(text: str, folder: Path) -> list[dict[str, Any]]:
    async def answer(ctx: Any, params: Any) -> types.ReadResourceResult:
        contents = types.TextResourceContents(uri=str(params.uri), text=text)
        return types.ReadResourceResult(contents=[contents])

    server = Server("data", on_read_resource=answer)
    policy = Policy(
        servers=(ServerPolicy(name="data", target=StdioTarget(command=("unused",))),),
        redaction=RedactionPolicy(names=False),
        journal=str(folder / "journal.db"),
    )
    return read_records("mcp://data/table://visits", policy=policy, targets=lambda _: server)


def is_changed(record: dict[str, Any]) -> bool:
    return "533215468" not in record["note"]


@pytest.mark.parametrize("form", ["list", "lines"])
def test_a_record_behind_an_mcp_address_is_redacted_as_if_it_were_alone(
    form: str, tmp_path: Path
) -> None:
    def written(*rows: Any) -> str:
        return json.dumps(rows) if form == "list" else "\n".join(map(json.dumps, rows))

    without = read(written(OTHER, OTHER), tmp_path)[-1]
    with_first = read(written(FIRST, OTHER), tmp_path)[-1]

    # Tokens differ by run; whether something stands there may not.
    assert is_changed(with_first) == is_changed(without)


def test_one_bad_line_of_json_lines_does_not_change_how_the_others_are_read() -> None:
    lines = [json.dumps({"text": f"visit {n}"}) for n in range(5)]
    try:
        found = records_of("\n".join([*lines, '{"text": "cut off']))
    except DatasetError:
        return
    assert len(found) >= 5


def test_a_line_separator_inside_a_string_does_not_end_a_record() -> None:
    lines = [json.dumps({"text": f"visit{mark} {mark}"}, ensure_ascii=False) for mark in "a\u2028b"]

    assert len(records_of("\n".join(lines))) == 3


@pytest.mark.parametrize("strategy", list(RedactionStrategy))
def test_every_strategy_maps_a_record_alike_in_any_company(strategy: RedactionStrategy) -> None:
    surrogate = ContextGuard([RedactionStrategy.SURROGATE], keys=KEYS, detector=TwoCapitals())
    texts = [
        *("Ann Lee, 536-22-1234", "Bob Ray wrote to Ann Lee", "Ann Lee [PERSON_2] Bob Ray"),
        surrogate.protect("Ann Lee").protected_text,
    ]

    def mapped(rows: Sequence[str], at: int) -> Any:
        guard = ContextGuard([strategy], keys=KEYS, detector=TwoCapitals())
        source, _ = RecordRedaction(guard).applied(
            [{"text": row} for row in rows], TrainOptions(redact="high")
        )
        return list(source)[at]  # type: ignore[arg-type]

    for at, text in enumerate(texts):
        assert mapped(texts, at) == mapped([text], 0) == mapped(texts[::-1], len(texts) - 1 - at)


def test_a_guard_with_surrogates_says_the_same_whatever_it_saw_before() -> None:
    def fresh() -> ContextGuard:
        return ContextGuard([RedactionStrategy.SURROGATE], keys=KEYS, detector=TwoCapitals())

    surrogate = fresh().protect("Ann Lee").protected_text
    used = fresh()
    used.protect("Ann Lee")

    assert used.protect(surrogate).protected_text == fresh().protect(surrogate).protected_text
