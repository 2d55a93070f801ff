"""A campaign: which fault strikes when, by a seed, and how long the site needs to be back."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from driver.chance import Chance
from driver.faults import FAULTS, Fault, NotNow
from driver.site import Site, pause
from privacy_runtime.world import SystemClock

_END_S: Final = 420.0
_CLOCK: Final = SystemClock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Blow:
    """One fault that struck.

    Attributes:
        fault, detail: which.
        lasted_s: how long its cause was there.
        back_s: from the end of the cause until as many runs as there are workers took a step
            again; `None`: that was not waited for any longer.
        lost_steps: charged in that time and in no model.
    """

    fault: str
    detail: str
    lasted_s: float
    back_s: float | None
    lost_steps: int


def campaign(
    site: Site,
    seed: int,
    seconds: float,
    *,
    kinds: Sequence[Fault] = FAULTS,
    back_most_s: float = 120.0,
) -> list[Blow]:
    """Strike for so long, and with every kind at least once; then let all jobs end.

    Args:
        site: whose workers and jobs are struck.
        kinds: of faults, from those that fit this site.
        seed: of the schedule.
        seconds: how long.
        back_most_s: how long the next fault waits until the site has recovered from the last one.

    Raises:
        AssertionError: a job did not end in seven minutes without any fault.
    """
    chance, blows = Chance(seed), []
    bag = chance.shuffled([fault for fault in kinds if fault.fits(site)])
    every = list(bag)
    start_s = _CLOCK.monotonic_s()
    while bag or _CLOCK.monotonic_s() - start_s < seconds:
        bag = bag or chance.shuffled(every)
        site.top_up()
        site.keep()
        pause(chance.between(0.0, 3.0))
        blow = _struck(site, bag.pop(), chance, back_most_s)
        if blow is not None:
            blows.append(blow)
    _let_end(site)
    return blows


def _struck(site: Site, fault: Fault, chance: Chance, back_most_s: float) -> Blow | None:
    lost, begin_s = site.lost_steps(), _CLOCK.monotonic_s()
    try:
        detail = fault.strike(site, chance)
    except NotNow:
        return None
    end_s = _CLOCK.monotonic_s()
    before = _sizes(site)

    def is_back() -> bool:
        site.top_up()
        site.keep()
        grown = [job for job, steps in _sizes(site).items() if steps > before.get(job, 0)]
        return len(grown) >= site.workers

    came = site.wait(is_back, within_s=back_most_s)
    return Blow(
        fault=fault.name,
        detail=detail,
        lasted_s=end_s - begin_s,
        back_s=_CLOCK.monotonic_s() - end_s if came else None,
        lost_steps=site.lost_steps() - lost,
    )


def _sizes(site: Site) -> dict[str, int]:
    """Steps that really ran, by job."""
    return {
        path.name: path.read_text().count('"step"') for path in site.places.witness.glob("*.jsonl")
    }


def _let_end(site: Site) -> None:
    def all_ended() -> bool:
        site.keep()
        return not site.live()

    ended = site.wait(all_ended, within_s=_END_S)
    stuck = [(job.id, job.state, job.step, job.steps) for job in site.live()]
    assert ended, f"these jobs did not end: {stuck}"
    site.stop()


def table(blows: Iterable[Blow]) -> str:
    """Blows by kind, as Markdown."""
    kinds: dict[str, list[Blow]] = {}
    for blow in blows:
        kinds.setdefault(blow.fault, []).append(blow)
    rows = [
        "| fault | times | running again after (median, most) | lost steps |",
        "|---|---|---|---|",
    ]
    for name, found in sorted(kinds.items()):
        times = [blow.back_s for blow in found if blow.back_s is not None]
        lost = sum(blow.lost_steps for blow in found)
        shown = f"{statistics.median(times):.1f} s, {max(times):.1f} s" if times else "-"
        rows.append(f"| {name} | {len(found)} | {shown} | {lost} |")
    return "\n".join(rows)


def lines(blows: Sequence[Blow]) -> str:
    """Every blow, as JSON lines."""
    return "\n".join(json.dumps(asdict(blow)) for blow in blows)
