"""What commands that listen share: kinds of addresses, and an end in order."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from types import FrameType


@contextmanager
def stoppable() -> Iterator[None]:
    """End a block in order on SIGINT and SIGTERM: whatever is open is closed.

    To be entered in the main thread; the handlers that were there are put back.
    """

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address; a name other than localhost counts as not."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def is_anywhere(host: str) -> bool:
    """Whether it stands for every address of the machine: 0.0.0.0 or ::."""
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def bracketed(host: str) -> str:
    """The host as an address of the web has it: an IPv6 one in brackets."""
    return f"[{host}]" if ":" in host else host
