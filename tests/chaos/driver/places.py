"""What every process of a site must know: where things are. One JSON file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

_FILE = "places.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """A site's addresses.

    Args:
        root: its folder.
        runs: the folder of runs; a file system of its own where that can be had.
        jobs, ledger: where workers find the databases.
        dataset, model: what is trained.
        lease_s: of claims.
        pace_s: how long a run waits before each step.
    """

    root: str
    runs: str
    jobs: str
    ledger: str
    dataset: str
    model: str
    lease_s: float
    pace_s: float = 0.0

    def write(self) -> None:
        """Keep them in the site's folder."""
        (Path(self.root) / _FILE).write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, root: Path) -> Self:
        """Those of a site's folder."""
        return cls(**json.loads((root / _FILE).read_text()))

    @property
    def clock(self) -> Path:
        """Offset of every process's clock."""
        return Path(self.root) / "clock-offset"

    @property
    def disk(self) -> Path:
        """The errno that forcing a file to the disk gives just now; no file: none."""
        return Path(self.root) / "disk-errno"

    @property
    def witness(self) -> Path:
        """What children did, told by themselves, one file a job."""
        return Path(self.root) / "witness"
