from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from privacy_core.errors import InvalidParameter
from privacy_runtime.journal import AnchorFile, AnchorRefused, Head, HeadKey
from privacy_runtime.testing import SeededEntropy

HEAD = Head(7, "ab" * 32, "2026-01-01T00:00:00.000000+00:00")


def a_key(tmp_path: Path, seed: int = 1) -> HeadKey:
    return HeadKey.create(tmp_path / f"key-{seed}.pem", SeededEntropy(seed))


def test_a_key_is_made_once_for_its_owner_and_read_again(tmp_path: Path) -> None:
    key = a_key(tmp_path)
    path = tmp_path / "key-1.pem"

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert HeadKey.load(path).public_key == key.public_key
    assert key.public_key[:16] in repr(key)
    with pytest.raises(InvalidParameter, match="no file yet"):
        a_key(tmp_path)


def test_the_signature_is_that_of_rfc_8032() -> None:
    """Test 1 of section 7.1, for the key: its seed and the public half."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    key = HeadKey(Ed25519PrivateKey.from_private_bytes(seed))

    assert key.public_key == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    a_key(tmp_path)
    os.chmod(tmp_path / "key-1.pem", mode)

    with pytest.raises(InvalidParameter, match="0600"):
        HeadKey.load(tmp_path / "key-1.pem")


def test_a_missing_key_is_not_made_silently(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match="No such file"):
        HeadKey.load(tmp_path / "key.pem")
    assert not (tmp_path / "key.pem").exists()


def test_a_file_that_holds_no_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_text("not a key")
    path.chmod(0o600)

    with pytest.raises(InvalidParameter, match="Ed25519"):
        HeadKey.load(path)


@pytest.mark.parametrize(
    "change", [{"seq": 8}, {"hash": "cd" * 32}, {"stream": "jobs"}, {"at": "2026-01-02"}]
)
def test_a_signed_head_cannot_be_changed(tmp_path: Path, change: dict[str, object]) -> None:
    key = a_key(tmp_path)
    signed = key.sign("ledger", HEAD)
    signed.require_signature(key.public_key)

    with pytest.raises(AnchorRefused, match="not signed"):
        replace(signed, **change).require_signature(key.public_key)


def test_another_keys_signature_does_not_count(tmp_path: Path) -> None:
    signed = a_key(tmp_path, 1).sign("ledger", HEAD)

    with pytest.raises(AnchorRefused):
        signed.require_signature(a_key(tmp_path, 2).public_key)


def test_heads_are_kept_by_stream_and_a_torn_line_is_cut_off(tmp_path: Path) -> None:
    anchor = AnchorFile(tmp_path / "anchor", a_key(tmp_path))
    anchor.record("ledger", HEAD)
    anchor.record("jobs", HEAD)
    anchor.record("ledger", replace(HEAD, seq=3))
    with (tmp_path / "anchor").open("ab") as file:
        file.write(b'{"at":"2026')

    assert [signed.seq for signed in anchor.heads("ledger")] == [3, 7]
    anchor.record("ledger", replace(HEAD, seq=9))

    assert [signed.seq for signed in anchor.heads("ledger")] == [3, 7, 9]
    assert [signed.seq for signed in anchor.heads("audit")] == []


@pytest.mark.parametrize("line", [b"nonsense\n", b"{}\n", b"[]\n"])
def test_a_damaged_anchor_vouches_for_nothing(tmp_path: Path, line: bytes) -> None:
    anchor = AnchorFile(tmp_path / "anchor", a_key(tmp_path))
    anchor.record("ledger", HEAD)
    with (tmp_path / "anchor").open("ab") as file:
        file.write(line)

    with pytest.raises(AnchorRefused, match="line 2"):
        anchor.heads("ledger")
