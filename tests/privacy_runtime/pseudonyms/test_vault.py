"""Session tokens lead back inside their session, while it lasts, and nowhere else."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy_core.errors import InvalidParameter
from privacy_core.redaction.findings import Finding
from privacy_core.redaction.marks import MarkKind, find_marks
from privacy_core.redaction.operators import Scope
from privacy_runtime.pseudonyms import Reason, RedactionKeys, SessionVault, VaultStore
from privacy_runtime.pseudonyms.errors import TenantDestroyed, VaultRefused
from privacy_runtime.testing import ManualClock, SeededEntropy
from privacy_runtime.world import SystemEntropy

FOUND = Finding(0, 3, "PERSON", 1.0, "test.rule")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(tmp_path: Path, clock: ManualClock) -> Iterator[VaultStore]:
    with VaultStore(tmp_path / "vault.db", clock) as store:
        yield store


@pytest.fixture
def keys(tmp_path: Path) -> RedactionKeys:
    return RedactionKeys.generate(SystemEntropy(), tmp_path / "keys.json", tenants=("other",))


@pytest.fixture
def vault(store: VaultStore, keys: RedactionKeys) -> SessionVault:
    return SessionVault(store, keys, session="one")


def test_a_token_is_short_and_leads_back(vault: SessionVault) -> None:
    token = vault.seal("Ann Lee", "PERSON")
    (mark,) = find_marks(token)

    assert (mark.kind, mark.label, len(token)) == (MarkKind.SESSION, "PERSON", 15)
    assert vault.reveal(f"ask {token}.").text == "ask Ann Lee."
    assert vault.is_authentic(token)


def test_equal_values_have_one_token_in_every_process_and_none_between_sessions(
    tmp_path: Path, store: VaultStore, keys: RedactionKeys, vault: SessionVault
) -> None:
    token = vault.seal("Ann", "PERSON")
    with VaultStore(tmp_path / "vault.db", ManualClock()) as again:
        assert SessionVault(again, keys, session="one").seal("Ann", "PERSON") == token
    others = [
        SessionVault(store, keys, session="two"),
        SessionVault(store, keys, "other", session="one"),
    ]
    for other in others:
        assert other.seal("Ann", "PERSON") != token
        assert other.reveal(token).text == token
        assert other.reveal(token).refused[0].reason is Reason.UNKNOWN_CODE


@pytest.mark.parametrize(
    "mangled",
    [
        "{t}",
        "{lower}",
        "{bare}",
        "`{bare}`",
        "**{t}**",
        "{t}'s",
        "{bare}'s",
        '"{t}"',
        "[ {bare} ]",
        "[PERSON\n{code}]",
        "[person {code}]",
        r"\[PERSON\_{code}\]",
    ],
)
def test_a_model_may_bend_a_token(vault: SessionVault, mangled: str) -> None:
    token = vault.seal("Ann Lee", "PERSON")
    bare = token[1:-1]
    text = mangled.format(t=token, bare=bare, lower=token.lower(), code=bare.rpartition("_")[2])
    done = vault.reveal(f"so {text} said")

    assert [found.value for found in done.restored] == ["Ann Lee"]


def test_a_guess_is_left_and_reported(vault: SessionVault) -> None:
    done = vault.reveal("[PERSON_7KQ2M3] and snake_case and [note_taking]")

    assert done.text == "[PERSON_7KQ2M3] and snake_case and [note_taking]"
    assert [(found.label, found.reason) for found in done.refused] == [
        ("PERSON", Reason.UNKNOWN_CODE)
    ]


def test_a_token_that_stands_in_the_text_already_is_not_newly_given(
    vault: SessionVault, store: VaultStore, keys: RedactionKeys
) -> None:
    token = SessionVault(store, keys, session="one").seal("Ann", "PERSON")
    vault.end_session()
    scope = Scope()
    scope.text = f"Ann wrote {token}"
    stands = vault.replace("Ann", FOUND, scope)

    assert stands != token
    assert vault.reveal(f"{stands} wrote {token}").text == f"Ann wrote {token}"


def test_short_codes_do_not_collide(store: VaultStore, keys: RedactionKeys) -> None:
    vault = SessionVault(store, keys, session="crowd", code_characters=4)
    tokens = {vault.seal(f"person {k}", "PERSON"): f"person {k}" for k in range(3_000)}

    # 20 bits: 4.3 collisions are expected among 3,000; a run without any has probability 0.014.
    assert len(tokens) == 3_000
    for token, value in list(tokens.items())[::100]:
        assert vault.reveal(token).text == value


def test_a_value_ends_with_its_time_and_lives_on_if_used(
    vault: SessionVault, store: VaultStore, clock: ManualClock
) -> None:
    old, used = vault.seal("Ann", "PERSON"), vault.seal("Bob", "PERSON")
    clock.advance(23 * 3600)
    assert vault.seal("Bob", "PERSON") == used
    clock.advance(2 * 3600)

    assert vault.reveal(old + used).text == old + "Bob"
    assert store.purge() == 1
    assert vault.seal("Ann", "PERSON") == old


def test_a_person_is_erased_in_every_session_and_nobody_else(
    store: VaultStore, keys: RedactionKeys
) -> None:
    one = SessionVault(store, keys, session="one", subject="patient 1")
    two = SessionVault(store, keys, session="two")
    tokens = [one.seal("Ann", "PERSON"), two.seal("Ann", "PERSON", subject="patient 1")]
    kept = two.seal("Bob", "PERSON", subject="patient 2")

    assert two.erase_subject("patient 1") == 2
    assert one.reveal(tokens[0]).text == tokens[0]
    assert two.reveal(tokens[1] + kept).text == tokens[1] + "Bob"
    assert two.end_session() == 1
    assert two.reveal(kept).text == kept


def test_the_file_holds_no_value_and_no_name(
    tmp_path: Path, store: VaultStore, keys: RedactionKeys
) -> None:
    vault = SessionVault(store, keys, session="planted-session", subject="planted-subject")
    vault.seal("planted-value", "PERSON")
    store.close()

    for path in tmp_path.glob("vault.db*"):
        assert b"planted" not in path.read_bytes()
        assert path.stat().st_mode & 0o077 == 0


def test_a_row_that_was_moved_or_changed_is_refused(
    tmp_path: Path, vault: SessionVault, store: VaultStore
) -> None:
    ann, bob = vault.seal("Ann", "PERSON"), vault.seal("Bob", "PERSON")
    with sqlite3.connect(tmp_path / "vault.db") as connection:
        sealed = dict(connection.execute("SELECT token, sealed FROM vault").fetchall())
        swap = "UPDATE vault SET sealed = ? WHERE token = ?"
        connection.execute(swap, (sealed[bob[1:-1]], ann[1:-1]))
        flipped = bytes([sealed[bob[1:-1]][0] ^ 1]) + sealed[bob[1:-1]][1:]
        connection.execute(swap, (flipped, bob[1:-1]))
    connection.close()

    for token in (ann, bob):
        with pytest.raises(VaultRefused, match="nothing was revealed") as caught:
            vault.reveal(token)
        assert "Ann" not in str(caught.value) + str(caught.value.__context__)


def test_a_rotation_keeps_sessions_readable(vault: SessionVault, keys: RedactionKeys) -> None:
    old, old_id = vault.seal("Ann", "PERSON"), keys.key_id
    keys.rotate(SystemEntropy())
    new = vault.seal("Ann", "PERSON")

    assert vault.reveal(old + new).text == "AnnAnn"
    keys.retire(old_id)
    assert vault.reveal(old + new).text == old + "Ann"


def test_a_destroyed_tenant_cannot_be_read(vault: SessionVault, keys: RedactionKeys) -> None:
    token = vault.seal("Ann", "PERSON")
    keys.destroy("default")

    with pytest.raises(TenantDestroyed):
        vault.reveal(token)


def test_a_file_for_all_or_of_others_is_refused(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "open.db"
    path.touch(mode=0o644)
    path.chmod(0o644)
    with pytest.raises(VaultRefused, match="0600"):
        VaultStore(path, clock)
    path.chmod(0o600)
    path.write_bytes(b"planted-value, and no database at all" * 40)
    with pytest.raises(VaultRefused) as caught:
        VaultStore(path, clock)
    assert "planted" not in str(caught.value)
    with pytest.raises(VaultRefused):
        VaultStore(tmp_path / "no" / "where.db", clock)


def test_a_later_version_is_not_changed(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "later.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 7")
    connection.close()
    path.chmod(0o600)

    with pytest.raises(VaultRefused, match="version 7"):
        VaultStore(path, clock)


def test_what_cannot_be_kept_is_refused(store: VaultStore, keys: RedactionKeys) -> None:
    with pytest.raises(InvalidParameter):
        SessionVault(store, keys, code_characters=3)
    with pytest.raises(InvalidParameter):
        SessionVault(store, keys, ttl_s=0)
    for value, label in (("", "PERSON"), ("x", "person")):
        with pytest.raises(InvalidParameter):
            SessionVault(store, keys).seal(value, label)


def test_processes_share_a_session(tmp_path: Path, store: VaultStore, keys: RedactionKeys) -> None:
    code = (
        "import sys\n"
        "from privacy_runtime.pseudonyms import RedactionKeys, SessionVault, VaultStore\n"
        "from privacy_runtime.testing import ManualClock\n"
        "vault = SessionVault(VaultStore(sys.argv[1], ManualClock()),"
        " RedactionKeys.load(sys.argv[2]), session='shared')\n"
        "print(' '.join(vault.seal(f'person {k}', 'PERSON') for k in range(40)))\n"
    )
    arguments = [
        sys.executable,
        "-c",
        code,
        str(tmp_path / "vault.db"),
        str(tmp_path / "keys.json"),
    ]
    running = [subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = {process.communicate(timeout=60)[0] for process in running}
    (tokens,) = said  # all three gave the same

    vault = SessionVault(store, keys, session="shared")
    assert vault.reveal(tokens.strip()).text == " ".join(f"person {k}" for k in range(40))


@settings(max_examples=30, deadline=None)  # a disk
@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=6))
def test_every_value_leads_back(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "shared-vault.db"
    with VaultStore(path, ManualClock()) as store:
        vault = SessionVault(store, RedactionKeys.generate(SeededEntropy(1)))
        text = " | ".join(vault.seal(name, "PERSON") for name in names)

        assert vault.reveal(text).text == " | ".join(names)


def test_a_vault_shows_nothing(vault: SessionVault, store: VaultStore) -> None:
    vault.seal("Wilhelmina", "PERSON")

    assert "Wilhelmina" not in repr(vault) + repr(store) + repr(vault.rows)
