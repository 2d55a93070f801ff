"""Pairwise masks: the router learns the federation's sums and no single node's.

Every two nodes share a secret. For each message they stretch it to one 32-bit number per sum; one
adds it, the other subtracts it, modulo 2^32. The total over all nodes of the group is right, and
any part of the nodes' sums is uniformly random to whoever lacks the secrets.

The stream depends on the terms that all nodes share and on the whole step. A router that tells
nodes different things about one answer gets noise, and a repetition gets the same bytes again.

==============================================  =================================================
what                                            is
==============================================  =================================================
a node's sums, before a router that follows
the protocol, or does not                       hidden, while two other nodes keep their secrets
the total, which the router needs               seen by the router, exactly; masks are no noise
a node that lies about its sums                 not found out: masks hide that as well
a node that is missing                          the step is refused. Nothing is ever unmasked
which nodes take part                           fixed by configuration, and public
==============================================  =================================================

With two nodes, each learns nothing of the other; a router that holds one node's key sees the other.

Sources: Bonawitz et al. 2017 (pairwise masks, without their recovery of drop-outs); RFC 7748
(X25519), RFC 5869 (HKDF), RFC 8439 (ChaCha20).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from federated_dp_llm.errors import NodeRefused
from federated_dp_llm.federation.messages import Step, StepSums, Terms, VoteAsk
from privacy_core.decoding.terms import GRID
from privacy_core.errors import InvalidParameter
from privacy_runtime.files import reason_of
from privacy_runtime.signing import write_private
from privacy_runtime.world import Entropy

Sums = npt.NDArray[np.int32]
_LABEL: Final = b"federated-dp-llm/masks/1"
_KEY_BYTES: Final = 32


class Masks:
    """One node's share of the masks of a group that is fixed by configuration.

    Args:
        node_id: this node.
        secret: its X25519 key, 32 bytes.
        peers: the public keys, 32 bytes each, of all other nodes of the group.

    Raises:
        InvalidParameter: no peer, this node among its peers, or what is no key.
    """

    def __init__(self, node_id: str, secret: bytes, peers: Mapping[str, bytes]) -> None:
        if not peers or node_id in peers:
            raise InvalidParameter(
                "peers", found=f"{len(peers)} names", expected="all other nodes, at least one"
            )
        own = X25519PrivateKey.from_private_bytes(_key("secret", secret))
        publics = {**peers, node_id: own.public_key().public_bytes_raw()}
        group = hashlib.sha256(msgspec.msgpack.encode(sorted(publics.items()))).digest()
        self._pairs: list[tuple[int, bytes]] = []
        for name, public in sorted(peers.items()):
            try:
                shared = own.exchange(X25519PublicKey.from_public_bytes(_key(name, public)))
            except ValueError:
                raise InvalidParameter("peers", found=name, expected="an X25519 key") from None
            pair = msgspec.msgpack.encode(sorted((node_id, name)))
            key = HKDF(hashes.SHA256(), length=32, salt=group, info=_LABEL + pair).derive(shared)
            self._pairs.append((1 if node_id < name else -1, key))

    def __repr__(self) -> str:
        return f"Masks(peers={len(self._pairs)})"

    def masked(self, values: Sequence[Sums], terms: Terms, asked: Step | VoteAsk) -> list[Sums]:
        """The numbers of one message with this node's masks added, modulo 2^32.

        Args:
            values: of this node.
            terms: of the session. What differs between nodes in them plays no part.
            asked: the message. Its handle plays no part.
        """
        digest = _digest(terms, asked)
        count = sum(len(part) for part in values)
        total = np.concatenate([part.astype(np.int32) for part in values]).view(np.uint32)
        for sign, key in self._pairs:
            stream = _stream(hmac.digest(key, digest, "sha256"), count)
            total = total + stream if sign > 0 else total - stream
        ends = np.cumsum([len(part) for part in values])[:-1]
        return list(np.split(total.view(np.int32), ends))


def totals(parts: Mapping[str, StepSums], lengths: Sequence[int], *, slots: int) -> list[Sums]:
    """Add what the nodes of one group sent; masks cancel.

    Args:
        parts: of every node of the group, by name.
        lengths: how many candidates each position has.
        slots: of all of them together.

    Raises:
        NodeRefused: a node sent another shape; or the total is beyond what the slots can add up to:
            a node is missing, was told something else, or broke the protocol. Use nothing of it.
            Masks that do not cancel pass by chance with probability slots GRID 2^-31 to the power
            of the number of candidates.
    """
    total = [np.zeros(length, dtype=np.uint32) for length in lengths]
    for name, sums in parts.items():
        if [len(data) for data in sums.sums] != [4 * length for length in lengths]:
            raise NodeRefused(name, "protocol: sums of another shape")
        for place, data in enumerate(sums.sums):
            total[place] += np.frombuffer(data, dtype="<u4")
    signed = [part.view(np.int32) for part in total]
    if any(np.abs(part.astype(np.int64)).max(initial=0) > slots * GRID for part in signed):
        raise NodeRefused(
            "+".join(sorted(parts)), "protocol: sums beyond their bound, or masks that stay"
        )
    return signed


def counts_total(parts: Mapping[str, Sequence[int]], options: int, *, slots: int) -> list[int]:
    """The same for votes.

    Raises:
        NodeRefused: another number of options, or a total that so many slots cannot give.
    """
    for name, counts in parts.items():
        if len(counts) != options:
            raise NodeRefused(name, "protocol: counts of another shape")
    total = [sum(column) % (1 << 32) for column in zip(*parts.values(), strict=True)]
    if sum(total) > slots:
        raise NodeRefused(
            "+".join(sorted(parts)), "protocol: more votes than slots, or masks that stay"
        )
    return total


def create_mask_key(path: Path, entropy: Entropy) -> str:
    """Make a node's key of masks, mode 0600; return the public half to hand out, in hexadecimal.

    Raises:
        InvalidParameter: the file exists.
        WriteFailed: the disk refused.
    """
    secret = entropy.token_bytes(_KEY_BYTES)
    write_private(path, secret.hex().encode())
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw().hex()


def read_masks(node_id: str, key_file: Path, peers_file: Path) -> Masks:
    """Read a node's key, and a JSON file of its peers' public ones: `{"north": "ab12...", ...}`.

    Raises:
        InvalidParameter: a file is missing, or holds something else.
    """
    try:
        secret = bytes.fromhex(key_file.read_text("ascii").strip())
        named = msgspec.json.decode(peers_file.read_bytes(), type=dict[str, str], strict=True)
        peers = {name: bytes.fromhex(text) for name, text in named.items()}
    except OSError as error:
        raise InvalidParameter(
            "masks", found=f"{error.filename}: {reason_of(error)}", expected="a key and its peers"
        ) from None
    except (ValueError, msgspec.MsgspecError):
        raise InvalidParameter(
            "masks", found="a file that holds no keys", expected="hexadecimal X25519 keys"
        ) from None
    return Masks(node_id, secret, {n: key for n, key in peers.items() if n != node_id})


def _digest(terms: Terms, asked: Step | VoteAsk) -> bytes:
    """What every node of the group must have been told alike."""
    common = msgspec.structs.asdict(terms)
    for own in ("node_id", "slots_here", "issued_at", "expires_at"):
        del common[own]
    message = msgspec.structs.asdict(asked)
    del message["handle"]
    kind = type(asked).__name__
    return hashlib.sha256(msgspec.msgpack.encode([kind, common, message])).digest()


def _stream(key: bytes, count: int) -> npt.NDArray[np.uint32]:
    """So many 32-bit numbers of a key that is used for one message: the nonce may be zero."""
    encryptor = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()
    return np.frombuffer(encryptor.update(bytes(4 * count)), dtype="<u4")


def _key(name: str, key: bytes) -> bytes:
    if len(key) != _KEY_BYTES:
        raise InvalidParameter("key", found=f"{name}: {len(key)} bytes", expected="32 bytes")
    return key
