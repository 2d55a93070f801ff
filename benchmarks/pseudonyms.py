"""What stand-ins cost: microseconds a value, characters and LLM tokens a stand-in, stream speed.

    python benchmarks/pseudonyms.py [--json] [--seconds 0.4]

Each operation runs on 2,000 distinct values of 5 to 40 characters, over and over for `--seconds`
of processor time; the best of three rounds counts. Beside it, in the same run, the primitive that
it cannot be cheaper than (AES-SIV, HMAC, one row of SQLite), so that a ratio can be compared
between machines. Faker is created outside the clock. The stream is a detector of two regular
expressions, so that what is measured is the streaming and the rewriting; `batch` is that detector
and `rewrite` on the same text as a whole.
"""

from __future__ import annotations

import argparse
import hmac
import itertools
import json
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from privacy_core.redaction.findings import Finding
from privacy_core.redaction.operators import Placeholder, Scope
from privacy_core.redaction.rewriting import rewrite
from privacy_core.redaction.streaming import FILES, TOKENS, StreamingRedactor, Window
from privacy_runtime.pseudonyms import (
    EntityHasher,
    FormatPreserving,
    RedactionKeys,
    SessionVault,
    SurrogateMaker,
    TokenCipher,
    VaultStore,
)
from privacy_runtime.world import SystemClock, SystemEntropy

NAMES = [
    f"{first} {last}{number}"
    for first, last, number in itertools.product(
        ("Ann", "Bartholomew", "Cy", "Dorothea"), ("Lee", "Featherstonehaugh"), range(250)
    )
]
CARDS = [f"4539 1488 {number:04} 6467" for number in range(2_000)]
PROSE = "Ann Lee wrote to ann.lee@example.org about the weather, which was fine, and then left. "


class TwoPatterns:
    """The smallest detector that has something to do."""

    patterns = (
        ("EMAIL", re.compile(r"[a-z.]+@[a-z.]+[a-z]")),
        ("PERSON", re.compile("Ann Lee")),
    )

    def detect(
        self, text: str, *, level: str = "medium", hints: Sequence[str] = ()
    ) -> tuple[Finding, ...]:
        """Find both."""
        del level, hints
        return tuple(
            Finding(match.start(), match.end(), label, 1.0, "benchmark.pattern")
            for label, pattern in self.patterns
            for match in pattern.finditer(text)
        )


def microseconds(act: Callable[[str], object], values: Sequence[str], seconds: float) -> float:
    best = float("inf")
    for _ in range(3):
        done, start = 0, time.process_time()
        while time.process_time() - start < seconds / 3:
            for value in values[done % 1_000 : done % 1_000 + 50]:
                act(value)
            done += 50
        best = min(best, (time.process_time() - start) / done)
    return best * 1e6


def values_table(seconds: float, folder: Path) -> dict[str, float]:
    keys = RedactionKeys.generate(SystemEntropy(), folder / "keys.json")
    cipher, hasher, preserving = TokenCipher(keys), EntityHasher(keys), FormatPreserving(keys)
    store = VaultStore(folder / "vault.db", SystemClock())
    vault = SessionVault(store, keys)
    kept, fleeting = SurrogateMaker(keys, rows=vault.rows), SurrogateMaker(keys)
    found = Finding(0, 1, "PERSON", 1.0, "benchmark")
    primitive, key = AESSIV(bytes(range(64))), bytes(32)
    sealed = {name: cipher.seal(name, "PERSON") for name in NAMES}
    tokens = {name: vault.seal(name, "PERSON") for name in NAMES}
    for maker in (kept, fleeting):
        for name in NAMES:
            maker.replace(name, found, Scope())
    scope = Scope()
    acts: dict[str, tuple[Callable[[str], object], Sequence[str]]] = {
        "primitive: AES-SIV": (lambda v: primitive.encrypt(v.encode(), [b"a", b"b"]), NAMES),
        "primitive: HMAC-SHA256": (lambda v: hmac.digest(key, v.encode(), "sha256"), NAMES),
        "placeholder": (lambda v: Placeholder().replace(v, found, scope), NAMES),
        "seal": (lambda v: cipher.seal(v, "PERSON"), NAMES),
        "reveal a sealed token": (lambda v: cipher.reveal(sealed[v]), NAMES),
        "hash": (lambda v: hasher.hash(v, "PERSON"), NAMES),
        "format-preserving card": (lambda v: preserving.encrypt(v, "PAYMENT_CARD"), CARDS),
        "session token, known": (lambda v: vault.seal(v, "PERSON"), NAMES),
        "reveal a session token": (lambda v: vault.reveal(tokens[v]), NAMES),
        "surrogate, known": (lambda v: fleeting.replace(v, found, scope), NAMES),
        "surrogate with vault, known": (lambda v: kept.replace(v, found, scope), NAMES),
    }
    table = {name: microseconds(act, values, seconds) for name, (act, values) in acts.items()}
    fresh = (f"fresh {number}" for number in itertools.count())
    table["session token, new"] = microseconds(
        lambda _: vault.seal(next(fresh), "PERSON"), NAMES, seconds
    )
    store.close()
    return table


def lengths_table(folder: Path) -> dict[str, int]:
    keys = RedactionKeys.generate(SystemEntropy(), folder / "more-keys.json")
    value = "ann.lee@clinic.example"[:20]
    with VaultStore(folder / "more.db", SystemClock()) as store:
        return {
            "the value": len(value),
            "placeholder": len("[EMAIL_2]"),
            "session token": len(SessionVault(store, keys).seal(value, "EMAIL")),
            "hash": len(EntityHasher(keys).hash(value, "EMAIL")),
            "seal": len(TokenCipher(keys).seal(value, "EMAIL")),
            "seal, padded": len(TokenCipher(keys, pad=True).seal(value, "EMAIL")),
        }


def stream_table() -> dict[str, float]:
    detector, operator = TwoPatterns(), Placeholder()
    text = PROSE * 3_000
    table = {}

    def megabytes_per_s(act: Callable[[], object]) -> float:
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            act()
            best = min(best, time.process_time() - start)
        return len(text) / best / 1e6

    def stream(window: Window, size: int, part: str) -> None:
        redactor = StreamingRedactor(detector, lambda _: operator, window=window)
        for place in range(0, len(part), size):
            redactor.feed(part[place : place + size])
        redactor.close()

    table["batch"] = megabytes_per_s(
        lambda: rewrite(text, detector.detect(text), lambda _: operator, Scope())
    )
    table["FILES, pieces of 64 kB"] = megabytes_per_s(lambda: stream(FILES, 65_536, text))
    table["FILES, pieces of 100 B"] = megabytes_per_s(lambda: stream(FILES, 100, text))
    table["TOKENS, pieces of 4 B"] = megabytes_per_s(lambda: stream(TOKENS, 4, text))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=float, default=0.4)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result: dict[str, Any] = {
            "microseconds_per_value": values_table(given.seconds, Path(folder)),
            "characters_for_an_email_of_20": lengths_table(Path(folder)),
            "stream_megabytes_per_s": stream_table(),
        }
    if given.json:
        print(json.dumps(result, indent=2))
        return
    for title, table in result.items():
        print(f"\n{title.replace('_', ' ')}")
        for name, value in table.items():
            print(f"  {name:32}{value:10.2f}" if value % 1 else f"  {name:32}{value:7d}")


if __name__ == "__main__":
    main()
