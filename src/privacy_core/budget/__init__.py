"""Budget decisions: a pure fold over journal entries, and pure answers to requests."""
