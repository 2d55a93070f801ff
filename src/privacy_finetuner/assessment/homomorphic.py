"""Sums under encryption (CKKS, through TenSEAL): whoever adds up sees ciphertexts only.

What it protects is the inputs, from the one who sums. The sum itself is decrypted, so what it tells
about a contributor is for noise to hide, not for encryption.

CKKS is approximate: decrypted sums are off by about 1e-7 here. A decrypted value that is passed on
as it is tells about the secret key as well (Li & Micciancio 2021, eprint 2020/1533), so sums leave
through `hybrid_privacy_mechanism`, which adds noise to them, or are for the key's holder alone.

Source: Cheon, Kim, Kim & Song 2017 (eprint 2016/421).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from privacy_finetuner.errors import ConfigurationError

DEGREE: Final = 8192
"""Of the ring: 4096 numbers in a ciphertext, 128 bits of security with 160 bits of modulus."""

_MODULUS_BITS: Final = (60, 40, 60)
_SCALE: Final = 2.0**40
ROWS_MOST: Final = 10_000
ERROR: Final = 1e-6
"""Bound on the error of a decrypted number, for rows within [-1, 1]; measured: 1e-7 for 1,000."""


def encrypted_sum(rows_ND: NDArray[np.float64]) -> NDArray[np.float64]:
    """Encrypt every row, add the ciphertexts, decrypt the sum alone.

    Args:
        rows_ND: one row a contributor, every number within [-1, 1]; at most `ROWS_MOST` rows.

    Returns:
        [D], each number within `ERROR` of the exact sum.

    Raises:
        ConfigurationError: TenSEAL is not installed, or the rows are outside the domain.
    """
    if rows_ND.ndim != 2 or not 1 <= len(rows_ND) <= ROWS_MOST:
        raise ConfigurationError(
            f"an encrypted sum takes 1 to {ROWS_MOST} rows of numbers, found others; nothing was "
            "computed"
        )
    if not bool(np.all(np.abs(rows_ND) <= 1)):
        raise ConfigurationError(
            "an encrypted sum takes numbers within [-1, 1]: clip and scale first; nothing was "
            "computed"
        )
    library = _tenseal()
    context = library.context(
        library.SCHEME_TYPE.CKKS,
        poly_modulus_degree=DEGREE,
        coeff_mod_bit_sizes=list(_MODULUS_BITS),
    )
    context.global_scale = _SCALE
    width = DEGREE // 2
    pieces = [
        _piece_sum(library, context, rows_ND[:, start : start + width])
        for start in range(0, rows_ND.shape[1], width)
    ]
    return np.concatenate(pieces)


def _piece_sum(library: Any, context: Any, rows_ND: NDArray[np.float64]) -> NDArray[np.float64]:
    total = library.ckks_vector(context, rows_ND[0].tolist())
    for row_D in rows_ND[1:]:
        total += library.ckks_vector(context, row_D.tolist())
    return np.asarray(total.decrypt(), dtype=np.float64)


def _tenseal() -> Any:
    try:
        import tenseal  # noqa: PLC0415  # an option: only who asks for encryption needs it
    except ImportError as error:
        raise ConfigurationError(
            "homomorphic sums need TenSEAL: pip install 'privacy-finetuner[homomorphic]'; nothing "
            "was computed"
        ) from error
    return tenseal
