"""Whether an error says that memory ran out: torch says so in several ways."""

from __future__ import annotations

from typing import Final

_SAID: Final = ("can't allocate memory", "not enough memory", "out of memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the machine or of an accelerator.

    Torch's own error is told by its name, so whoever asks need not have loaded torch; its allocator
    for the processor raises a bare `RuntimeError`, which is told by its words.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _SAID)
