"""Detection and rewriting of personal data in text: pure, explained span by span."""
