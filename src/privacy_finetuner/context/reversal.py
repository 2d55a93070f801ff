"""From sealed tokens back to values, with the key and not without."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from privacy_finetuner.errors import ConfigurationError, WrongKey
from privacy_runtime.pseudonyms.keys import RedactionKeys
from privacy_runtime.pseudonyms.revealing import Revealed
from privacy_runtime.pseudonyms.streams import StreamingRevealer
from privacy_runtime.pseudonyms.surrogates import SurrogateMaker
from privacy_runtime.pseudonyms.tokens import TokenCipher
from privacy_runtime.pseudonyms.vault import SessionVault


def revealed(
    text: str,
    key: str | RedactionKeys,
    tenant: str,
    labels: Collection[str] | None = None,
    vault: SessionVault | None = None,
) -> str:
    """The text with the values of genuine tokens in their places, and of a vault's surrogates.

    Raises:
        KeyFormatRefused: `key` is none.
        WrongKey: there are tokens, and none of them opens; or the vault has another key.
        VaultRefused: the vault's file refused, or a row was changed.
    """
    if vault is not None:
        keys = keys_of(key)
        if keys.key_id not in vault.rows.keys.key_ids:
            raise WrongKey("the vault was filled with another key; nothing was revealed")
        maker = SurrogateMaker(vault.rows.keys, tenant, rows=vault.rows)
        text = vault.reveal(maker.reveal(text, labels).text, labels).text
    return looked_into(text, key, tenant, labels).text


def looked_into(
    text: str,
    key: str | RedactionKeys,
    tenant: str,
    labels: Collection[str] | None = None,
) -> Revealed:
    """As `revealed`, with counts of what was restored and refused."""
    found = TokenCipher(keys_of(key), tenant).reveal(text, labels)
    wrong = [each for each in found.refused if each.reason.value != "type not allowed"]
    if wrong and not found.restored and len(wrong) == len(found.refused):
        reasons = sorted({each.reason.value for each in wrong})
        raise WrongKey(
            f"none of {len(wrong)} sealed values opens ({', '.join(reasons)}): another key, "
            f"another tenant than {tenant!r}, or the text was changed; nothing was revealed"
        )
    return found


def revealer(
    key: str | RedactionKeys,
    tenant: str,
    labels: Collection[str] | None = None,
    vault: SessionVault | None = None,
) -> StreamingRevealer:
    """What opens the tokens of a text that arrives in pieces.

    Raises:
        KeyFormatRefused: `key` is none.
        ConfigurationError: there is a vault: its surrogates are found in whole texts only.
    """
    if vault is not None:
        raise ConfigurationError(
            "surrogates lead back in a whole text, not piece by piece: use reverse_protection"
        )
    return StreamingRevealer(TokenCipher(keys_of(key), tenant), labels)


def opened(sealed: Sequence[str], key: str | RedactionKeys, tenant: str) -> list[str]:
    """The values of whole tokens.

    Raises:
        WrongKey: one of them does not open.
    """
    cipher = TokenCipher(keys_of(key), tenant)
    values = []
    for token in sealed:
        found = cipher.reveal(token)
        if len(found.restored) != 1 or found.refused:
            raise WrongKey("a sealed value does not open with this key; nothing was revealed")
        values.append(found.text)
    return values


def key_for(given: str | RedactionKeys | None, own: RedactionKeys | None) -> str | RedactionKeys:
    """The key that was given, or a guard's own.

    Raises:
        ConfigurationError: there is neither.
    """
    key = own if given is None else given
    if key is None:
        raise ConfigurationError("this guard has no keys: give the encryption key")
    return key


def keys_of(key: str | RedactionKeys) -> RedactionKeys:
    """The keys that a person gave: an object, or text."""
    return RedactionKeys.from_text(key) if isinstance(key, str) else key
