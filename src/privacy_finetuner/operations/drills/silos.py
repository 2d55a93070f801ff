"""A silo that sends a bad update: real gradients of a small model on the sample's records.

Eight silos hold 96 records each and send, for one round, the sum of their records' clipped
gradients with Gaussian noise of their own, as record-level differential privacy in a silo does.
The model is a logistic regression over hashed words that tells conversations from notes.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from privacy_finetuner.operations.drills.sandbox import SAMPLE, Sandbox
from privacy_finetuner.operations.run_rules import RunFacts, outlier_strengths
from privacy_runtime.keystream import KeyStream

SILOS: Final = 8
_RECORDS: Final = 96
_WORDS: Final = 256
_CLIP: Final = 1.0
_NOISE: Final = 1.0
_TIMES_LEAST, _TIMES_MORE = 1.0, 9.0

Vector = NDArray[np.float64]


def gradient_outlier(sandbox: Sandbox, intensity: float) -> Iterator[None]:
    """One silo flips its update's sign and makes it up to ten times as long."""
    updates = honest_updates(sandbox.chance)
    bad = f"silo-{int(float(sandbox.chance.uniforms(1)[0]) * SILOS)}"
    updates[bad] = -(_TIMES_LEAST + _TIMES_MORE * intensity) * updates[bad]

    def facts() -> RunFacts:
        return RunFacts(
            tenant=sandbox.tenant,
            run="round-1",
            now=sandbox.clock.now(),
            updates=updates,
            about={"run": "round-1"},
        )

    def halted() -> dict[str, object]:
        return {"round_is_halted": "round-1" in sandbox.halts}

    sandbox.looks.append(facts)
    sandbox.afterwards.append(halted)
    sandbox.strengths["silo_outlier"] = max(outlier_strengths(updates).values())
    sandbox.clock.advance(sandbox.settings.interval_s)
    yield


def honest_updates(chance: KeyStream) -> dict[str, Vector]:
    """What eight silos send for the first round: mean clipped gradients with noise."""
    features_NP, labels_N = _features()
    order = chance.uniforms(len(labels_N)).argsort()
    updates = {}
    for silo in range(SILOS):
        own = order[silo * _RECORDS : (silo + 1) * _RECORDS]
        grads_BP = (0.5 - labels_N[own])[:, None] * features_NP[own]
        norms_B = np.linalg.norm(grads_BP, axis=1)
        grads_BP *= np.minimum(1.0, _CLIP / np.maximum(norms_B, 1e-12))[:, None]
        noise_P = _NOISE * _CLIP * _normals(chance, _WORDS)
        updates[f"silo-{silo}"] = (grads_BP.sum(axis=0) + noise_P) / _RECORDS
    return updates


def _normals(chance: KeyStream, count: int) -> Vector:
    """Box-Muller over the drill's stream: nobody's records are protected by it."""
    first_P, second_P = chance.uniforms(count), chance.uniforms(count)
    length_P = np.sqrt(-2 * np.log(np.maximum(first_P, 1e-300)))
    return np.asarray(length_P * np.cos(2 * np.pi * second_P))


def _features() -> tuple[Vector, Vector]:
    """Hashed words of each sample record, and whether it is a conversation."""
    with (SAMPLE / "records.jsonl").open(encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    features_NP = np.zeros((len(texts), _WORDS))
    for row, text in enumerate(texts):
        for word in text.split():
            features_NP[row, zlib.crc32(word.encode()) % _WORDS] += 1
    return features_NP, np.array([float(text.startswith("DR:")) for text in texts])
