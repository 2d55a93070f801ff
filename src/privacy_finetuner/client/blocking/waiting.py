"""How threads wait."""

from __future__ import annotations

import threading
import time
from typing import Final

Lock = threading.Lock
sleep: Final = time.sleep
