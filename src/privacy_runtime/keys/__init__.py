"""Keys that wrap the keys of files: in a file, the environment, Vault, or a security module.

`contract.Keyring` is what each of them can do. Rotation makes a new wrapping key; what is wrapped
is wrapped anew (`blobs.rewrap`), and no file is touched.
"""

from __future__ import annotations

from privacy_runtime.keys.contract import ROTATE_AFTER, Keyring, Wrapping, WrappingKey
from privacy_runtime.keys.errors import (
    KeyringError,
    KeyringRefused,
    KeyringUnavailable,
    UnknownWrapping,
)
from privacy_runtime.keys.held import EnvironmentKeyring, FileKeyring
from privacy_runtime.keys.opening import opened_keyring

__all__ = [
    "ROTATE_AFTER",
    "EnvironmentKeyring",
    "FileKeyring",
    "Keyring",
    "KeyringError",
    "KeyringRefused",
    "KeyringUnavailable",
    "UnknownWrapping",
    "Wrapping",
    "WrappingKey",
    "opened_keyring",
]
