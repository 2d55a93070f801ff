"""Heartbeats: a running program says how far it is, in a small file that anybody may read.

::

    heart = Heartbeat("runs/a/heartbeat.json")
    ...
    for step in range(1, steps + 1):
        ...
        heart.beat(step, steps)
        if step % 100 == 0:
            with heart.section("checkpoint"):
                ...
    heart.finish()

"Alive" is not "making progress": a reader asks when the step number last changed, in which section,
and how long such a thing usually takes here (`Pulse.limit_s`). Only the standard library is used.
"""

from pipeline_guard.heartbeat.beats import SECTIONS, Heartbeat
from pipeline_guard.heartbeat.pulses import Ended, Pulse, read_pulse
from pipeline_guard.heartbeat.sketch import Spans
from pipeline_guard.heartbeat.stacks import STACKS_FILE, dump_stacks_on_signal

__all__ = [
    "SECTIONS",
    "STACKS_FILE",
    "Ended",
    "Heartbeat",
    "Pulse",
    "Spans",
    "dump_stacks_on_signal",
    "read_pulse",
]
