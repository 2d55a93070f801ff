"""`audit verify`: an honest trail is intact, and every change of it is found."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from federated_dp_llm.api.service import Service
from federated_dp_llm.cli.entry import main
from federated_dp_llm.config import RouterConfig


def run(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--json"])
    return int(str(ended.value.code or 0)), json.loads(capsys.readouterr().out)


def opened(home: Path) -> Service:
    return Service.open(
        RouterConfig.read(None, variables={}, environment="testing", store={"home": str(home)})
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A router's home after two runs."""
    home = tmp_path_factory.mktemp("router") / "home"
    for run_ in ("first", "second"):
        with opened(home) as service:
            service.audit.log_security_event("doctor", run_, success=True)
            service.audit.log_privacy_event("doctor", "refused", 0.5)
    return home


@pytest.fixture
def home(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "home"))


def test_an_honest_trail_is_intact_and_signed_to_its_end(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = run("audit", "verify", str(home), capsys=capsys)

    assert (code, found["intact"]) == (0, True)
    streams = {one["stream"]: one for one in found["streams"]}
    assert {"privacy", "router", "security"} <= set(streams)
    assert streams["security"]["signed_heads"] == 2
    assert all(one["entries"] == one["signed_until"] for one in streams.values())


def _rewritten(home: Path) -> None:
    with sqlite3.connect(home / "journal.db") as database:
        (table,) = (
            name
            for (name,) in database.execute("select name from sqlite_master where type='table'")
            if name.endswith("entries")
        )
        database.execute(f"update {table} set body_text = replace(body_text, 'doctor', 'nobody')")  # noqa: S608
    database.close()


def _stripped(home: Path) -> None:
    """Take the ML-DSA signatures away, as somebody with a quantum computer's Ed25519 would."""
    file = home / "audit-heads.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        del line["post_quantum"]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _forged(home: Path) -> None:
    """Another Ed25519 signature beside the right ML-DSA one."""
    file = home / "audit-heads.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        line["signature"] = line["signature"][::-1]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize(
    ("change", "code"),
    [(_rewritten, "chain_broken"), (_stripped, "anchor_refused"), (_forged, "anchor_refused")],
)
def test_what_was_changed_is_found(
    home: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Path], None],
    code: str,
) -> None:
    change(home)

    status, found = run("audit", "verify", str(home), capsys=capsys)

    assert status == 1
    assert found["error"]["code"] == code


def test_another_key_does_not_vouch(
    home: Path, written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with opened(tmp_path / "other"):
        pass
    key = tmp_path / "other" / "audit-key.pem.pub"

    status, found = run("audit", "verify", str(home), "--key", str(key), capsys=capsys)

    assert (status, found["error"]["code"]) == (1, "anchor_refused")


def test_a_router_does_not_start_on_an_older_journal_or_without_the_key(home: Path) -> None:
    from privacy_core.errors import InvalidParameter
    from privacy_runtime.journal import JournalWentBack

    (home / "journal.db").unlink()
    with pytest.raises(JournalWentBack):
        opened(home)
    (home / "audit-key.pem").unlink()
    with pytest.raises(InvalidParameter, match="without its key"):
        opened(home)
