"""Where a deployment keeps what it keeps.

====================  ==========================================================================
below the home        holds
====================  ==========================================================================
`identity.db`         users, sessions, keys; with PostgreSQL: there
`journal.db`          the streams `audit`, `jobs`, `compliance` and the ledger; likewise
`jobs.db`             jobs and their events; likewise
`notices.db`          messages to the outside that wait; likewise
`token-keys/`         keys that sign access tokens
`sealing-keys.json`   master of everything that is sealed
`signing-key.pem`     signs certificates; `trusted-keys.json` beside it
`runs/`               one folder a job
`datasets/`           records that jobs may name; `datasets/o_...` of one organisation alone
`models/`             models, likewise
====================  ==========================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from privacy_finetuner.environment import EnvironmentConfig
from privacy_finetuner.environment.sections import Database
from privacy_finetuner.service.errors import ServiceMisplaced
from privacy_runtime.files import reason_of
from privacy_runtime.secret import Secret

_DEFAULT: Final = Database().url.reveal()
_FOLDERS: Final = ("runs", "datasets", "models")


@dataclass(frozen=True, slots=True, kw_only=True)
class Homes:
    """Folders and databases of one deployment. Database addresses may hold a password."""

    root: Path
    identity: Secret
    journal: Secret
    jobs: Secret
    notices: Secret

    @classmethod
    def of(cls, config: EnvironmentConfig, root: Path) -> Homes:
        """Where this configuration keeps things, below `root`.

        Raises:
            ServiceMisplaced: a SQLite database elsewhere is configured: there are three of them,
                and they lie in the home.
        """
        root = root.absolute()
        url = config.database.url.reveal()
        if url.startswith("postgresql"):
            # One spelling of the driver: identity and journal name it themselves.
            plain = Secret(url.replace("postgresql+psycopg://", "postgresql://", 1))
            return cls(root=root, identity=plain, journal=plain, jobs=plain, notices=plain)
        if url != _DEFAULT:
            raise ServiceMisplaced(
                "database.url names a SQLite file, expected postgresql://..., or no such key: "
                "SQLite databases of the service lie in its home; nothing was opened"
            )
        return cls(
            root=root,
            identity=Secret(str(root / "identity.db")),
            journal=Secret(str(root / "journal.db")),
            jobs=Secret(str(root / "jobs.db")),
            notices=Secret(str(root / "notices.db")),
        )

    @property
    def runs(self) -> Path:
        """One folder a job."""
        return self.root / "runs"

    @property
    def datasets(self) -> Path:
        """Records that jobs may name."""
        return self.root / "datasets"

    @property
    def models(self) -> Path:
        """Models that jobs may name."""
        return self.root / "models"

    @property
    def token_keys(self) -> Path:
        """Keys that sign access tokens."""
        return self.root / "token-keys"

    @property
    def sealing_keys(self) -> Path:
        """The master of everything that is sealed."""
        return self.root / "sealing-keys.json"

    def make(self) -> None:
        """Make the folders that are missing, for their owner alone.

        Raises:
            ServiceMisplaced: the disk refuses.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in _FOLDERS:
                (self.root / name).mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise ServiceMisplaced(
                f"{self.root}: {reason_of(error)}; expected a folder that can be written; nothing "
                "was opened"
            ) from error
