"""Masks cancel in the whole group's total, and nowhere else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from tests.federated_dp_llm.node.toy import RECORDS, Hospital, numbers, opened

from federated_dp_llm.errors import NodeRefused
from federated_dp_llm.federation.masks import (
    Masks,
    counts_total,
    create_mask_key,
    read_masks,
    totals,
)
from federated_dp_llm.federation.messages import StepSums, VoteAsk
from privacy_core.decoding.terms import GRID
from privacy_core.errors import InvalidParameter
from privacy_runtime.testing import SeededEntropy

NAMES = ("coast", "north", "valley")
SECRETS = {name: SeededEntropy(seed).token_bytes(32) for seed, name in enumerate(NAMES)}
PUBLICS = {
    name: X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()
    for name, secret in SECRETS.items()
}


def group(name: str) -> Masks:
    return Masks(name, SECRETS[name], {n: key for n, key in PUBLICS.items() if n != name})


def sums(rng: np.random.Generator, lengths: Sequence[int]) -> list[Any]:  # noqa: TID251
    return [rng.integers(-8 * GRID, 8 * GRID + 1, n).astype(np.int32) for n in lengths]


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    return Hospital(tmp_path_factory.mktemp("h"))


def test_the_total_of_the_group_is_exact(hospital: Hospital) -> None:
    rng = np.random.default_rng(0)  # noqa: TID251  plain numbers, no noise
    lengths = [5, 128, 1]
    step = hospital.step("h", draft=2)
    values = {name: sums(rng, lengths) for name in NAMES}
    parts = {}
    for name in NAMES:
        terms = hospital.terms(node_id=name, slots_here=NAMES.index(name) + 1)
        own = msgspec.structs.replace(step, handle=name)
        masked = group(name).masked(values[name], terms, own)
        parts[name] = StepSums(sums=tuple(part.astype("<i4").tobytes() for part in masked))

    whole = totals(parts, lengths, slots=32)

    for place, part in enumerate(whole):
        assert part.tolist() == sum(values[name][place].astype(np.int64) for name in NAMES).tolist()


@pytest.mark.parametrize(
    "change",
    ["missing", "other draft", "other terms", "other request", "other candidates", "unmasked"],
)
def test_whoever_was_told_something_else_or_is_missing_spoils_the_step(
    hospital: Hospital, change: str
) -> None:
    lengths = [16, 16, 16, 16]
    zeros = [np.zeros(n, dtype=np.int32) for n in lengths]
    parts = {}
    for name in NAMES:
        terms, step = hospital.terms(node_id=name), hospital.step("h")
        if name == "north":
            if change == "other draft":
                step = msgspec.structs.replace(step, draft=(1, 2, 3))
            elif change == "other candidates":
                step = msgspec.structs.replace(step, candidates=(*step.candidates[1:], (1,)))
            elif change == "other terms":
                terms = msgspec.structs.replace(terms, clip=2.0)
            elif change == "other request":
                terms = msgspec.structs.replace(terms, request_id="another")
        masked = group(name).masked(zeros, terms, step)
        if (name, change) == ("north", "unmasked"):
            masked = zeros
        if (name, change) != ("north", "missing"):
            parts[name] = StepSums(sums=tuple(part.astype("<i4").tobytes() for part in masked))

    with pytest.raises(NodeRefused, match="masks that stay"):
        totals(parts, lengths, slots=32)


def test_one_nodes_masked_zeros_look_uniform(hospital: Hospital) -> None:
    """A chi-square of the top bytes of 64,000 numbers; false alarm below 1e-6."""
    zeros = [np.zeros(64_000, dtype=np.int32)]
    (masked,) = group("north").masked(zeros, hospital.terms(), hospital.step("h"))

    seen = np.bincount(masked.view(np.uint32) >> 24, minlength=256)
    chi = float(((seen - 250.0) ** 2 / 250.0).sum())

    assert 255 - 5 * 22.6 < chi < 255 + 6 * 22.6


def test_a_repetition_has_the_same_masks_and_another_step_has_others(hospital: Hospital) -> None:
    zeros = [np.zeros(16, dtype=np.int32)]
    masks, terms = group("north"), hospital.terms()
    first, other = hospital.step("h", draft=0), hospital.step("h", (3,), draft=0)

    one = masks.masked(zeros, terms, first)[0].tolist()

    assert one == masks.masked(zeros, terms, first)[0].tolist()
    assert one != masks.masked(zeros, terms, other)[0].tolist()


def test_three_hospitals_answer_as_they_would_without_masks(tmp_path: Path) -> None:
    async def main(masked: bool) -> tuple[list[list[int]], list[int], list[list[int]]]:
        parts, votes, alone = {}, {}, []
        for k, name in enumerate(NAMES):
            node = Hospital(
                tmp_path / f"{name}-{masked}",
                RECORDS[k : k + 2],
                node_id=name,
                masks=group(name) if masked else None,
            )
            assert ("masked" in (await node.agent.card()).modes) == masked
            handle = await opened(node.agent, node.ask())
            parts[name] = await node.agent.step(node.step(handle))
            ballot = VoteAsk(handle=handle, question="q", options=("amber", "birch"))
            votes[name] = (await node.agent.vote(ballot)).counts
            alone.append(numbers(parts[name].sums)[0])
        lengths = [len(ids) for ids in node.step(handle).candidates]
        whole = [part.tolist() for part in totals(parts, lengths, slots=32)]
        return whole, counts_total(votes, 2, slots=32), alone

    plain = asyncio.run(main(masked=False))
    masked = asyncio.run(main(masked=True))

    assert masked[:2] == plain[:2]
    assert all(one != other for one, other in zip(masked[2], plain[2], strict=True))


@pytest.mark.parametrize("counts", [{"a": (1,)}, {"a": (1, 2), "b": (1, 2, 3)}, {"a": (9, 9)}])
def test_counts_that_cannot_be_are_refused(counts: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(NodeRefused):
        counts_total(counts, 2, slots=8)


@pytest.mark.parametrize("sums_sent", [(), (b"\0" * 4,), (b"\0" * 12, b"")])
def test_sums_of_another_shape_are_refused(sums_sent: tuple[bytes, ...]) -> None:
    with pytest.raises(NodeRefused, match="another shape"):
        totals({"north": StepSums(sums=sums_sent)}, [2, 1], slots=8)


def test_keys_are_made_and_read(tmp_path: Path) -> None:
    publics = {
        name: create_mask_key(tmp_path / name, SeededEntropy(k)) for k, name in enumerate(NAMES)
    }
    peers = tmp_path / "peers.json"
    peers.write_text(json.dumps(publics))

    masks = read_masks("north", tmp_path / "north", peers)

    assert (tmp_path / "north").stat().st_mode & 0o777 == 0o600
    assert repr(masks) == "Masks(peers=2)"
    for bad in ("[]", '{"a": "zz"}', '{"a": "00"}', '{"north": "00"}', "{"):
        peers.write_text(bad)
        with pytest.raises(InvalidParameter):
            read_masks("north", tmp_path / "north", peers)
    with pytest.raises(InvalidParameter):
        read_masks("north", tmp_path / "north", tmp_path / "nothing")


def test_a_group_has_others_with_true_keys() -> None:
    for peers in ({}, {"north": PUBLICS["coast"]}, {"coast": bytes(32)}, {"coast": b"short"}):
        with pytest.raises(InvalidParameter):
            Masks("north", SECRETS["north"], peers)
