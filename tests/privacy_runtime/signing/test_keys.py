from __future__ import annotations

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from privacy_core.errors import InvalidParameter
from privacy_runtime.signing import (
    KeyExpired,
    KeyHome,
    PublicKey,
    SignatureInvalid,
    SigningKey,
    TrustedKeys,
    UnknownKey,
    instant_of,
    opened_key,
    require_signature,
    text_of,
)
from privacy_runtime.testing import SeededEntropy

NOON = datetime(2030, 1, 2, 12, tzinfo=UTC)


def a_key(folder: Path, seed: int = 1, days: int = 10) -> SigningKey:
    path = folder / f"key-{seed}.pem"
    return SigningKey.create(path, SeededEntropy(seed), now=NOON, valid_days=days)


def test_a_key_is_for_its_owner_and_its_half_for_all(tmp_path: Path) -> None:
    key = a_key(tmp_path)
    again = SigningKey.load(tmp_path / "key-1.pem")

    assert stat.S_IMODE((tmp_path / "key-1.pem").stat().st_mode) == 0o600
    assert again.public == key.public
    assert key.public.key_id in repr(key)
    assert PublicKey.from_json(json.loads((tmp_path / "key-1.pem.pub").read_text())) == key.public


def test_a_key_is_not_made_twice(tmp_path: Path) -> None:
    a_key(tmp_path)

    with pytest.raises(InvalidParameter, match="no file yet"):
        a_key(tmp_path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    a_key(tmp_path)
    os.chmod(tmp_path / "key-1.pem", mode)

    with pytest.raises(InvalidParameter, match="0600"):
        SigningKey.load(tmp_path / "key-1.pem")


def test_the_half_of_another_key_is_noticed(tmp_path: Path) -> None:
    a_key(tmp_path, 1)
    other = a_key(tmp_path, 2)
    (tmp_path / "key-1.pem.pub").write_text(json.dumps(other.public.to_json()))

    with pytest.raises(InvalidParameter, match="another key"):
        SigningKey.load(tmp_path / "key-1.pem")


def test_a_signature_counts_for_its_bytes_its_key_and_in_one_spelling(tmp_path: Path) -> None:
    key, other = a_key(tmp_path, 1), a_key(tmp_path, 2)
    signature = key.sign(b"what was done")
    public = key.public.public_key
    require_signature(public, signature, b"what was done")

    for case in [
        (public, signature, b"what was dome"),
        (other.public.public_key, signature, b"what was done"),
        (public, signature.upper(), b"what was done"),
        (public.upper(), signature, b"what was done"),
        (public, signature[:-2], b"what was done"),
        (public, "", b"what was done"),
    ]:
        with pytest.raises(SignatureInvalid):
            require_signature(*case)


def test_a_key_is_valid_from_its_first_instant_to_its_last(tmp_path: Path) -> None:
    public = a_key(tmp_path, days=10).public
    second = timedelta(seconds=1)
    public.require_valid_at(NOON)
    public.require_valid_at(NOON + timedelta(days=10))

    for instant in (NOON - second, NOON + timedelta(days=10) + second):
        with pytest.raises(KeyExpired, match="valid from"):
            public.require_valid_at(instant)


def test_trusted_keys_are_found_written_and_read(tmp_path: Path) -> None:
    ours, theirs = a_key(tmp_path, 1).public, a_key(tmp_path, 2).public
    TrustedKeys([ours]).write(tmp_path / "trusted.json")
    trusted = TrustedKeys.read(tmp_path / "trusted.json")

    assert trusted.find(ours.public_key) == ours
    with pytest.raises(UnknownKey, match=theirs.key_id):
        trusted.find(theirs.public_key)
    assert trusted.with_key(theirs).with_key(theirs).keys == (ours, theirs)


@pytest.mark.parametrize(
    "document",
    [
        "[]", "{}", '{"version":2,"keys":[]}', '{"version":1,"keys":{}}', "no json",
        '{"version":1,"keys":[{}]}', '{"version":1,"version":1,"keys":[]}',
    ],
)  # fmt: skip
def test_a_file_that_holds_no_trusted_keys_is_refused(tmp_path: Path, document: str) -> None:
    path = tmp_path / "trusted.json"
    path.write_text(document)

    with pytest.raises(InvalidParameter):
        TrustedKeys.read(path)


@pytest.mark.parametrize(
    "change",
    [
        {"key_id": "00" * 16}, {"public_key": "AB" * 32}, {"public_key": 7},
        {"not_after": "2020-01-01T00:00:00Z"}, {"not_before": "yesterday"},
        {"not_before": "2030-02-30T00:00:00Z"},
    ],
)  # fmt: skip
def test_an_entry_that_contradicts_itself_is_refused(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    entry = a_key(tmp_path).public.to_json() | change

    with pytest.raises(InvalidParameter):
        PublicKey.from_json(entry)


def test_the_home_of_keys_makes_one_key_and_trusts_it(tmp_path: Path) -> None:
    home = KeyHome.of({"XDG_CONFIG_HOME": str(tmp_path)})
    key, is_new = opened_key(home.key_file, SeededEntropy(1), now=NOON)
    same, is_new_again = opened_key(home.key_file, SeededEntropy(2), now=NOON)

    assert (is_new, is_new_again) == (True, False)
    assert same.public == key.public
    with pytest.raises(UnknownKey):
        home.trusted().find(key.public.public_key)
    home.trust(key.public)
    home.trust(key.public)
    assert home.trusted().find(key.public.public_key).name == "this account's own key"
    assert stat.S_IMODE(home.folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("hours", [-26, 11 * 24], ids=["made by a clock ahead", "run out"])
def test_an_own_key_that_may_not_sign_now_makes_way(tmp_path: Path, hours: int) -> None:
    home = KeyHome(tmp_path)
    old = SigningKey.create(home.key_file, SeededEntropy(1), now=NOON, valid_days=10)
    now = NOON + timedelta(hours=hours)

    key, is_new = home.own_key(SeededEntropy(2), now=now)
    same, is_new_again = home.own_key(SeededEntropy(3), now=now)

    assert (is_new, is_new_again) == (True, False)
    assert same.public == key.public
    key.public.require_valid_at(now)
    kept = tmp_path / f"signing-key-{old.public.key_id}.pem"
    assert SigningKey.load(kept).public == old.public


def test_processes_that_ask_at_once_get_one_key(tmp_path: Path) -> None:
    home = KeyHome(tmp_path / "home")

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: home.own_key(SeededEntropy(n), now=NOON), range(16)))

    assert sum(is_new for _, is_new in made) == 1
    assert len({key.public.key_id for key, _ in made}) == 1


def test_a_relative_configuration_folder_is_not_used(tmp_path: Path) -> None:
    assert KeyHome.of({"XDG_CONFIG_HOME": "config"}).folder.is_absolute()


def test_instants_have_one_spelling() -> None:
    assert instant_of(text_of(NOON)) == NOON
    for text in ("2030-01-02T12:00:00+00:00", "2030-01-02 12:00:00Z", "2030-13-02T12:00:00Z", 7):
        with pytest.raises(InvalidParameter):
            instant_of(text)
    with pytest.raises(InvalidParameter):
        text_of(datetime(2030, 1, 2))  # noqa: DTZ001 -- what is refused
