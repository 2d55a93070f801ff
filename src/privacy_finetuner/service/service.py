"""The service as one value: what an application needs to answer, opened once and passed on.

Nothing here is global. `Service.open` is the composition root of `privacy-finetuner serve`; tests
open one in a folder of their own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final, Self

from privacy_core.errors import InvalidParameter
from privacy_finetuner import __version__
from privacy_finetuner.environment import EnvironmentConfig
from privacy_finetuner.jobs import JOB_MODEL, JobFeed, Jobs, Left
from privacy_finetuner.operations.quarantine import Quarantine
from privacy_finetuner.service.catalogue import Catalogue
from privacy_finetuner.service.desks import Desks
from privacy_finetuner.service.errors import ServiceMisplaced
from privacy_finetuner.service.herald import Herald
from privacy_finetuner.service.homes import Homes
from privacy_finetuner.service.messages import notify_options
from privacy_finetuner.service.uploads import MEBIBYTE, Uploads
from privacy_runtime.blobs import BlobStore, store_at
from privacy_runtime.budget_store import BudgetStore
from privacy_runtime.budget_store.homes import home_at
from privacy_runtime.identity import Identity, IdentityPolicy, TokenPolicy, require_strong_secret
from privacy_runtime.identity.sealing import Seal
from privacy_runtime.journal import Journal
from privacy_runtime.logs import Audited
from privacy_runtime.metrics import Metrics, table
from privacy_runtime.notify import Notifier
from privacy_runtime.pseudonyms import RedactionKeys
from privacy_runtime.pseudonyms.keys import ENVIRONMENT_FILE, ENVIRONMENT_KEY
from privacy_runtime.signing import KeyHome
from privacy_runtime.world import Clock, Entropy, SystemClock, SystemEntropy

ISSUER: Final = "privacy-finetuner"
"""Issuer and audience of access tokens: the same on every port, so a restart logs nobody out."""
SAMPLE: Final = Path(__file__).resolve().parents[1] / "demo" / "assets"
"""What ships with the program: `demo.ASSETS`, whose import would load plots."""
LENIENT: Final = ("development", "testing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What the operator of this machine allows; the command line says it.

    Attributes:
        datasets, models: further folders that jobs may name files of.
        hub_models: names that may be loaded from a hub, exactly as written.
    """

    datasets: tuple[Path, ...] = ()
    models: tuple[Path, ...] = ()
    hub_models: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What the API, the pages and the tools stand on.

    Attributes:
        homes: folders and databases of this deployment.
        config: what the environment says.
        deployment: what the operator of this machine allows.
        identity: who asks, and what they may.
        sealing_keys: the master of everything that is sealed; others derive their keys from it.
        journal: the append-only streams `audit`, `jobs`, `compliance`.
        ledger: the privacy budgets.
        jobs: training jobs.
        feed: their events, as they happen.
        desks: what officers and operators work at: requests, records, alerts.
        notices: signed messages to the outside, through a durable outbox.
        metrics: the figures of this process.
        audited: lines of its log that go into the audit trail; `None`: it sees none.
        herald: announces and counts what is new in the journal.
        catalogue: which data sets and models a job may name.
        uploads: takes data sets in.
        signing: where the key is that signs certificates, and the keys that are trusted.
        clock, entropy: the outside world.
    """

    homes: Homes
    config: EnvironmentConfig
    deployment: Deployment
    identity: Identity
    sealing_keys: RedactionKeys
    journal: Journal
    ledger: BudgetStore
    jobs: Jobs
    feed: JobFeed
    desks: Desks
    notices: Notifier
    metrics: Metrics
    audited: Audited | None
    herald: Herald
    catalogue: Catalogue
    uploads: Uploads
    signing: KeyHome
    clock: Clock
    entropy: Entropy
    _closing: ExitStack = field(repr=False)

    @property
    def home(self) -> Path:
        """The folder of this deployment."""
        return self.homes.root

    @property
    def is_lenient(self) -> bool:
        """Whether this is a development or test environment, where weak secrets may pass."""
        return self.config.environment in LENIENT

    @classmethod
    def open(
        cls,
        config: EnvironmentConfig,
        *,
        home: Path | str,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
        deployment: Deployment | None = None,
        identity_policy: IdentityPolicy | None = None,
        metrics: Metrics | None = None,
        audited: Audited | None = None,
    ) -> Self:
        """Open everything below `home`, and make what is missing.

        Guarantee: what was opened is closed again if something after it cannot be opened; a second
        start on the same home goes on where the first one ended.

        Args:
            config: of the environment; it was checked when it was made.
            home: the folder; made where it is missing, for its owner alone.
            clock: None: the machine's.
            entropy: None: the system's.
            deployment: what the operator allows.
            identity_policy: the numbers of identity; None: the defaults.
            metrics: figures of the process; None: fresh ones.
            audited: lines of the process's log; None: its log is not shown to it.

        Raises:
            WeakSecret: a configured secret is a default, outside development.
            ServiceMisplaced: the home or the database cannot be used like this.
            IdentityStoreUnavailable, StoreUnavailable: a database cannot be opened.
        """
        clock, entropy = clock or SystemClock(), entropy or SystemEntropy()
        deployment = deployment_of(config, deployment)
        homes = Homes.of(config, Path(home))
        _require_strong_secrets(config)
        homes.make()
        tokens = TokenPolicy(issuer=ISSUER, audience=ISSUER)
        with ExitStack() as closing:
            sealing = _sealing_keys(homes, entropy)
            journal = Journal(home_at(homes.journal.reveal()), clock=clock)
            closing.callback(journal.close)
            ledger = BudgetStore.open(homes.journal.reveal(), clock=clock)
            closing.callback(ledger.close)
            identity = Identity.open(
                homes.identity.reveal(),
                journal,
                policy=_with_leaked(identity_policy or IdentityPolicy(tokens=tokens), config),
                token_keys=homes.token_keys,
                sealing_keys=sealing,
                clock=clock,
                entropy=entropy,
            )
            closing.callback(identity.close)
            jobs = Jobs.open(
                homes.jobs.reveal(),
                journal,
                runs=homes.runs,
                artefacts=artefacts_at(config),
                clock=clock,
                entropy=entropy,
                pool_size=config.database.pool_size,
            )
            closing.callback(jobs.close)
            metrics = metrics or Metrics(version=__version__)
            notices = Notifier.open(
                homes.notices.reveal(),
                seal=Seal(sealing, entropy),
                clock=clock,
                entropy=entropy,
                options=notify_options(config),
                attempted=partial(_count_delivery, metrics),
            )
            closing.callback(notices.close)
            herald = Herald(
                journal=journal,
                jobs=jobs,
                ledger=ledger,
                notices=notices,
                metrics=metrics,
                config=config,
            )
            catalogue = catalogue_of(homes, deployment, jobs, journal)
            desks = Desks.open(
                journal=journal,
                ledger=ledger,
                jobs=jobs,
                identity=identity,
                config=config,
                sealing_keys=sealing,
                clock=clock,
                entropy=entropy,
                on_alert=herald.alert,
                records=lambda name, tenant: catalogue.dataset(name, tenant=tenant),
            )
            return cls(
                homes=homes,
                config=config,
                deployment=deployment,
                identity=identity,
                sealing_keys=sealing,
                journal=journal,
                ledger=ledger,
                jobs=jobs,
                feed=JobFeed(jobs),
                notices=notices,
                metrics=metrics,
                audited=audited,
                herald=herald,
                desks=desks,
                catalogue=catalogue,
                uploads=uploads_of(config, catalogue, jobs, desks, clock=clock, entropy=entropy),
                signing=KeyHome(homes.root),
                clock=clock,
                entropy=entropy,
                _closing=closing.pop_all(),
            )

    def when_closing(self, act: Callable[[], object]) -> None:
        """Do something when the service is closed, before its databases are."""
        self._closing.callback(act)

    def close(self) -> None:
        """Let go of the databases, last opened first. Closing twice is closing once."""
        self._closing.close()

    def __enter__(self) -> Self:
        """Return the service itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


def _require_strong_secrets(config: EnvironmentConfig) -> None:
    """Refuse secrets that everybody knows. Passwords of databases are checked with the rest."""
    secret = config.oidc.client_secret
    if secret is not None:
        lenient = config.environment in LENIENT
        require_strong_secret("oidc.client_secret", secret.reveal(), development=lenient)


def _with_leaked(policy: IdentityPolicy, config: EnvironmentConfig) -> IdentityPolicy:
    """The numbers of identity, with the list of leaked passwords that the configuration names."""
    listed = config.passwords.leaked_list
    return policy if listed is None else replace(policy, leaked=Path(listed))


def _count_delivery(metrics: Metrics, kind: str, outcome: str) -> None:
    metrics.add(table.DELIVERIES, sink=kind, outcome=outcome)


def _sealing_keys(homes: Homes, entropy: Entropy) -> RedactionKeys:
    """The keys that the environment names, or those of the home, made at the first start."""
    if os.environ.get(ENVIRONMENT_FILE) or os.environ.get(ENVIRONMENT_KEY):
        return RedactionKeys.from_env()
    if homes.sealing_keys.exists():
        return RedactionKeys.load(homes.sealing_keys)
    return RedactionKeys.generate(entropy, homes.sealing_keys)


def deployment_of(config: EnvironmentConfig, said: Deployment | None = None) -> Deployment:
    """What the operator allows: the section `service`, and what was said besides."""
    front, said = config.service, said or Deployment()
    return replace(
        said,
        datasets=(*map(Path, front.data_folders), *said.datasets),
        models=(*map(Path, front.model_folders), *said.models),
        hub_models=frozenset(front.hub_models) | said.hub_models,
    )


def artefacts_at(config: EnvironmentConfig) -> BlobStore | None:
    """The store that keeps what jobs leave, if one is configured; nothing is asked of it yet.

    Raises:
        ServiceMisplaced: nothing here can reach such an address; says what to install.
    """
    address = config.artefacts.store
    if address is None:
        return None
    try:
        return store_at(address)
    except (InvalidParameter, ImportError) as error:
        raise ServiceMisplaced(
            f"artefacts.store cannot be reached from this installation: {error}; nothing was opened"
        ) from error


def uploads_of(
    config: EnvironmentConfig,
    catalogue: Catalogue,
    jobs: Jobs,
    desks: Desks,
    *,
    clock: Clock,
    entropy: Entropy,
) -> Uploads:
    """What takes data sets in, within the limits of the section `service`."""
    return Uploads(
        catalogue,
        jobs,
        desks.trail,
        clock=clock,
        entropy=entropy,
        most_bytes=config.service.upload_most_mib * MEBIBYTE,
        most_in_all_bytes=config.service.uploads_most_mib * MEBIBYTE,
    )


def catalogue_of(homes: Homes, deployment: Deployment, jobs: Jobs, journal: Journal) -> Catalogue:
    """What jobs of this deployment may name: the same for the service and for its workers."""
    left = Left(jobs=jobs)
    return Catalogue(
        datasets=(homes.datasets, *deployment.datasets),
        models=(homes.models, *deployment.models),
        sample=SAMPLE,
        uploads=homes.datasets,
        hub_models=deployment.hub_models,
        finished=lambda job, tenant: left.model(f"{JOB_MODEL}{job}", tenant=tenant),
        is_stored=lambda job, tenant: left.is_there(f"{JOB_MODEL}{job}", tenant=tenant),
        require_free=Quarantine(journal).require_free,
    )
