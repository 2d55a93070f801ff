"""Keys are made on purpose, kept to their owner, shown to nobody, and destroyed for good."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from privacy_core.errors import InvalidParameter
from privacy_runtime.pseudonyms import RedactionKeys, TokenCipher
from privacy_runtime.pseudonyms.errors import (
    ErasureImpossible,
    KeyFileRefused,
    KeyFormatRefused,
    TenantDestroyed,
    TenantUnknown,
    UnknownKey,
)
from privacy_runtime.pseudonyms.key_file import KeySet
from privacy_runtime.testing import SeededEntropy
from privacy_runtime.world import SystemEntropy

MASTER = bytes(range(32))


def made(path: Path, *tenants: str) -> RedactionKeys:
    return RedactionKeys.generate(SystemEntropy(), path, tenants=tenants)


def test_a_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    made(path)
    assert path.stat().st_mode & 0o777 == 0o600

    for mode in (0o640, 0o604, 0o660, 0o644):
        path.chmod(mode)
        with pytest.raises(KeyFileRefused, match="0600"):
            RedactionKeys.load(path)


def test_an_existing_file_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    made(path)
    before = path.read_bytes()

    with pytest.raises(KeyFileRefused, match="exists"):
        made(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b"[]", b'{"version": 2}', b"null"])
def test_another_file_is_refused_without_being_quoted(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(content)
    path.chmod(0o600)

    with pytest.raises(KeyFileRefused, match="not a key file") as caught:
        RedactionKeys.load(path)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    made(path)
    document = json.loads(path.read_text())
    for damage in (
        {"current": "ZZZZ"},
        {"version": 9},
        {"masters": {document["current"]: "00"}},
        {"salts": {"default": 1}},
        {"salts": []},
    ):
        path.write_text(json.dumps({**document, **damage}))
        with pytest.raises(KeyFileRefused):
            RedactionKeys.load(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyFileRefused, match="generate"):
        RedactionKeys.load(tmp_path / "none")


def test_what_one_object_seals_another_reads(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    token = TokenCipher(made(path, "clinic"), "clinic").seal("Ann", "PERSON")

    assert TokenCipher(RedactionKeys.load(path), "clinic").reveal(token).text == "Ann"


def test_keys_come_from_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    made(path)
    by_path = RedactionKeys.from_env({"PRIVACY_FINETUNER_REDACTION_KEYS": str(path)})
    spelled = [MASTER.hex(), "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", MASTER.hex().upper()]
    ids = {
        RedactionKeys.from_env({"PRIVACY_FINETUNER_REDACTION_KEY": text}).key_id for text in spelled
    }

    assert by_path.key_id == RedactionKeys.load(path).key_id
    assert ids == {RedactionKeys.from_master(MASTER).key_id}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"PRIVACY_FINETUNER_REDACTION_KEY": "planted-secret"},
        {"PRIVACY_FINETUNER_REDACTION_KEY": MASTER.hex()[:-2]},
        {
            "PRIVACY_FINETUNER_REDACTION_KEY": MASTER.hex(),
            "PRIVACY_FINETUNER_REDACTION_KEYS": "x",
        },
    ],
)
def test_another_environment_is_refused(environment: dict[str, str]) -> None:
    with pytest.raises(KeyFormatRefused) as caught:
        RedactionKeys.from_env(environment)
    assert "planted" not in str(caught.value)
    assert MASTER.hex()[:20] not in str(caught.value)


def test_a_passphrase_is_a_key() -> None:
    one = RedactionKeys.from_text("six random words are enough here")
    token = TokenCipher(one).seal("Ann", "PERSON")
    again = RedactionKeys.from_passphrase("six random words are enough here")

    assert TokenCipher(again).reveal(token).text == "Ann"
    with pytest.raises(KeyFormatRefused):
        RedactionKeys.from_passphrase("short")


def test_purposes_and_tenants_have_keys_of_their_own() -> None:
    keys = RedactionKeys.generate(SeededEntropy(1), tenants=("a", "b"))
    derived = {
        keys.derive(purpose, tenant, size_bytes=32)
        for purpose in ("siv", "hash")
        for tenant in ("default", "a", "b")
    }

    assert len(derived) == 6
    assert keys.derive("siv", "a", size_bytes=64)[:32] not in derived - {
        keys.derive("siv", "a", size_bytes=32)
    }


def test_the_derivation_is_hkdf() -> None:
    import hmac

    keys = RedactionKeys.from_master(MASTER)
    extracted = hmac.digest(bytes(32), MASTER, "sha256")  # RFC 5869, no salt
    first = hmac.digest(extracted, b"cg1|siv|clinic\x01", "sha256")
    second = hmac.digest(extracted, first + b"cg1|siv|clinic\x02", "sha256")

    assert keys.derive("siv", "clinic", size_bytes=64) == first + second


def test_a_rotation_seals_anew_and_reads_the_old(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keys, reader = made(path), RedactionKeys.load(path)
    cipher, old_id = TokenCipher(keys), keys.key_id
    old = cipher.seal("Ann", "PERSON")
    new_id = keys.rotate(SystemEntropy())
    new = cipher.seal("Ann", "PERSON")

    assert new_id != old_id
    assert new != old
    assert keys.key_ids == reader.key_ids == (new_id, old_id)
    assert TokenCipher(reader).reveal(old + new).text == "AnnAnn"
    assert cipher.rewrap(f"<{old}>").text == f"<{new}>"

    keys.retire(old_id)
    assert TokenCipher(reader).reveal(old).text == old
    assert TokenCipher(reader).reveal(new).text == "Ann"
    with pytest.raises(UnknownKey):
        keys.retire(old_id)
    with pytest.raises(InvalidParameter):
        keys.retire(new_id)


def test_destroying_a_tenant_is_for_good_and_for_all(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keys, other = made(path, "clinic", "bank"), RedactionKeys.load(path)
    salts = json.loads(path.read_text())["salts"]
    token = TokenCipher(keys, "clinic").seal("Ann", "PERSON")
    kept = TokenCipher(keys, "bank").seal("Ann", "PERSON")
    other.destroy("clinic")

    for holder in (keys, other, RedactionKeys.load(path)):
        with pytest.raises(TenantDestroyed):
            TokenCipher(holder, "clinic").reveal(token)
        assert TokenCipher(holder, "bank").reveal(kept).text == "Ann"
    assert salts["clinic"] not in path.read_text()

    keys.add_tenant("clinic", SystemEntropy())  # afresh: the old tokens stay closed
    assert TokenCipher(keys, "clinic").reveal(token).text == token
    with pytest.raises(TenantUnknown):
        keys.destroy("nobody")


def test_adding_a_tenant_twice_changes_nothing(tmp_path: Path) -> None:
    keys = made(tmp_path / "keys.json", "clinic")
    before = (tmp_path / "keys.json").read_bytes()
    keys.add_tenant("clinic", SystemEntropy())

    assert (tmp_path / "keys.json").read_bytes() == before
    assert set(keys.tenants) == {"default", "clinic"}


def test_a_tenant_is_made_on_purpose() -> None:
    keys = RedactionKeys.generate(SeededEntropy(1))

    with pytest.raises(TenantUnknown, match="add_tenant"):
        TokenCipher(keys, "clinic").seal("Ann", "PERSON")
    for name in ("", "a|b", "a\nb"):
        with pytest.raises(InvalidParameter):
            keys.add_tenant(name, SeededEntropy(2))


def test_keys_without_a_file_have_no_salt_to_destroy() -> None:
    keys = RedactionKeys.from_master(MASTER)

    assert TokenCipher(keys, "anybody").seal("Ann", "PERSON")
    with pytest.raises(ErasureImpossible, match="Nothing was destroyed"):
        keys.destroy("anybody")
    with pytest.raises(ErasureImpossible, match="Nothing was rotated"):
        keys.rotate(SystemEntropy())
    with pytest.raises(KeyFormatRefused):
        RedactionKeys.from_master(b"short")


def test_keys_travel_as_a_path_and_never_as_keys(tmp_path: Path) -> None:
    keys = made(tmp_path / "keys.json")
    packed = pickle.dumps(keys)
    master = next(iter(json.loads((tmp_path / "keys.json").read_text())["masters"].values()))

    assert bytes.fromhex(master) not in packed
    assert pickle.loads(packed).key_id == keys.key_id  # noqa: S301
    in_memory = RedactionKeys.from_master(MASTER)
    for act in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(ErasureImpossible):
            act(in_memory)


def test_nothing_shows_a_key(tmp_path: Path) -> None:
    keys = made(tmp_path / "keys.json", "clinic")
    document = json.loads((tmp_path / "keys.json").read_text())
    held = KeySet.from_json((tmp_path / "keys.json").read_bytes())
    secrets = [*document["masters"].values(), *document["salts"].values()]
    shown = repr(keys) + str(keys) + repr(held) + repr(TokenCipher(keys))

    for secret in secrets:
        assert secret not in shown
        assert repr(bytes.fromhex(secret))[2:-1] not in shown


def test_processes_change_one_file_without_losing_a_change(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    made(path)
    code = (
        "import sys\n"
        "from privacy_runtime.pseudonyms import RedactionKeys\n"
        "from privacy_runtime.world import SystemEntropy\n"
        "keys = RedactionKeys.load(sys.argv[1])\n"
        "for k in range(10): keys.add_tenant(f'{sys.argv[2]}-{k}', SystemEntropy())\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(path), name]) for name in ("a", "b", "c")
    ]

    assert [process.wait(timeout=60) for process in running] == [0, 0, 0]
    assert len(RedactionKeys.load(path).tenants) == 31
