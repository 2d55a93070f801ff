"""Data sets behind `mcp://` addresses: read through the gateway, redacted, or refused in words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
from doubles import EMAIL, SSN, server_policy
from mcp.server import Server

from privacy_finetuner.context.gateway.policy import Policy, RedactionPolicy
from privacy_finetuner.context.gateway.record_texts import Shape, records_of, shape_of
from privacy_finetuner.context.gateway.resources import read_records
from privacy_finetuner.errors import DatasetError

ROWS = [{"text": f"Mail {EMAIL}, visit {n}."} for n in range(3)]
LINES = "\n".join(json.dumps(row) for row in ROWS)


def resource_server(text: str | None) -> Server[Any]:
    async def read(ctx: Any, params: Any) -> types.ReadResourceResult:
        if text is None:
            raise RuntimeError(f"no table for {SSN}")
        contents = types.TextResourceContents(uri=str(params.uri), text=text)
        return types.ReadResourceResult(contents=[contents])

    return Server("data", on_read_resource=read)


def policy_in(folder: Path) -> Policy:
    redaction = RedactionPolicy(names=False)
    servers = (server_policy("data"), server_policy("other"))
    return Policy(servers=servers, redaction=redaction, journal=str(folder / "journal.db"))


def test_records_arrive_redacted_with_one_token_for_one_value(tmp_path: Path) -> None:
    server = resource_server(LINES)

    rows = read_records(
        "mcp://data/table://visits", policy=policy_in(tmp_path), targets=lambda _: server
    )

    assert len(rows) == 3
    assert all(EMAIL not in row["text"] for row in rows)
    assert len({row["text"].split(",")[0] for row in rows}) == 1


def test_a_server_that_fails_says_nothing_of_the_data(tmp_path: Path) -> None:
    server = resource_server(None)

    with pytest.raises(DatasetError) as caught:
        read_records(
            "mcp://data/table://visits", policy=policy_in(tmp_path), targets=lambda _: server
        )

    assert SSN not in str(caught.value)
    assert "nothing was read or spent" in str(caught.value)


def test_an_address_that_names_no_server_of_the_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no server 'nobody' .it has: data, other"):
        read_records("mcp://nobody/x", policy=policy_in(tmp_path))


def test_without_a_policy_the_error_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="gateway init"):
        read_records("mcp://data/x", policy=tmp_path / "none.yaml")


def test_a_policy_that_is_none_is_refused_with_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text("servers:\n  data: {comand: [x]}\n")

    with pytest.raises(DatasetError, match=r"line 2: servers\.data\.comand"):
        read_records("mcp://data/x", environment={"PRIVACY_FINETUNER_GATEWAY_POLICY": str(path)})


@pytest.mark.parametrize(
    ("text", "shape", "records"),
    [
        ('[{"text": "a"}, {"text": "b"}]', None, [{"text": "a"}, {"text": "b"}]),
        ('{"text": "a"}\n\n{"text": "b"}\r\n', None, [{"text": "a"}, {"text": "b"}]),
        (
            'text,label\n"fine,\nsaid",1\nbad,0\n',
            Shape.TABLE,
            [{"text": "fine,\nsaid", "label": "1"}, {"text": "bad", "label": "0"}],
        ),
        ("One, two.\nThree.\n\nFour.", None, [{"text": "One, two.\nThree."}, {"text": "Four."}]),
        ("[PERSON] came.\n \n{2}", Shape.PROSE, [{"text": "[PERSON] came."}, {"text": "{2}"}]),
        ('["a", "b"]', None, [{"text": "a"}, {"text": "b"}]),
        (" \n", None, []),
    ],
    ids=["list", "lines", "csv", "prose", "named prose", "texts", "nothing"],
)
def test_a_text_is_read_as_what_it_is(
    text: str, shape: Shape | None, records: list[dict[str, Any]]
) -> None:
    assert records_of(text, shape) == records


@pytest.mark.parametrize(
    ("text", "shape", "place"),
    [
        ('{"text": "a"}\n{"text": "SECRET\n', None, "line 2 of"),
        ('{"text": "a"}\n["SECRET"]\n', None, "line 2 of"),
        ('["a", SECRET]', None, "line 1 column 7"),
        ('["a", 17]', None, "item 2 of"),
        ('{"a": "SECRET"}', Shape.LIST, "one dict"),
        ("text,label\nfine,1\nSECRET\n", Shape.TABLE, "line 3 of"),
        ('text,label\nfine,1\n"SECRET', Shape.TABLE, "line 3 of"),
        ("text,label\nSECRET,1\n", None, r"must end in \.csv"),
    ],
)
def test_a_record_that_cannot_be_read_is_an_error_with_its_place(
    text: str, shape: Shape | None, place: str
) -> None:
    with pytest.raises(DatasetError, match=place) as caught:
        records_of(text, shape)

    assert "SECRET" not in str(caught.value)
    assert "nothing was read or spent" in str(caught.value)


@pytest.mark.parametrize(
    ("address", "mime_type", "shape"),
    [
        ("file:///data/visits.jsonl", "text/plain", Shape.LINES),
        ("table://visits.csv", "", Shape.TABLE),
        ("mcp://data/file:///notes.TXT", "application/json", Shape.PROSE),
        ("table://visits", "application/json; charset=utf-8", Shape.LIST),
        ("table://visits", "text/plain", None),
        ("table://visits/v1.2", "", None),
    ],
)
def test_the_address_says_first_what_a_text_is(
    address: str, mime_type: str, shape: Shape | None
) -> None:
    assert shape_of(address, mime_type) is shape


def _read(text: str, folder: Path) -> list[dict[str, Any]]:
    server = resource_server(text)
    return read_records("mcp://data/table://t", policy=policy_in(folder), targets=lambda _: server)


def test_what_one_record_teaches_replaces_nothing_in_another(tmp_path: Path) -> None:
    plain = {"text": "The crane harbour-seven went to the north dock."}
    telling = {"text": "nothing", "ssn": "harbour-seven"}

    both = _read(json.dumps([telling, plain]), tmp_path)

    assert both[1] == plain
    assert "harbour-seven" not in json.dumps(both[0])


def test_a_record_that_cannot_be_examined_is_named_and_ends_the_read(tmp_path: Path) -> None:
    deep: Any = EMAIL
    for _ in range(200):
        deep = [deep]
    text = "\n".join([json.dumps({"text": "fine"}), json.dumps({"text": deep})])

    with pytest.raises(DatasetError, match="nothing was read or spent") as caught:
        _read(text, tmp_path)

    assert EMAIL not in str(caught.value)


def test_the_policy_of_a_read_has_only_the_server_that_is_read(tmp_path: Path) -> None:
    started: list[str] = []

    def target(server: Any) -> Any:
        started.append(server.name)
        return resource_server(LINES)

    policy = replace(policy_in(tmp_path))
    read_records("mcp://data/x", policy=policy, targets=target)

    assert started == ["data"]
