"""How much data there is, and the defaults that follow from it: batch size and delta.

The number of records, and of users, is treated as public, as everywhere in this package. The same
rules hold for the command line, for the pages and for jobs of the service: a training that names no
batch size is the same training wherever it is started.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from privacy_core.guarantee import PrivacyUnit
from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.training.records import read_records

_BATCH_SHARE: Final = 16
_BATCH_LEAST: Final = 8
_BATCH_MOST: Final = 512
_DELTA_MOST: Final = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much data there is.

    Attributes:
        examples: records that training uses.
        units: those whom the guarantee protects: records, or users.
    """

    examples: int
    units: int

    @classmethod
    def of(
        cls,
        source: Path | str,
        *,
        text_field: str = "text",
        label_field: str = "label",
        user_field: str | None = None,
        unit: str = PrivacyUnit.EXAMPLE.value,
        max_examples_per_user: int | None = None,
    ) -> Sizes:
        """Count the records of a file or folder.

        Raises:
            DatasetError: they cannot be read.
            ConfigurationError: users are the unit, and nothing says who they are.
        """
        records = read_records(
            source, text_field=text_field, label_field=label_field, user_field=user_field
        )
        if unit != PrivacyUnit.USER.value:
            return cls(examples=len(records), units=len(records))
        if user_field is None or max_examples_per_user is None:
            raise ConfigurationError(
                "--unit user needs --user-field and --max-examples-per-user: the guarantee is "
                "priced for at most that many records of one user; nothing was started"
            )
        owned = Counter(records.users(user_field)).values()
        return cls(
            examples=sum(min(count, max_examples_per_user) for count in owned), units=len(owned)
        )

    def drawn(self, *, user_sampling: bool) -> int:
        """How many there are of what a step draws: records, or users."""
        return self.units if user_sampling else self.examples


def default_delta(units: int) -> float:
    """A tenth of 1 / units at most, and at most 1e-5; one digit, rounded down."""
    bound = min(_DELTA_MOST, 1 / (10 * units))
    power = math.floor(math.log10(bound) + 1e-9)
    return float(f"{math.floor(bound / 10.0**power + 1e-9)}e{power}")


def default_batch_size(examples: int) -> int:
    """A sixteenth of the records, within 8 and 512.

    Large batches are cheap in privacy: the noise is per step, so it weighs less on a larger sum.
    """
    return min(max(examples // _BATCH_SHARE, _BATCH_LEAST), _BATCH_MOST)
