"""The keys that lead back: one master, many purposes, a salt for each tenant.

    master (32 bytes) + tenant's salt --HKDF-SHA256, info "cg1|PURPOSE|TENANT"--> working key

==============  ================  ======================  =====================  ===================
made by         master kept in    a tenant's salt         destroy one tenant     rotate, retire
==============  ================  ======================  =====================  ===================
`generate`      a file, 0600      random, in the file     yes: delete the salt   yes
`load`          (the same file)   (the same file)         yes                    yes
`from_env`      the environment   none                    no: refused            no: refused
`from_passp...` somebody's head   none                    no: refused            no: refused
==============  ================  ======================  =====================  ===================

**Destroying** a tenant removes its salt from the file: its working keys can no longer be computed,
also by whoever holds the master. Copies of the file made before (backups, snapshots, the disk's
old blocks) hold the salt still; keep the file on storage whose copies you can destroy as well.

**Rotation**: what is sealed from now on uses the new master; the old one reads until it is retired.
The key's id is computed from the master (20 bits of HKDF), so a master has the same id wherever it
is kept. Any number of processes may share a file; a change is seen by all at their next use.

Sources: RFC 5869 (HKDF); RFC 7914 (scrypt); NIST SP 800-88r1, section 2.5 (cryptographic erase).
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn, Self, TypeAlias

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from privacy_core.errors import InvalidParameter
from privacy_runtime.pseudonyms import base32
from privacy_runtime.pseudonyms.errors import (
    ErasureImpossible,
    KeyFormatRefused,
    TenantDestroyed,
    TenantUnknown,
    UnknownKey,
)
from privacy_runtime.pseudonyms.key_file import ChangeKeys, KeyFile, KeySet
from privacy_runtime.world import Entropy

MASTER_BYTES: Final = 32
SALT_BYTES: Final = 32
ENVIRONMENT_KEY: Final = "PRIVACY_FINETUNER_REDACTION_KEY"
ENVIRONMENT_FILE: Final = "PRIVACY_FINETUNER_REDACTION_KEYS"
DEFAULT_TENANT: Final = "default"
SHORTEST_PASSPHRASE: Final = 12
_ID_BYTES: Final = 3
_SCRYPT_COST: Final = 2**17

Derivation: TypeAlias = tuple[str, str, str, int]


@dataclass(frozen=True, slots=True)
class _Derived:
    version: object
    keys: dict[Derivation, bytes] = field(default_factory=dict)


class RedactionKeys:
    """Masters and tenants' salts. Its `repr` shows ids; copies and pickles hold no key.

    Make one with `generate`, `load`, `from_env` or `from_passphrase`.
    """

    def __init__(self, held: KeySet, file: KeyFile | None = None) -> None:
        self._held = held
        self._file = file
        self._derived = _Derived(None)

    @classmethod
    def generate(
        cls, entropy: Entropy, path: Path | str | None = None, *, tenants: tuple[str, ...] = ()
    ) -> Self:
        """Make a master, and its file if `path` is given (mode 0600).

        Args:
            entropy: where chance comes from.
            path: where the file is made; without it the keys end with the process.
            tenants: who gets keys now, besides the tenant `default`; others by `add_tenant`.

        Raises:
            KeyFileRefused: the file exists; it was not touched.
            WriteFailed: the disk refused.
        """
        master = entropy.token_bytes(MASTER_BYTES)
        kid = key_id_of(master)
        names = (DEFAULT_TENANT, *(_read_tenant(t) for t in tenants))
        salts = {name: entropy.token_bytes(SALT_BYTES) for name in names}
        held = KeySet(current=kid, masters={kid: master}, salts=dict(salts))
        if path is None:
            return cls(held)
        file = KeyFile(path)
        file.create(held)
        return cls(held, file)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a key file.

        Raises:
            KeyFileRefused: there is none, others than its owner may read it, or it is damaged.
        """
        file = KeyFile(path)
        return cls(file.read(), file)

    from_file = load

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Take the keys that the environment names.

        `PRIVACY_FINETUNER_REDACTION_KEYS` is the path of a key file;
        `PRIVACY_FINETUNER_REDACTION_KEY` is a master itself, 32 bytes in hexadecimal or base64.

        Raises:
            KeyFormatRefused: both are set, none is, or the master is not 32 bytes.
            KeyFileRefused: as for `load`.
        """
        environment = os.environ if environment is None else environment
        path, text = environment.get(ENVIRONMENT_FILE), environment.get(ENVIRONMENT_KEY)
        if bool(path) == bool(text):
            raise KeyFormatRefused(
                f"{'both' if path else 'neither'} of {ENVIRONMENT_FILE} (path of a key file) and "
                f"{ENVIRONMENT_KEY} (32 bytes in hexadecimal or base64) are set, expected one; "
                "no key was loaded"
            )
        return cls.load(path) if path else cls.from_master(_read_master(text or ""))

    @classmethod
    def from_master(cls, master: bytes) -> Self:
        """Take a master that is kept elsewhere (a key management service).

        Raises:
            KeyFormatRefused: it is not 32 bytes.
        """
        if len(master) != MASTER_BYTES:
            raise KeyFormatRefused(
                f"the key has {len(master)} bytes, expected {MASTER_BYTES}; no key was loaded"
            )
        kid = key_id_of(master)
        return cls(KeySet(current=kid, masters={kid: bytes(master)}, salts=None))

    @classmethod
    def from_passphrase(cls, passphrase: str) -> Self:
        """Compute a master from a passphrase: the documented `encryption_key: str`.

        Takes half a second and 128 MiB on purpose (scrypt, N = 2^17, r = 8, p = 1). There is no
        salt to keep, so that a text can be read years later with the phrase alone; the price is
        that a table of guesses serves against every user. Whoever holds a protected text can test
        guesses: use six random words or more, or a key file.

        Raises:
            KeyFormatRefused: it is shorter than 12 characters.
        """
        if len(passphrase) < SHORTEST_PASSPHRASE:
            raise KeyFormatRefused(
                f"the passphrase has {len(passphrase)} characters, expected at least "
                f"{SHORTEST_PASSPHRASE}; no key was made"
            )
        kdf = Scrypt(salt=b"cg1|passphrase", length=MASTER_BYTES, n=_SCRYPT_COST, r=8, p=1)
        return cls.from_master(kdf.derive(passphrase.encode("utf-8", "surrogatepass")))

    @classmethod
    def from_text(cls, encryption_key: str) -> Self:
        """Read what a person was given as a key: a master in hexadecimal or base64, or a phrase.

        Raises:
            KeyFormatRefused: it is none of them.
        """
        try:
            master = _read_master(encryption_key)
        except KeyFormatRefused:
            return cls.from_passphrase(encryption_key)
        return cls.from_master(master)

    @property
    def key_id(self) -> str:
        """Id of the master that seals."""
        return self._now().current

    @property
    def key_ids(self) -> tuple[str, ...]:
        """Ids of all masters that read, the sealing one first."""
        held = self._now()
        return (held.current, *(kid for kid in held.masters if kid != held.current))

    @property
    def tenants(self) -> tuple[str, ...]:
        """Tenants that have keys; empty where a tenant needs no salt."""
        salts = self._now().salts
        return tuple(name for name, salt in (salts or {}).items() if salt is not None)

    def derive(
        self, purpose: str, tenant: str = DEFAULT_TENANT, *, size_bytes: int, key_id: str = ""
    ) -> bytes:
        """Return the working key of a purpose and a tenant.

        Args:
            purpose: what it is for; keys of two purposes tell nothing about each other.
            tenant: whose data it is for.
            size_bytes: length of the key.
            key_id: which master; the sealing one if left out.

        Raises:
            UnknownKey: no master has this id.
            TenantUnknown: the key file has no salt for the tenant.
            TenantDestroyed: it had one.
        """
        held = self._now()
        if self._derived.version is not held:
            self._derived = _Derived(held)
        wanted = (purpose, tenant, key_id or held.current, size_bytes)
        known = self._derived.keys.get(wanted)
        if known is None:
            known = self._derived.keys[wanted] = _derive(held, *wanted)
        return known

    def add_tenant(self, tenant: str, entropy: Entropy) -> None:
        """Make a tenant's salt. One that is there stays; one that was destroyed begins afresh.

        Raises:
            WriteFailed: the disk refused; nothing was added.
        """
        tenant = _read_tenant(tenant)
        salt = entropy.token_bytes(SALT_BYTES)

        def add(held: KeySet) -> KeySet:
            if held.salts is None or held.salts.get(tenant) is not None:
                return held
            return held.with_salts({**held.salts, tenant: salt})

        self._change(add)

    def destroy(self, tenant: str) -> None:
        """Destroy a tenant's keys: everything sealed for it is unreadable from now on.

        See the module's docstring for copies of the file.

        Raises:
            ErasureImpossible: the keys come from the environment or a passphrase.
            TenantUnknown: there is no such tenant.
            WriteFailed: the disk refused; nothing was destroyed.
        """

        def forget(held: KeySet) -> KeySet:
            if held.salts is None:
                raise ErasureImpossible(
                    "these keys are computed from one secret, so the keys of one tenant cannot be "
                    "destroyed; use a key file. Nothing was destroyed"
                )
            if tenant not in held.salts:
                raise TenantUnknown(f"no key was made for tenant {tenant!r}; nothing was destroyed")
            return held.with_salts({**held.salts, tenant: None})

        self._change(forget)

    def rotate(self, entropy: Entropy) -> str:
        """Make a master that seals from now on; the others go on reading. Returns its id.

        Raises:
            ErasureImpossible: the keys come from the environment or a passphrase.
            WriteFailed: the disk refused; the old master still seals.
        """
        masters = [entropy.token_bytes(MASTER_BYTES) for _ in range(4)]

        def turn(held: KeySet) -> KeySet:
            if held.salts is None:
                raise ErasureImpossible(
                    "the master is kept outside; replace it there, and use a key file to keep "
                    "reading what the old one sealed. Nothing was rotated"
                )
            fresh = {key_id_of(m): m for m in masters if key_id_of(m) not in held.masters}
            kid, master = next(iter(fresh.items()))
            return held.with_masters(kid, {**held.masters, kid: master})

        return self._change(turn).current

    def retire(self, key_id: str) -> None:
        """Forget a master: what it sealed and nobody rewrapped is unreadable from now on.

        Raises:
            UnknownKey: no master has this id.
            InvalidParameter: it is the one that seals; rotate first.
        """

        def drop(held: KeySet) -> KeySet:
            if key_id not in held.masters:
                raise UnknownKey(f"no key has the id {key_id!r}; nothing was retired")
            if key_id == held.current:
                raise InvalidParameter("key_id", found=key_id, expected="not the sealing key's id")
            kept = {kid: master for kid, master in held.masters.items() if kid != key_id}
            return held.with_masters(held.current, kept)

        self._change(drop)

    def __repr__(self) -> str:
        where = "file" if self._file else "memory"
        return f"RedactionKeys(key_ids={list(self.key_ids)}, in {where})"

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        """Travel to another process as the path of the key file; never as keys."""
        if self._file is None:
            raise ErasureImpossible(
                "keys in memory are not copied or pickled; give the other process a key file"
            )
        return type(self).load, (str(self._file.path),)

    def __copy__(self) -> NoReturn:
        raise ErasureImpossible("keys are not copied; share the object, or load the file again")

    def __deepcopy__(self, memo: object) -> NoReturn:
        self.__copy__()

    def _now(self) -> KeySet:
        if self._file is not None:
            self._held = self._file.read_if_changed(self._held)
        return self._held

    def _change(self, change: ChangeKeys) -> KeySet:
        self._held = self._file.change(change) if self._file else change(self._held)
        return self._held


def key_id_of(master: bytes) -> str:
    """Return the id of a master: 20 bits computed from it, in four characters."""
    digest = HKDF(SHA256(), _ID_BYTES, salt=None, info=b"cg1|id").derive(master)
    return base32.encode(digest)[:4]


def _derive(held: KeySet, purpose: str, tenant: str, key_id: str, size_bytes: int) -> bytes:
    master = held.masters.get(key_id)
    if master is None:
        raise UnknownKey(f"no key has the id {key_id!r}; it was retired or is somebody else's")
    salt = None
    if held.salts is not None:
        if tenant not in held.salts:
            raise TenantUnknown(
                f"no key was made for tenant {tenant!r}; add_tenant makes one. Nothing was done"
            )
        salt = held.salts[tenant]
        if salt is None:
            raise TenantDestroyed(f"the keys of tenant {tenant!r} were destroyed")
    info = f"cg1|{purpose}|{_read_tenant(tenant)}".encode()
    return HKDF(SHA256(), size_bytes, salt=salt, info=info).derive(master)


def _read_tenant(tenant: str) -> str:
    if not tenant or "|" in tenant or not tenant.isprintable():
        raise InvalidParameter("tenant", found=tenant, expected="a printable name without '|'")
    return tenant


def _read_master(text: str) -> bytes:
    text = text.strip()
    try:
        if len(text) == 2 * MASTER_BYTES:
            return bytes.fromhex(text)
        raw = base64.b64decode(
            text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), validate=True
        )
    except (ValueError, binascii.Error):
        raw = b""
    if len(raw) != MASTER_BYTES:
        raise KeyFormatRefused(
            f"the key is {len(text)} characters of something else, expected {MASTER_BYTES} bytes "
            "in hexadecimal or base64; no key was loaded"
        )
    return raw
