"""Whether members and non-members can be compared at all.

A membership attack measures a model only where the two groups of texts are a random split of one
pool. What can be seen of that without the model is checked here.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from typing import Final

from privacy_core.auditing import BlindBaseline

__all__ = ["LEAST_TEXTS", "digest", "void_reasons"]

LEAST_TEXTS: Final = 50
"""Fewer members or non-members than this and no rate is worth reading."""


def digest(text: str) -> bytes:
    """What two texts share that differ in case, spacing or Unicode form only."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return hashlib.sha256(" ".join(folded.split()).encode()).digest()


def void_reasons(
    members: Sequence[str], nonmembers: Sequence[str], blind: BlindBaseline | None
) -> list[str]:
    """Why a comparison of these texts says nothing about a model; empty when it may."""
    found = []
    if min(len(members), len(nonmembers)) < LEAST_TEXTS:
        found.append(
            f"too few texts: {len(members)} members and {len(nonmembers)} non-members, expected "
            f"{LEAST_TEXTS} of each"
        )
    shared = {digest(text) for text in members} & {digest(text) for text in nonmembers}
    if shared:
        found.append(
            f"{len(shared)} texts are members and non-members at once (case and spacing aside); "
            "remove them from both"
        )
    if blind is not None and blind.is_void:
        found.append(blind.reason.removeprefix("void: "))
    return found
