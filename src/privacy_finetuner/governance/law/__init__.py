"""The law as data: which regime applies where, and by when it wants an answer."""
