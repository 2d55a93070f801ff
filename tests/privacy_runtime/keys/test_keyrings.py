"""One suite for every keeper of wrapping keys, and what is special to each."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from privacy_core.errors import InvalidParameter
from privacy_runtime.files import WriteFailed
from privacy_runtime.keys import (
    EnvironmentKeyring,
    FileKeyring,
    Keyring,
    KeyringRefused,
    KeyringUnavailable,
    UnknownWrapping,
    Wrapping,
    opened_keyring,
)
from privacy_runtime.keys.pkcs11 import Pkcs11Keyring
from privacy_runtime.keys.vault import VaultKeyring
from privacy_runtime.secret import Secret
from privacy_runtime.testing import ManualClock, SeededEntropy

SOFTHSM = next(
    (
        path
        for path in (
            "/usr/lib/softhsm/libsofthsm2.so",
            "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
            "/usr/local/lib/softhsm/libsofthsm2.so",
        )
        if Path(path).exists()
    ),
    None,
)
SECRET = bytes(range(32))


class Transit(BaseHTTPRequestHandler):
    """The parts of Vault's transit engine that are used, as its documentation has them.

    A stand-in for the network, not for Vault: these tests say nothing about a real one.
    """

    keys: ClassVar[list[bytes]] = []
    down: ClassVar[bool] = False

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        made = {str(k + 1): 1_700_000_000 + k for k in range(len(self.keys))}
        self.answer(200, {"data": {"keys": made, "latest_version": len(self.keys)}})

    def do_POST(self) -> None:
        self.put()

    def do_PUT(self) -> None:
        self.put()

    def put(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        if self.down:
            self.answer(503, {"errors": ["sealed"]})
        elif self.headers["X-Vault-Token"] != "good":
            self.answer(403, {"errors": ["permission denied"]})
        elif self.path.endswith("/rotate"):
            self.keys.append(os.urandom(32))
            self.answer(204, None)
        elif "/encrypt/" in self.path:
            nonce = os.urandom(12)
            sealed = AESGCM(self.keys[-1]).encrypt(nonce, body["plaintext"].encode(), None)
            text = f"vault:v{len(self.keys)}:{base64.b64encode(nonce + sealed).decode()}"
            self.answer(200, {"data": {"ciphertext": text}})
        else:
            _, version, text = body["ciphertext"].split(":")
            try:
                raw = base64.b64decode(text, validate=True)
                plain = AESGCM(self.keys[int(version[1:]) - 1]).decrypt(raw[:12], raw[12:], None)
            except (InvalidTag, IndexError, ValueError):
                self.answer(400, {"errors": ["invalid ciphertext: unable to decrypt"]})
            else:
                self.answer(200, {"data": {"plaintext": plain.decode()}})

    def answer(self, status: int, document: Any) -> None:
        body = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    """One that sixteen threads may call at once: the standard queue holds five connections."""

    request_queue_size = 64


@pytest.fixture
def vault() -> Iterator[str]:
    Transit.keys[:] = [os.urandom(32)]
    Transit.down = False
    server = Server(("127.0.0.1", 0), Transit)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A fresh SoftHSM token; the library reads its configuration once, when it is loaded."""
    if SOFTHSM is None:
        pytest.skip("SoftHSM 2 is not installed (Debian: softhsm2)")
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\n")
    os.environ["SOFTHSM2_CONF"] = str(folder / "softhsm2.conf")
    tool = shutil.which("softhsm2-util")
    assert tool is not None, "SoftHSM's library is there and its tool is not"
    words = "--init-token --free --label t --pin 1234 --so-pin 4321"
    subprocess.run([tool, *words.split()], check=True, capture_output=True)
    return "t"


@pytest.fixture(params=["file", "environment", "vault", "pkcs11"])
def keyring(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Keyring]:
    clock, entropy = ManualClock(), SeededEntropy(7)
    match request.param:
        case "file":
            yield FileKeyring.create(tmp_path / "keys.json", clock=clock, entropy=entropy)
        case "environment":
            yield EnvironmentKeyring(variable(SECRET), entropy=entropy)
        case "vault":
            yield VaultKeyring(request.getfixturevalue("vault"), Secret("good"))
        case _:
            made = pkcs11(request.getfixturevalue("token"), request.node.name, clock)
            yield made
            made.close()


def pkcs11(token: str, prefix: str, clock: ManualClock) -> Pkcs11Keyring:
    assert SOFTHSM is not None
    return Pkcs11Keyring(SOFTHSM, token, Secret("1234"), clock=clock, prefix=prefix)


def variable(*secrets: bytes) -> dict[str, str]:
    text = ",".join(base64.b64encode(secret).decode() for secret in secrets)
    return {"PRIVACY_FINETUNER_WRAPPING_KEYS": text}


def test_what_was_wrapped_is_unwrapped_also_from_json(keyring: Keyring) -> None:
    wrapping = keyring.wrap(SECRET)

    assert SECRET not in wrapping.sealed
    assert keyring.unwrap(Wrapping.from_json(wrapping.to_json())) == SECRET
    assert wrapping.keeper == keyring.keeper


def test_after_a_rotation_the_old_still_opens_and_the_new_wraps(keyring: Keyring) -> None:
    if keyring.keeper == "environment":
        pytest.skip("a process cannot rotate its own environment")
    before = keyring.wrap(SECRET)
    made = keyring.rotate()
    after = keyring.wrap(SECRET)

    assert after.key == made.id != before.key
    assert keyring.unwrap(before) == keyring.unwrap(after) == SECRET
    assert [key.is_current for key in keyring.known()] == [False, True]


def test_no_changed_bit_opens(keyring: Keyring) -> None:
    wrapping = keyring.wrap(SECRET)
    places = range(0, len(wrapping.sealed), 5)
    for place in places:
        sealed = bytearray(wrapping.sealed)
        sealed[place] ^= 1
        with pytest.raises((UnknownWrapping, KeyringRefused)):
            keyring.unwrap(replace(wrapping, sealed=bytes(sealed)))
    assert len(places) > 5


def test_a_wrapping_of_another_key_or_keeper_is_refused(keyring: Keyring) -> None:
    wrapping = keyring.wrap(SECRET)

    for changed in ({"key": "v99"}, {"keeper": "other"}, {"sealed": b""}):
        with pytest.raises(UnknownWrapping, match="nothing was opened"):
            keyring.unwrap(replace(wrapping, **changed))  # type: ignore[arg-type]


def test_only_keys_are_wrapped(keyring: Keyring) -> None:
    with pytest.raises(KeyringRefused, match="has 5 bytes"):
        keyring.wrap(b"short")


def test_sixteen_threads_wrap_and_unwrap(keyring: Keyring) -> None:
    failures: list[Exception] = []

    def work(k: int) -> None:
        secret = bytes([k]) * 32
        try:
            assert keyring.unwrap(keyring.wrap(secret)) == secret
        except Exception as error:  # noqa: BLE001  looked at below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not failures


# ---- in a file


def test_a_rotation_is_due_after_ninety_days(tmp_path: Path) -> None:
    clock = ManualClock()
    keyring = FileKeyring.create(tmp_path / "keys", clock=clock, entropy=SeededEntropy(1))
    (key,) = keyring.known()
    clock.advance(timedelta(days=89).total_seconds())
    assert not key.is_due(clock.now())
    clock.advance(timedelta(days=1).total_seconds())

    assert key.is_due(clock.now())
    keyring.rotate()
    assert [key.is_due(clock.now()) for key in keyring.known()] == [False, False]


def test_another_process_sees_a_rotation(tmp_path: Path) -> None:
    clock = ManualClock()
    one = FileKeyring.create(tmp_path / "keys", clock=clock, entropy=SeededEntropy(1))
    other = FileKeyring(tmp_path / "keys", clock=clock, entropy=SeededEntropy(2))
    one.rotate()
    wrapping = one.wrap(SECRET)

    assert other.unwrap(wrapping) == SECRET
    other.rotate()
    assert len(FileKeyring(tmp_path / "keys", clock=clock, entropy=SeededEntropy(3)).known()) == 3


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    path, world = tmp_path / "keys", {"clock": ManualClock(), "entropy": SeededEntropy(1)}
    FileKeyring.create(path, **world)  # type: ignore[arg-type]
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(InvalidParameter):
        FileKeyring.create(path, **world)  # type: ignore[arg-type]
    path.chmod(0o640)

    with pytest.raises(KeyringRefused, match="others may read it"):
        FileKeyring(path, **world)  # type: ignore[arg-type]


def spoil_json(document: dict[str, Any]) -> None:
    document["keys"][0]["key"] = base64.b64encode(bytes(32)).decode()


def drop_keys(document: dict[str, Any]) -> None:
    document["keys"] = []


def short_key(document: dict[str, Any]) -> None:
    document["keys"][0]["key"] = "AAAA"


def other_version(document: dict[str, Any]) -> None:
    document["version"] = 9


@pytest.mark.parametrize("spoil", [spoil_json, drop_keys, short_key, other_version])
def test_a_damaged_file_is_refused(tmp_path: Path, spoil: Callable[[dict[str, Any]], None]) -> None:
    path, world = tmp_path / "keys", {"clock": ManualClock(), "entropy": SeededEntropy(1)}
    FileKeyring.create(path, **world)  # type: ignore[arg-type]
    document = json.loads(path.read_text())
    spoil(document)
    path.write_text(json.dumps(document))

    with pytest.raises(KeyringRefused, match="nothing was changed"):
        FileKeyring(path, **world)  # type: ignore[arg-type]


def test_no_repr_shows_a_key(tmp_path: Path) -> None:
    keyring = FileKeyring.create(tmp_path / "keys", clock=ManualClock(), entropy=SeededEntropy(1))
    held = json.loads((tmp_path / "keys").read_text())["keys"][0]["key"]

    assert held not in repr(keyring) + repr(vars(keyring))
    assert repr(base64.b64decode(held)) not in repr(vars(keyring))


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    keyring = FileKeyring.create(folder / "keys", clock=ManualClock(), entropy=SeededEntropy(1))
    wrapping = keyring.wrap(SECRET)
    (folder / "keys").rename(tmp_path / "keys")
    folder.rmdir()

    with pytest.raises((WriteFailed, KeyringRefused)):
        keyring.rotate()
    assert keyring.unwrap(wrapping) == SECRET


# ---- elsewhere


def test_the_first_of_the_environment_is_current() -> None:
    old, new = bytes(32), bytes([1]) * 32
    before = EnvironmentKeyring(variable(old), entropy=SeededEntropy(1)).wrap(SECRET)
    keyring = EnvironmentKeyring(variable(new, old), entropy=SeededEntropy(1))

    assert keyring.unwrap(before) == SECRET
    assert keyring.wrap(SECRET).key == keyring.known()[-1].id != before.key
    with pytest.raises(KeyringRefused, match="in front of the others"):
        keyring.rotate()


@pytest.mark.parametrize("text", ["", " ", "not base64!", "AAAA"])
def test_an_environment_without_keys_is_refused_without_its_value(text: str) -> None:
    with pytest.raises(KeyringRefused) as caught:
        EnvironmentKeyring({"PRIVACY_FINETUNER_WRAPPING_KEYS": text}, entropy=SeededEntropy(1))
    assert "not base64!" not in str(caught.value)


def test_a_vault_that_refuses_or_is_away_is_said_so(vault: str) -> None:
    with pytest.raises(KeyringRefused, match="does not allow"):
        VaultKeyring(vault, Secret("wrong")).wrap(SECRET)
    Transit.down = True
    with pytest.raises(KeyringUnavailable, match="cannot be reached"):
        VaultKeyring(vault, Secret("good")).wrap(SECRET)
    with pytest.raises(KeyringUnavailable):
        VaultKeyring("http://127.0.0.1:9", Secret("good"), timeout_s=2).wrap(SECRET)


def test_the_key_in_a_module_cannot_be_read(token: str) -> None:
    import pkcs11 as library

    keyring = pkcs11(token, "unread", ManualClock())
    with keyring._asking() as session:
        ((_, _, key),) = keyring._rows(session)
        with pytest.raises(library.AttributeSensitive):
            key[library.Attribute.VALUE]
    keyring.close()


# the library grumbles when it ends a search of a session that is gone
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_session_that_ended_is_opened_anew(token: str) -> None:
    keyring = pkcs11(token, "anew", ManualClock())
    wrapping = keyring.wrap(SECRET)
    assert keyring._session is not None
    keyring._session.close()
    with pytest.raises(KeyringUnavailable):
        keyring.unwrap(wrapping)

    assert keyring.unwrap(wrapping) == SECRET
    keyring.close()


def test_a_wrong_pin_or_token_is_refused(token: str) -> None:
    assert SOFTHSM is not None
    for label, pin in ((token, "9999"), ("none", "1234")):
        with pytest.raises(KeyringRefused):
            Pkcs11Keyring(SOFTHSM, label, Secret(pin), clock=ManualClock())


# ---- by address


def test_a_keyring_is_opened_by_its_address(tmp_path: Path, vault: str) -> None:
    world = {"clock": ManualClock(), "entropy": SeededEntropy(1)}
    (tmp_path / "token").write_text("good\n")
    cases = {
        f"file:{tmp_path / 'keys'}": {},
        "environment:": variable(SECRET),
        f"vault:privacy-finetuner@{vault}": {"VAULT_TOKEN_FILE": str(tmp_path / "token")},
    }
    for address, environment in cases.items():
        keyring = opened_keyring(address, environment=environment, **world)  # type: ignore[arg-type]
        assert keyring.unwrap(keyring.wrap(SECRET)) == SECRET


@pytest.mark.parametrize(
    "address", ["", "file:", "vault:name", "vault:a@http://vault.example", "pkcs11:t", "ftp:x"]
)
def test_an_address_that_is_none_is_refused_with_those_that_are(address: str) -> None:
    with pytest.raises(KeyringRefused, match=r"expected file:PATH|is set"):
        opened_keyring(address, environment={}, clock=ManualClock(), entropy=SeededEntropy(1))
