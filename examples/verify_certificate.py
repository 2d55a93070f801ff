"""Verify a privacy certificate without this product: the standard library and `cryptography`.

    python verify_certificate.py certificate.json [KEY_ID]

It checks the signature and the dates, and bounds epsilon by a formula of its own: Renyi divergences
of the sampled Gaussian at whole orders (Mironov, Talwar & Zhang 2019, arXiv:1908.10530, section
3.3), turned into epsilon as in Canonne, Kamath & Steinke 2020 (arXiv:2004.00010, proposition 12).
The stated price by Renyi divergences must lie close to it. The promise is usually a tighter price
of the same event, which takes more than a page to compute: who trusts only this page reads the
Renyi figure.
"""

import hashlib
import json
import re
import sys
from datetime import UTC, datetime
from math import comb, exp, log, log1p
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def require(condition: bool, complaint: str) -> None:
    if not condition:
        sys.exit(f"not genuine: {complaint}")


def renyi(event: dict[str, Any], order: int, rate: float = 1.0) -> float:
    """The Renyi divergence of an event at a whole order, on a sample of this rate."""
    match event["type"]:
        case "SelfComposed" if rate == 1:
            return event["count"] * renyi(event["event"], order, rate)
        case "PoissonSampled":
            return renyi(event["event"], order, rate * event["sampling_probability"])
        case "Composed" if rate == 1:
            return sum(renyi(part, order) for part in event["events"])
    parts = event["events"] if event["type"] == "Composed" else [event]
    require(all(part["type"] == "Gaussian" for part in parts), f"no formula for {event['type']}")
    precision = sum(part["noise_multiplier"] ** -2 for part in parts)  # one sample: one Gaussian
    if rate == 1:
        return float(order * precision / 2)
    terms = [
        log(comb(order, k))
        + k * log(rate)
        + (order - k) * log1p(-rate)
        + k * (k - 1) * precision / 2
        for k in range(order + 1)
    ]
    return (max(terms) + log(sum(exp(term - max(terms)) for term in terms))) / (order - 1)


def verify(content: bytes, expected_key: str = "") -> str:
    # In canonical form, the signed bytes are the file without this field and without its newline.
    signed, count = re.subn(rb'"signature":"[0-9a-f]{128}",', b"", content.removesuffix(b"\n"))
    document = json.loads(content)
    require(count == 1 and document["version"] == 1, "no certificate of version 1")
    key = bytes.fromhex(document["signer"]["public_key"])
    Ed25519PublicKey.from_public_bytes(key).verify(bytes.fromhex(document["signature"]), signed)
    key_id = hashlib.sha256(key).hexdigest()[:32]
    require(expected_key in ("", key_id), f"signed by another key, {key_id}")
    issued, expires = (
        datetime.fromisoformat(document[f"{what}_at"]) for what in ("issued", "expires")
    )
    require(issued <= datetime.now(UTC) <= expires, "out of date")  # noqa: TID251
    promise, delta = document["guarantee"], document["guarantee"]["delta"]
    require(promise["relation"] == "add_or_remove_one", "no formula for the other relation")
    event, stated = document["event"]["event"], document["prices"]["rdp"]
    bound = min(
        renyi(event, order) + log1p(-1 / order) - log(delta * order) / (order - 1)
        for order in [*range(2, 64), *range(64, 1025, 64)]
    )
    require(stated <= 1.001 * bound, f"rdp is {stated}, by this formula {bound}")
    require(stated >= 0.75 * bound, f"rdp is {stated}; this formula, {bound}, cannot confirm it")
    require(promise["epsilon"] <= 1.001 * stated, "the promise is above the looser price")
    return (
        f"key {key_id} signed epsilon {promise['epsilon']:.6g} at delta {delta:g}; by Renyi "
        f"divergences it is stated to be at most {stated:.6g}, by this formula {bound:.6g}"
    )


if __name__ == "__main__":
    print(verify(Path(sys.argv[1]).read_bytes(), *sys.argv[2:3]))
