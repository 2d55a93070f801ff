"""The append-only, hash-chained journal: one contract, three homes."""

from privacy_runtime.journal.anchor import AnchorFile, HeadKey, SignedHead
from privacy_runtime.journal.contract import Change, Decision, Home, StreamRow, View
from privacy_runtime.journal.entries import Document, Draft, Entry, Head
from privacy_runtime.journal.errors import (
    AnchorRefused,
    ChainBroken,
    ForeignSchema,
    JournalError,
    JournalHalted,
    JournalWentBack,
    KeyTaken,
    StoreUnavailable,
)
from privacy_runtime.journal.heads import Heads, opened_heads, require_anchored
from privacy_runtime.journal.hybrid_keys import HybridKey, HybridPublic
from privacy_runtime.journal.journal import REPAIRED, Journal

__all__ = [
    "REPAIRED",
    "AnchorFile",
    "AnchorRefused",
    "ChainBroken",
    "Change",
    "Decision",
    "Document",
    "Draft",
    "Entry",
    "ForeignSchema",
    "Head",
    "HeadKey",
    "Heads",
    "Home",
    "HybridKey",
    "HybridPublic",
    "Journal",
    "JournalError",
    "JournalHalted",
    "JournalWentBack",
    "KeyTaken",
    "SignedHead",
    "StoreUnavailable",
    "StreamRow",
    "View",
    "opened_heads",
    "require_anchored",
]
