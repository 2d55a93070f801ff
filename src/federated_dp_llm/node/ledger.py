"""What each patient was promised, and has paid: the guarantee of the whole rests here.

One account a patient, `nano-rho/patient/NAME`, and `nano-rho/everyone`, which every answer debits:
the most that anybody can have paid. Nothing here leaves the node.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from privacy_runtime.allowances.contract import AMOUNT_MAX, Allowances, Balance

EVERYBODY: Final = "nano-rho/everyone"
_PATIENT: Final = "nano-rho/patient/"
_PAGE: Final = 5000


class PatientLedger:
    """The patients' allowances. Any thread may use it; every call waits for the disk.

    Args:
        allowances: the store, of this node alone.
        promise: what every patient may pay in a lifetime, in nano-rho.
    """

    def __init__(self, allowances: Allowances, *, promise: int) -> None:
        self._allowances = allowances
        self._promise = promise

    def admit(self, patients: Iterable[str]) -> None:
        """Open accounts of patients that have none. What somebody has paid stays paid."""
        self._allowances.open_accounts({EVERYBODY: AMOUNT_MAX})
        names = sorted(patients)
        for start in range(0, len(names), _PAGE):
            page = names[start : start + _PAGE]
            self._allowances.open_accounts({_account(name): self._promise for name in page})

    def hold(
        self, request_id: str, patients: Sequence[str], amount: int, *, ttl_s: float
    ) -> frozenset[str]:
        """Hold an answer's price for each patient who has room; return them.

        Guarantee: on disk when it returns. At the end of `ttl_s` what was not settled is spent,
        whoever died meanwhile.
        """
        debits = {EVERYBODY: amount, **{_account(name): amount for name in patients}}
        held = self._allowances.reserve_each(_key(request_id), debits, ttl_s=ttl_s)
        return frozenset(name for name in patients if _account(name) in held)

    def settle(self, request_id: str, patients: Iterable[str], amount: int) -> None:
        """Charge everybody who was held for the same amount."""
        spent = {EVERYBODY: amount, **{_account(name): amount for name in patients}}
        self._allowances.settle(_key(request_id), spent)

    def forfeit(self, request_id: str) -> None:
        """Charge everything that was held."""
        self._allowances.settle(_key(request_id))

    def expire(self) -> int:
        """Charge everything whose time is over, also of sessions that a crash forgot."""
        return self._allowances.expire()

    def balance(self, patient: str) -> Balance | None:
        """What one patient was promised and has paid; None: no record of theirs was ever here."""
        return self._allowances.balances([_account(patient)]).get(_account(patient))

    def most(self) -> Balance:
        """What the dearest patient can have paid at most, in the account's nano-rho."""
        return self._allowances.balances([EVERYBODY])[EVERYBODY]

    def close(self) -> None:
        """Let go of the store."""
        self._allowances.close()


def _account(patient: str) -> str:
    return f"{_PATIENT}{patient}"


def _key(request_id: str) -> str:
    return f"answer/{request_id}"
