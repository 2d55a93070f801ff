"""A node's folder, and a node on it: what must survive the process.

====================  ==============================================================
`allowances.sqlite3`  what each patient was promised and has paid: the guarantee
`audit.sqlite3`       sessions opened and ended, hash-chained
`audit-key.pem`       signs where that chain ends: Ed25519 and ML-DSA-65
`audit-heads.jsonl`   what it signed
====================  ==============================================================

Whoever deletes the first gives every patient their promise anew. Back it up like the records.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from federated_dp_llm.federation.amounts import nano_cap
from federated_dp_llm.federation.masks import Masks
from federated_dp_llm.node.agent import NodeAgent, Parts
from federated_dp_llm.node.audit import Audit, stream_of
from federated_dp_llm.node.backend import Backend
from federated_dp_llm.node.ledger import PatientLedger
from federated_dp_llm.node.policy import NodePolicy
from federated_dp_llm.node.retrieval import Retrieval
from privacy_core.decoding.prices import rho_of
from privacy_core.errors import InvalidParameter
from privacy_runtime.allowances import open_allowances
from privacy_runtime.files import reason_of
from privacy_runtime.journal import Journal, opened_heads
from privacy_runtime.journal.sqlite import SqliteHome
from privacy_runtime.signing import TrustedKeys
from privacy_runtime.world import Clock, SystemClock, SystemEntropy

ALLOWANCES: Final = "allowances.sqlite3"
AUDIT: Final = "audit.sqlite3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What each patient is promised, over everything that is ever asked of this node.

    Args:
        epsilon: at `delta`.
        delta: well below one in the number of patients.

    Raises:
        InvalidParameter: a number is outside its domain.
    """

    epsilon: float = 10.0
    delta: float = 1e-6

    def __post_init__(self) -> None:
        if not 0 < self.epsilon < math.inf:
            raise InvalidParameter("epsilon", found=self.epsilon, expected="a finite number > 0")
        if not 0 < self.delta < 1:
            raise InvalidParameter("delta", found=self.delta, expected="a number in (0, 1)")

    @property
    def nano_rho(self) -> int:
        """The same in the ledger's amounts, rounded down."""
        return nano_cap(rho_of(self.epsilon, self.delta))


def open_agent(
    folder: Path | str,
    policy: NodePolicy,
    backend: Backend,
    retrieval: Retrieval,
    *,
    trusted: TrustedKeys,
    promise: Promise,
    clock: Clock | None = None,
    masks: Masks | None = None,
) -> NodeAgent:
    """A node over a folder; the folder is made, mode 0700, where it is missing.

    Patients whom the folder knows keep the promise they have: a larger one is for those who come.

    Args:
        folder: of this node alone.
        policy: its limits.
        backend: its model.
        retrieval: over its records.
        trusted: whose terms count: the router's public key.
        promise: to each patient.
        clock: None: the machine's.
        masks: of its group, if the router may not see its own sums.

    Raises:
        InvalidParameter: the folder cannot be made, or a number is outside its domain.
        AllowancesUnavailable: the ledger cannot be opened.
        JournalError: the audit cannot, or is not the one whose heads were signed.
    """
    path, clock = Path(folder), clock or SystemClock()
    amount = promise.nano_rho
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidParameter(
            "home", found=f"{path}: {reason_of(error)}", expected="a folder of this node"
        ) from None
    journal = Journal(SqliteHome(path / AUDIT), clock=clock)
    stream = stream_of(policy.node_id)
    heads = opened_heads(path, journal, [stream], clock=clock, entropy=SystemEntropy())
    return NodeAgent(
        Parts(
            policy=policy,
            backend=backend,
            ledger=PatientLedger(open_allowances(path / ALLOWANCES, clock=clock), promise=amount),
            audit=Audit(journal, node_id=policy.node_id, heads=heads),
            trusted=trusted,
            clock=clock,
            entropy=SystemEntropy(),
            masks=masks,
        ),
        retrieval,
    )
