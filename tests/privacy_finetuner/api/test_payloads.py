"""Thousands of attacks through every text that the API takes: nothing is opened, run or reflected.

An audit hook of the interpreter (PEP 578) watches the whole process meanwhile: which files are
opened, what is executed, where a connection goes. It sees what any library does, below all code of
ours.
"""

from __future__ import annotations

import json
import os
import sys
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient
from tests.privacy_finetuner.api.conftest import House, house_in
from tests.privacy_finetuner.api.payloads import generated, vectors
from tests.privacy_finetuner.api.test_schema import ENDS_SESSIONS, able

ROOT = Path(__file__).resolve().parents[3]
FEW, MANY = 15, 100
"""Attacks through each text: by default, and in the slow test."""
NOT_SENT = {("generate", "body.prompt"): "starts a process that loads a model for each"}
_RUNS = ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "os.spawn", "pty.spawn")
_CONNECTS = ("socket.connect", "socket.sendto")


@dataclass
class Watch:
    """What happened in this process while it was on."""

    allowed: tuple[str, ...] = ()
    is_on: bool = False
    seen: list[str] = field(default_factory=list)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.is_on:
            return
        if event == "open":
            self._opened(arguments[0])
        elif event.startswith(_RUNS) or event in _CONNECTS:
            self.seen.append(f"{event} {arguments!r}"[:300])

    def _opened(self, path: Any) -> None:
        if isinstance(path, int) or path is None:
            return
        place = os.path.realpath(os.fsdecode(path))
        if not f"{place}{os.sep}".startswith(self.allowed):
            self.seen.append(f"open {place!r}")

    @contextmanager
    def on(self, *roots: Path) -> Iterator[list[str]]:
        """Watch; only below these roots, and where Python itself lives, may a file be opened."""
        interpreter = {*sysconfig.get_paths().values(), sys.prefix, sys.base_prefix}
        folders = [*map(str, roots), *interpreter, str(ROOT / "src")]
        self.allowed = tuple(os.path.realpath(each) + os.sep for each in (*folders, os.devnull))
        self.seen, self.is_on = [], True
        try:
            yield self.seen
        finally:
            self.is_on = False


WATCH = Watch()


@pytest.fixture(scope="module")
def watch() -> Watch:
    """The hook; it cannot be taken out again, only be quiet."""
    sys.addaudithook(WATCH)
    return WATCH


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    house = house_in(tmp_path_factory.mktemp("payloads") / "home")
    yield house
    house.service.close()


@pytest.fixture(scope="module")
def client(house: House) -> Iterator[TestClient]:
    with TestClient(house.app, raise_server_exceptions=False) as made:
        yield made


@dataclass(frozen=True)
class Slot:
    """One text of one operation: where a payload goes."""

    operation: str
    method: str
    path: str
    scope: str
    where: tuple[Any, ...]
    body: Any
    query: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        return ".".join(map(str, self.where))

    def request(self, payload: str) -> dict[str, Any]:
        """The request with the payload in its place, and everything else right."""
        kind, *rest = self.where
        path, query, body = self.path, dict(self.query), self.body
        if kind == "path":
            path = path.replace(f"{{{rest[0]}}}", quote(payload, safe="", errors="replace"))
        elif kind == "query":
            query[rest[0]] = payload.encode("utf-8", "replace").decode()
        elif kind == "body":
            body = _put(body, rest, payload)
        while "{" in path:  # another parameter: an id that nothing has
            start, end = path.index("{"), path.index("}")
            path = f"{path[:start]}none{path[end + 1 :]}"
        content = None if body is None else json.dumps(body).encode()
        return {"method": self.method, "url": path, "params": query, "content": content}


def _put(body: Any, where: list[Any], payload: str) -> Any:
    if not where:
        return payload
    head, *rest = where
    if head == 0:
        return [_put(next(iter(body or ()), None), rest, payload)]
    return {**(body or {}), head: _put((body or {}).get(head), rest, payload)}


class Shapes:
    """Right values from the document's schemas, and where in them a text stands."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._schemas = document["components"]["schemas"]

    def plain(self, schema: dict[str, Any]) -> dict[str, Any]:
        """A schema without references and without alternatives that are null."""
        while "$ref" in schema or "anyOf" in schema or "oneOf" in schema:
            if "$ref" in schema:
                schema = self._schemas[schema["$ref"].rpartition("/")[2]]
            else:
                kinds = schema.get("anyOf") or schema["oneOf"]
                beside = {k: v for k, v in schema.items() if k not in ("anyOf", "oneOf")}
                schema = {**beside, **next(k for k in kinds if k.get("type") != "null")}
        return schema

    def value(self, schema: dict[str, Any]) -> Any:
        """A right value; of objects, what is required."""
        schema = self.plain(schema)
        for key in ("const", "default"):
            if schema.get(key) is not None:
                return schema[key]
        for key in ("examples", "enum"):
            if schema.get(key):
                return schema[key][0]
        match schema.get("type"):
            case "object":
                required = schema.get("required", ())
                return {name: self.value(schema["properties"][name]) for name in required}
            case "array":
                return [self.value(schema["items"])] * max(1, schema.get("minItems", 1))
            case "integer" | "number":
                return schema.get("minimum", 1)
            case "boolean":
                return True
        return "x" * max(4, schema.get("minLength", 4))

    def texts(self, schema: dict[str, Any], depth: int = 0) -> Iterator[tuple[Any, ...]]:
        """Where texts stand, optional ones too."""
        schema = self.plain(schema)
        if schema.get("type") == "object" and depth < 4:
            for name, inner in schema.get("properties", {}).items():
                yield from ((name, *rest) for rest in self.texts(inner, depth + 1))
        elif schema.get("type") == "array" and depth < 4:
            yield from ((0, *rest) for rest in self.texts(schema["items"], depth + 1))
        elif schema.get("type") == "string" or "type" not in schema:
            yield ()


def slots_of(house: House) -> list[Slot]:
    """Every text of every operation."""
    document = house.app.openapi()
    shapes, found = Shapes(document), []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            media = operation.get("requestBody", {}).get("content", {})
            schema = next((content["schema"] for content in media.values()), None)
            body = None if schema is None else shapes.value(schema)
            places = [("body", *each) for each in shapes.texts(schema)] if schema else []
            for parameter in operation.get("parameters", ()):
                if parameter["in"] in ("path", "query"):
                    places.append((parameter["in"], parameter["name"]))
            found += [
                Slot(
                    operation=operation["operationId"],
                    method=method.upper(),
                    path=path,
                    scope=operation.get("x-scope", "none"),
                    where=place,
                    body=body,
                )
                for place in places
            ]
    return [each for each in found if (each.operation, each.name) not in NOT_SENT]


def send(house: House, client: TestClient, slot: Slot, payload: str) -> str | None:
    """Send one attack; returns what is wrong with the answer."""
    at = "east" if slot.operation in ENDS_SESSIONS else "north"
    member = house.member(able(slot.scope), at=at)
    headers = {**member.headers, "Content-Type": "application/json"}
    with client.stream(headers=headers, **slot.request(payload)) as answer:
        kind = answer.headers.get("content-type", "")
        text = "" if "event-stream" in kind else answer.read().decode("utf-8", "replace")
    said = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
    if answer.status_code >= 500:
        return f"{answer.status_code}: {text[:200]}"
    if "x-injected" in answer.headers or "x=1" in answer.headers.get("set-cookie", ""):
        return f"a header was injected: {said}"
    if answer.headers.get("x-content-type-options") != "nosniff":
        return f"a browser may guess what {kind!r} is"
    if "html" in kind and "<" in payload and payload in text:
        return "reflected in HTML"
    if kind.startswith(("application/json", "application/problem+json")) and text:
        json.loads(text)
    return None


def attacked(house: House, client: TestClient, watch: Watch, texts: list[str], count: int) -> int:
    """Send `count` texts through every slot, going round in the texts; returns how many."""
    for role in {able(slot.scope) for slot in slots_of(house)}:
        house.member(role)
        house.member(role, at="east")
    for slot in slots_of(house):  # what is loaded with the first request is loaded before
        send(house, client, slot, "plain")
    wrong: dict[str, str] = {}
    source, sent = cycle(texts), 0
    with watch.on(house.service.home) as seen:
        for slot in slots_of(house):
            for payload in islice(source, count):
                said = send(house, client, slot, payload)
                sent += 1
                if said is not None:
                    wrong.setdefault(f"{slot.operation} {slot.name}", f"{payload!r}: {said}")
    assert wrong == {}
    assert sorted(set(seen)) == []
    return sent


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_attacks_open_run_and_reflect_nothing(
    house: House, client: TestClient, watch: Watch
) -> None:
    texts = generated()
    assert len(texts) >= 2000
    sent = attacked(house, client, watch, texts, FEW)
    assert sent >= 2000


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_vector_of_the_rule_set_opens_runs_and_reflects_nothing(
    house: House, client: TestClient, watch: Watch, shared_data: Path
) -> None:
    texts = [*vectors(shared_data), *generated()]
    slots = len(slots_of(house))
    assert attacked(house, client, watch, texts, MANY) == MANY * slots >= 10_000


def test_the_watch_sees_what_it_is_for(watch: Watch, tmp_path: Path) -> None:
    with watch.on(tmp_path / "allowed") as seen:
        (tmp_path / "other").write_text("x")
        os.system("true")  # noqa: S605, S607  the very thing
        worker = threading.Thread(target=lambda: (tmp_path / "third").write_text("x"))
        worker.start()
        worker.join()

    assert [each.split()[0] for each in seen] == ["open", "os.system", "open"]
