"""Audit canaries of a run: made-up records, each in the data set by a secret coin, and their seal.

A run that is to be audited carries m canaries beside its n records. Each is *in* with probability
one half, by a coin from the key stream; one that is in is a record (and a user) like any other: it
is drawn, clipped and covered by noise as they are, and protected by the same guarantee. Afterwards
the auditor guesses from what was released which ones were in. A method that is (epsilon, delta)-DP
bounds how often such guesses are right (Steinke, Nasr and Jagielski 2023), so too many right ones
refute the claimed epsilon.

What the sampler draws from, and what it is priced as: n + m *places*, each drawn with the one
probability of the plan. A place whose canary is out stands empty and contributes nothing, so the
draw is Poisson sampling of the records that are there, whatever the coins: the priced event. The
plan counts `examples` = n + m/2, the expected number of records; q is computed from it, and so is
the divisor of the sum. Neither depends on a coin.

The seal (`audit_canaries.json`, mode 0600) holds canaries, coins, their losses before training, and
how the auditor will choose how many to guess (`protocol`). It is written before the first gradient
and its digest is the run record's, so that no coin can be chosen afterwards. Who reads it *before
or during* training can void the audit; it says nothing about the private records.

=====================  ========================================================================
kind                   a canary is
=====================  ========================================================================
`random-token`         a text of random tokens (for a classifier, with a random class)
`new-token`            random tokens, then a token of its own, added to the vocabulary: the only
                       position that is learned. Full fine-tunes of language models only
`synthetic`            a text that the model wrote at a high temperature before training
`gradient`             no text: an extra record whose gradient is dictated, one long coordinate
                       of its own (white-box; see `canary_gradient`)
=====================  ========================================================================

Source: Steinke et al. 2023 (arXiv:2305.08846), Algorithm 1; Panda et al. 2025 (arXiv:2503.06808)
for new tokens; Nasr et al. 2023 (arXiv:2302.07956), section 4, for dictated gradients.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from privacy_core.guarantee import PrivacyUnit
from privacy_finetuner.config import TrainingConfig
from privacy_finetuner.errors import CheckpointError, ConfigurationError
from privacy_finetuner.options import TrainOptions
from privacy_finetuner.training.sampling import Indices
from privacy_runtime.files import write_atomic
from privacy_runtime.keystream import KeyStream

if TYPE_CHECKING:
    from privacy_finetuner.training.datasets import Task

SEAL_FILE: Final = "audit_canaries.json"
SEAL_VERSION: Final = 1
GRADIENT: Final = "gradient"
FEWEST: Final = 100
"""Below it even an ideal attacker's guesses carry next to nothing: see `assessment.audit`."""
CONFIDENCE: Final = 0.95
FRACTION: Final = 0.25
SALT_BYTES: Final = 32

Bits = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Seal:
    """The canaries of a run with their coins. Public but for the coins; the repr shows counts.

    Attributes:
        kind: see the module.
        task: what the canaries teach: as the run's records.
        included: the coins, shape (m,).
        tokens: of each canary; empty for `gradient`.
        classes: of each canary, for a classifier; else empty.
        learned: how many tokens at the end of each canary are learned.
        coordinates: for `gradient`, each canary's place among the trained weights.
        first_losses: of each canary before training; empty for `gradient`.
        base: what the run started from, as it was named.
        vocabulary: rows of the embedding before new tokens were added.
        salt: makes the digest of the seal unguessable.
        protocol: how the audit will be done, written before the first step.
    """

    kind: str
    task: Task
    included: Bits
    tokens: tuple[tuple[int, ...], ...] = ()
    classes: tuple[int, ...] = ()
    learned: int = 0
    coordinates: tuple[int, ...] = ()
    first_losses: tuple[float, ...] = ()
    base: str = ""
    vocabulary: int = 0
    salt: str = ""
    protocol: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Seal(kind={self.kind!r}, count={self.count})"

    @property
    def count(self) -> int:
        """How many canaries there are, in or out."""
        return len(self.included)

    @property
    def is_white_box(self) -> bool:
        """Whether the auditor sees every noisy sum, not the last model only."""
        return self.kind == GRADIENT

    def encoded(self) -> bytes:
        """The file's bytes: the same for the same seal."""
        document = {
            "version": SEAL_VERSION,
            "kind": self.kind,
            "task": self.task,
            "included": _written(self.included),
            "tokens": [list(ids) for ids in self.tokens],
            "classes": list(self.classes),
            "learned": self.learned,
            "coordinates": list(self.coordinates),
            "first_losses": list(self.first_losses),
            "base": self.base,
            "vocabulary": self.vocabulary,
            "salt": self.salt,
            "protocol": self.protocol,
        }
        return json.dumps(document, sort_keys=True).encode()

    @property
    def digest(self) -> str:
        """SHA-256 of the file; with the salt in it, it tells nothing of the coins."""
        return hashlib.sha256(self.encoded()).hexdigest()

    @property
    def binding(self) -> dict[str, Any]:
        """What the run record says of the audit before the first step."""
        return {"canaries": self.count, "kind": self.kind, "seal": self.digest}

    def write(self, folder: Path) -> None:
        """Write the seal, readable by its owner alone.

        Raises:
            WriteFailed: the disk refused; nothing was started.
        """
        path = folder / SEAL_FILE
        path.touch(mode=0o600)
        path.chmod(0o600)
        write_atomic(path, self.encoded())


def read_seal(folder: Path, *, digest: str | None = None) -> Seal:
    """Read the seal of a run.

    Args:
        folder: of the run.
        digest: what the run record says of it; the file must be that one.

    Raises:
        CheckpointError: there is none, it is damaged, of another version, or not that one.
    """
    path = folder / SEAL_FILE
    content = path.read_bytes() if path.is_file() else None
    if content is None:
        raise CheckpointError(f"{path} is missing: without the coins there is nothing to audit")
    if digest is not None and hashlib.sha256(content).hexdigest() != digest:
        raise CheckpointError(
            f"{path} is not the file that the run record names: coins or canaries were changed "
            "after training began; nothing was audited"
        )
    try:
        document = json.loads(content)
        version = document.pop("version")
        if version != SEAL_VERSION:
            raise CheckpointError(f"{path} has version {version!r}, expected {SEAL_VERSION}")
        document["included"] = _read(document["included"])
        for name in ("classes", "coordinates", "first_losses"):
            document[name] = tuple(document[name])
        document["tokens"] = tuple(tuple(ids) for ids in document["tokens"])
        return Seal(**document)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged ({type(error).__name__})") from error


def refuse_unsuited(options: TrainOptions, training: TrainingConfig, *, is_adapter: bool) -> None:
    """Refuse canaries that this run cannot carry, or that could show nothing.

    Raises:
        ConfigurationError: says which option stands against which; nothing was started.
    """
    count, white = options.audit_canaries, options.audit_scores == "white-box"
    faults = [
        (
            count % 2 == 1 or count < FEWEST,
            f"audit_canaries is {count}, expected an even number from {FEWEST}: the ceiling of an "
            "audit with fewer is far below any epsilon in use",
        ),
        (
            options.unit == PrivacyUnit.USER.value
            and not options.user_sampling
            and (options.max_examples_per_user or 1) > 1,
            "a canary is one record, and the guarantee of unit 'user' is for up to "
            f"{options.max_examples_per_user} of a user: an audit would look at less than is "
            "promised; audit with user_sampling, or with unit 'example'",
        ),
        (
            white and (training.gradient == "forward"),
            "white-box canaries dictate a gradient, and gradient 'forward' has none; take "
            "audit_scores='black-box'",
        ),
        (
            white and training.user_sampling,
            "white-box canaries are records, and this run draws users; take "
            "audit_scores='black-box'",
        ),
        (
            options.data_collator is not None and not white,
            "a data collator makes its own batches of records that it knows; canaries go with "
            "audit_scores='white-box' then",
        ),
        (
            options.audit_kind == "new-token" and not white and is_adapter,
            "new tokens need trained embeddings, and an adapter trains none; take "
            "audit_kind='random-token'",
        ),
    ]
    found = [words for is_fault, words in faults if is_fault]
    if found:
        raise ConfigurationError("; ".join(found) + "; nothing was started")


def draw_coins(count: int, stream: KeyStream) -> Bits:
    """`count` fair coins, each one bit of a word of its own."""
    return (stream.words(count) >> np.uint64(63)).astype(bool)


def protocol(stream: KeyStream) -> dict[str, Any]:
    """How the audit will be done: a random quarter of the canaries chooses how many are guessed.

    The seed says which quarter; it is drawn before training, so nobody can shop for a lucky one.
    """
    seed = int(stream.words(1)[0] >> np.uint64(32))
    return {"choice": "split", "fraction": FRACTION, "seed": seed, "confidence": CONFIDENCE}


class Places:
    """The places of a run's sampler: first the records (or users), then the canaries.

    Guarantee: what `admit` returns of the records does not depend on the coins.

    Args:
        seal: the canaries.
        records: how many places are records, or users.
        examples: how many records there are.
    """

    def __init__(self, seal: Seal, records: int, *, examples: int) -> None:
        self.seal = seal
        self.records = records
        self.examples = examples
        self.present: Indices = np.zeros(0, dtype=np.int64)

    def admit(self, drawn: Indices) -> Indices:
        """Return the examples of a draw; canaries that are out leave their place empty.

        White-box canaries have no text: those that are in are kept in `present` for the sum.
        """
        is_canary = drawn >= self.records
        canaries = drawn[is_canary] - self.records
        self.present = canaries[self.seal.included[canaries]]
        if self.seal.is_white_box:
            return drawn[~is_canary]
        return np.concatenate([drawn[~is_canary], self.present + self.records])


def _written(bits: Bits) -> str:
    return "".join("1" if bit else "0" for bit in bits)


def _read(bits: str) -> Bits:
    if set(bits) - {"0", "1"}:
        raise ValueError(bits)
    return np.array([bit == "1" for bit in bits], dtype=bool)
