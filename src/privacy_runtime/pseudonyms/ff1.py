"""FF1: a permutation of the numerals of one length and radix, under a key and a tweak.

Source: NIST SP 800-38G, algorithms 1 to 8 (FF1 only); section 5.2 of the second public draft of
revision 1 (February 2025), which demands at least 10^6 possible values and withdraws FF3. Smaller
domains are refused here. There is no authentication: whoever changes a ciphertext changes the
value unnoticed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from privacy_core.errors import InvalidParameter
from privacy_runtime.pseudonyms.errors import DomainTooSmall

SMALLEST_DOMAIN: Final = 10**6
_BLOCK: Final = 16
_ROUNDS: Final = 10
_MOST_NUMERALS: Final = 1_024


class FF1:
    """FF1 with AES under one key.

    Args:
        key: 16, 24 or 32 bytes.
        radix: numerals are 0 to radix - 1; 2 to 65,536.
    """

    def __init__(self, key: bytes, radix: int = 10) -> None:
        if not 2 <= radix <= 2**16:
            raise InvalidParameter("radix", found=radix, expected="2 to 65536")
        self._aes = Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305  a block, not a mode
        self._radix = radix

    def encrypt(self, numerals: Sequence[int], tweak: bytes = b"") -> list[int]:
        """Return the numerals that stand for `numerals` (algorithm 7).

        Raises:
            DomainTooSmall: fewer than 10^6 strings have this length.
            InvalidParameter: a numeral is not below the radix, or there are more than 1,024.
        """
        return self._turn(numerals, tweak, forwards=True)

    def decrypt(self, numerals: Sequence[int], tweak: bytes = b"") -> list[int]:
        """Return the numerals that `numerals` stand for (algorithm 8). Raises as `encrypt`."""
        return self._turn(numerals, tweak, forwards=False)

    def __repr__(self) -> str:
        return f"FF1(radix={self._radix})"

    def _turn(self, numerals: Sequence[int], tweak: bytes, *, forwards: bool) -> list[int]:
        self._require_domain(numerals)
        length, radix = len(numerals), self._radix
        left = length // 2
        right = length - left
        a, b = self._number(numerals[:left]), self._number(numerals[left:])
        size = (((radix**right) - 1).bit_length() + 7) // 8  # b in the standard
        width = 4 * ((size + 3) // 4) + 4  # d in the standard
        head = (
            bytes([1, 2, 1])
            + radix.to_bytes(3, "big")
            + bytes([_ROUNDS, left % 256])
            + length.to_bytes(4, "big")
            + len(tweak).to_bytes(4, "big")
            + tweak
            + bytes(-(len(tweak) + size + 1) % _BLOCK)
        )
        encrypt = self._aes.encryptor().update
        before = _mac(encrypt, head[: len(head) // _BLOCK * _BLOCK], 0)
        rest = head[len(head) // _BLOCK * _BLOCK :]
        for turn in range(_ROUNDS) if forwards else reversed(range(_ROUNDS)):
            modulus = radix ** (left if turn % 2 == 0 else right)
            source = b if forwards else a
            block = rest + bytes([turn]) + source.to_bytes(size, "big")
            y = int.from_bytes(_expand(encrypt, _mac(encrypt, block, before), width), "big")
            if forwards:
                a, b = b, (a + y) % modulus
            else:
                a, b = (b - y) % modulus, a
        return self._numerals(a, left) + self._numerals(b, right)

    def _require_domain(self, numerals: Sequence[int]) -> None:
        if self._radix ** min(len(numerals), 20) < SMALLEST_DOMAIN:
            raise DomainTooSmall(
                f"{len(numerals)} numerals of radix {self._radix} have fewer than 10^6 values, "
                "which can be tried one by one; nothing was encrypted"
            )
        if len(numerals) > _MOST_NUMERALS:
            raise InvalidParameter(
                "numerals", found=len(numerals), expected=f"at most {_MOST_NUMERALS}"
            )
        if any(not 0 <= numeral < self._radix for numeral in numerals):
            raise InvalidParameter(
                "numerals", found="one outside the radix", expected=f"0 to {self._radix - 1}"
            )

    def _number(self, numerals: Sequence[int]) -> int:
        number = 0
        for numeral in numerals:
            number = number * self._radix + numeral
        return number

    def _numerals(self, number: int, length: int) -> list[int]:
        numerals = [0] * length
        for place in reversed(range(length)):
            number, numerals[place] = divmod(number, self._radix)
        return numerals


Encrypt = Callable[[bytes], bytes]


def _mac(encrypt: Encrypt, data: bytes, state: int) -> int:
    """CBC-MAC of whole blocks, going on from `state` (algorithm 6)."""
    for start in range(0, len(data), _BLOCK):
        block = int.from_bytes(data[start : start + _BLOCK], "big")
        state = int.from_bytes(encrypt((state ^ block).to_bytes(_BLOCK, "big")), "big")
    return state


def _expand(encrypt: Encrypt, state: int, size_bytes: int) -> bytes:
    """The first bytes of state, AES(state ^ 1), AES(state ^ 2), ..."""
    blocks = [state.to_bytes(_BLOCK, "big")]
    for count in range(1, -(-size_bytes // _BLOCK)):
        blocks.append(encrypt((state ^ count).to_bytes(_BLOCK, "big")))
    return b"".join(blocks)[:size_bytes]
