"""How tasks wait. `blocking/waiting.py` is the same for threads, written by hand."""

from __future__ import annotations

import asyncio
from typing import Final

Lock = asyncio.Lock
sleep: Final = asyncio.sleep
