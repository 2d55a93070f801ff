"""Faults upon running sites, by a seed: every job ends, epsilon is exact, nothing false is loaded.

`CHAOS_SEED` runs a schedule again, `CHAOS_MINUTES` sets the length of the long campaign (30), and
`CHAOS_MOUNT=1`, as root, gives its runs a small file system that can really be full.
"""

from __future__ import annotations

import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest
from driver.campaign import campaign, lines, table
from driver.invariants import violations
from driver.nursery import Nursery
from driver.sealing import sealed_and_restored
from driver.site import Site

SHORT_SEED: Final = 20261122
"""Of the short campaign: the same schedule every time, whatever the machine does with it."""
SHORT_S: Final = 100.0
"""With the end of the last jobs, about two minutes by the clock."""
PACE_S: Final = 0.4
"""Before each step, so that the short campaign leaves the processors to other tests."""

pytestmark = pytest.mark.timeout(4 * 3600)


def endure(site: Site, *, seed: int, seconds: float, **more: Any) -> None:
    """One campaign, and everything that must hold after it."""
    with site:
        blows = campaign(site, seed, seconds, **more)
        told = [
            f"CHAOS_SEED={seed} for {seconds:.0f} s on {'SQLite' if site.server is None else 'PG'}",
            lines(blows),
            table(blows),
            f"{len(site.jobs)} jobs, {site.steps()} steps, {site.lost_steps()} lost",
        ]
        print("\n".join(told), flush=True)  # noqa: T201  shown when the test fails

        assert blows
        assert violations(site) == []
        assert list(sealed_and_restored(site, seed)) == []


def endure_on_both(folder: Path, made: dict[str, Any], **more: Any) -> None:
    """The same campaign on SQLite and, where it is at hand, on PostgreSQL, at the same time."""
    url = os.environ.get("TEST_DATABASE_URL")
    servers = {"sqlite": None} | ({"postgresql": url} if url else {})
    with ThreadPoolExecutor(len(servers)) as pool:
        running = []
        for kind, server in servers.items():
            (folder / kind).mkdir()
            running.append(pool.submit(endure, Site(folder / kind, server=server, **made), **more))
        for each in running:
            each.result()


def test_two_minutes_of_faults_lose_double_and_misprice_nothing(tmp_path: Path) -> None:
    """Processes are forked from one that has loaded everything; see `driver.nursery`."""
    with ExitStack() as closing:
        nursery = Nursery()
        closing.callback(nursery.close)
        made = {"jobs_at_once": 2, "nursery": nursery, "pace_s": PACE_S}
        seed = int(os.environ.get("CHAOS_SEED", SHORT_SEED))
        endure_on_both(tmp_path, made, seed=seed, seconds=SHORT_S, back_most_s=8.0)


@pytest.mark.slow
def test_half_an_hour_of_faults_loses_doubles_and_misprices_nothing(tmp_path: Path) -> None:
    """Every process is started as the product starts it."""
    made = {"mounted": os.environ.get("CHAOS_MOUNT") == "1"}
    seed = int(os.environ.get("CHAOS_SEED", secrets.randbelow(1 << 32)))
    minutes = float(os.environ.get("CHAOS_MINUTES", "30"))
    endure_on_both(tmp_path, made, seed=seed, seconds=60 * minutes)
