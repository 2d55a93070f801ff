"""Secrets do not show themselves, and are found where they are said to be."""

from __future__ import annotations

import copy
import importlib.util
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from privacy_runtime.secret import Secret
from privacy_runtime.settings.domains import Address, without_password
from privacy_runtime.settings.expansion import CannotExpand, escaped, expand, names_in
from privacy_runtime.settings.faults import SecretUnavailable
from privacy_runtime.settings.secrets import MOST_SECRET_BYTES, Lookup, VaultStore

HUNTER = "hunter2-and-more"


def lookup(folder: Path | None = None, **variables: str) -> Lookup:
    return Lookup(variables, folder=folder or Path("/nonexistent"))


def test_a_secret_shows_itself_to_nobody_but_reveal() -> None:
    secret = Secret(HUNTER)

    shown = [repr(secret), str(secret), f"{secret}", f"{secret!r:>40}", repr([secret])]
    assert all(HUNTER not in text and "Secret(***)" in text for text in shown)
    assert secret.reveal() == HUNTER
    assert secret == Secret(HUNTER)
    assert secret != Secret("other")
    assert secret != HUNTER
    assert len({secret, Secret(HUNTER)}) == 1
    for take in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            take(secret)


def test_a_lookup_does_not_print_what_it_looks_in() -> None:
    found = lookup(DB_KEY=HUNTER)

    assert HUNTER not in repr(found)
    assert HUNTER not in repr(found.find("DB_KEY"))


def test_a_variable_its_file_and_the_mounted_folder_in_that_order(tmp_path: Path) -> None:
    (tmp_path / "db_key").write_text("mounted\n")
    (tmp_path / "other").write_text("pointed\r\n")
    pointer = str(tmp_path / "other")

    def found(**variables: str) -> tuple[str, bool]:
        result = lookup(tmp_path, **variables).find("DB_KEY")
        assert result is not None
        return result.text, result.is_secret

    assert found() == ("mounted", True)
    assert found(DB_KEY_FILE=pointer) == ("pointed", True)
    assert found(DB_KEY="set") == ("set", True)
    assert lookup(tmp_path).find("NOTHING") is None
    with pytest.raises(SecretUnavailable, match="both set"):
        found(DB_KEY="set", DB_KEY_FILE=pointer)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "No such file"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff\xfe", "not UTF-8"),
        (b"x" * (MOST_SECRET_BYTES + 1), "bytes"),
    ],
)
def test_a_secret_file_that_holds_none_is_refused(
    tmp_path: Path, data: bytes | None, words: str
) -> None:
    path = tmp_path / "s"
    if data is not None:
        path.write_bytes(data)

    with pytest.raises(SecretUnavailable, match=words):
        lookup(S_FILE=str(path)).find("S")


def test_references_are_filled_in_once_and_only_where_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-file")
    here = lookup(A="1", B="${A}", EMPTY="")

    cases = {
        "x${A}y": "x1y",
        "${B}": "${A}",
        "$$A": "$A",
        "$${A}": "${A}",
        "${EMPTY:-d}": "d",
        "${NONE:-d e}": "d e",
        "${NONE:-}": "",
        "${A:?needed}": "1",
        f"${{file:{tmp_path}/key}}": "from-file",
        "plain": "plain",
    }
    assert {text: expand(text, here).text for text in cases} == cases
    assert expand("${A}", here).is_whole
    assert not expand("${A} ", here).is_whole
    assert list(names_in("${A}$${B}${file:C}")) == ["A"]
    assert expand(escaped("a$b${A}$$"), here).text == "a$b${A}$$"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("${NONE}", "NONE, which is not set.*NONE_FILE"),
        ("${EMPTY}", "which is empty"),
        ("${NONE:?ask the officer}", "not set: ask the officer"),
        ("costs $5", "begins no reference"),
        ("$HOME", "begins no reference"),
        ("${a b}", "begins no reference"),
        ("${}", "begins no reference"),
        ("${A", "begins no reference"),
        ("${file:/nonexistent/x}", "No such file"),
        ("${A_FILE}${A}", "both set"),
    ],
)
def test_a_reference_that_leads_nowhere_is_refused(text: str, words: str) -> None:
    here = lookup(EMPTY="", A="1", A_FILE="/x")

    with pytest.raises(CannotExpand, match=words):
        expand(text, here)


class Vault:
    """A client that answers as the key-value store of version 2 does."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data
        self.secrets = SimpleNamespace(kv=SimpleNamespace(v2=self))

    def read_secret_version(
        self, *, path: str, mount_point: str, raise_on_deleted_version: bool
    ) -> dict[str, Any]:
        assert raise_on_deleted_version
        if f"{mount_point}/{path}" not in self.data:
            raise LookupError(f"token {HUNTER} may not")
        return {"data": {"data": self.data[f"{mount_point}/{path}"], "metadata": {"version": 1}}}


def test_vault_is_asked_for_mount_path_and_field() -> None:
    store = VaultStore(Vault({"secret/app/db": {"password": HUNTER, "port": 5}}))
    here = Lookup({}, vault=store)

    assert expand("${vault:secret/app/db#password}", here).text == HUNTER
    assert expand("${vault:secret/app/db#password}", here).is_secret
    for reference, words in (
        ("secret/app/db", "is not MOUNT/PATH#FIELD"),
        ("secret/app/other#x", "was not given: LookupError"),
        ("secret/app/db#port", "no text under that field"),
    ):
        with pytest.raises(CannotExpand, match=words) as caught:
            expand(f"${{vault:{reference}}}", here)
        assert HUNTER not in str(caught.value)


@pytest.mark.skipif(importlib.util.find_spec("hvac") is not None, reason="hvac is installed")
def test_vault_without_its_package_says_what_to_do() -> None:
    with pytest.raises(CannotExpand, match=r"hvac, which is not installed.*as a file"):
        expand("${vault:secret/app#x}", Lookup({}))


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://u:p@h:5432/db", "postgresql://u:***@h:5432/db"),
        ("postgresql://u:p%40q@h/db?password=z#p", "postgresql://u:***@h/db?***"),
        ("postgresql://u@h/db", "postgresql://u@h/db"),
        ("redis://:p@h/0", "redis://:***@h/0"),
        ("sqlite:///x.db", "sqlite:///x.db"),
    ],
)
def test_an_address_is_shown_without_what_is_secret(address: str, shown: str) -> None:
    assert without_password(address) == shown
    domain = Address(("postgresql", "redis"), hostless=("sqlite",))
    assert repr(domain.read(address)) == f"Secret({shown})"
