"""`SelfHealingPipelineGuard`: a guard to start, to stop and to ask."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline_guard.config import (
    CheckSettings,
    GuardConfig,
    Limits,
    Mode,
    RecoverySettings,
    Registries,
    Step,
    Trigger,
    build,
    read_config,
)
from pipeline_guard.errors import ConfigurationError, MonitoringError
from pipeline_guard.guard.functions import (
    CheckFunction,
    FunctionRemedy,
    RecoveryFunction,
    Strategies,
    probe_of,
)
from pipeline_guard.guard.looking import GuardTime, Looking
from pipeline_guard.guard.loop import Loop, Observer, Outside
from pipeline_guard.guard.plan import Check, Plan, as_check, make_plan
from pipeline_guard.guard.records import Records, Silence, connect, events_of
from pipeline_guard.guard.status import UNKNOWN, alert_of, status_of
from pipeline_guard.guard.systemd import Systemd
from pipeline_guard.guard.watch import Watch
from pipeline_guard.model import Alert, Component, Fault, Gate, component_of
from privacy_runtime.world import Clock, Entropy, SystemClock, SystemEntropy

if TYPE_CHECKING:
    from pipeline_guard.guard.measurements import Measurements

F = TypeVar("F", bound=Callable[..., Any])
_START_S = 10.0


@dataclass(slots=True)
class _Running:
    """What there is while it runs."""

    loop: Loop
    looking: Looking
    records: Records
    time: GuardTime
    task: asyncio.Task[None]
    host: asyncio.AbstractEventLoop


class SelfHealingPipelineGuard:
    """Watches the components of a configuration, and heals what it may.

    Guarantee: a recovery runs only where its mode is `act` (nothing is by default), is on the disk
    before it begins, and counts as done when the checks say so.

    Args:
        config_path: the file; none: nothing is watched but what is added here.
        config: in its place, one that was made in Python.
        kinds: probes and remedies by name; none: those of the guard and of allowed plugins.
        clock, entropy: none: the machine's.
        variables: the environment that files and systemd speak through; none: the process's.

    Raises:
        ConfigurationError: with every fault of the file; nothing was started.
    """

    def __init__(
        self,
        config_path: str | Path | None = None,
        *,
        config: GuardConfig | None = None,
        kinds: Registries | None = None,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        if config_path is not None and config is not None:
            found = {"parameter": "config", "constraint": "not given beside config_path"}
            raise ConfigurationError("config_path and config are both given; expected one", found)
        self._path = Path(config_path) if config_path is not None else None
        self._kinds = kinds
        self._clock: Clock = clock or SystemClock()
        self._entropy: Entropy = entropy or SystemEntropy()
        self._variables = os.environ if variables is None else variables
        self._gates: list[Gate] = []
        self._given: list[Gate] = []
        self._observers: list[Observer] = []
        self._added: dict[str, Check] = {}
        self._functions: dict[str, tuple[RecoverySettings, FunctionRemedy]] = {}
        self._running: _Running | None = None
        self._measurements: Measurements | None = None
        self.recovery_strategies = Strategies(self._strategy)
        self._plan = self._made(config or self._read())

    @property
    def config(self) -> GuardConfig:
        """What it was told."""
        return self._plan.config

    @property
    def plan(self) -> Plan:
        """What that comes down to."""
        return self._plan

    @property
    def state_path(self) -> Path:
        """Where it keeps its state."""
        return self.config.beside(self.config.store.path)

    async def start_monitoring(self) -> None:
        """Start, and return once every check was looked at, at the latest after ten seconds.

        It goes on in the background of the running event loop until `stop_monitoring`.

        Raises:
            MonitoringError: it runs already, another guard uses the same state, or the state cannot
                be read.
        """
        if self._running is not None:
            raise MonitoringError("this guard runs already; nothing was changed")
        records = Records(self.state_path)
        try:
            saved, floor_s = await asyncio.wrap_future(records.load())
        except BaseException:
            records.close()
            raise
        time = GuardTime(self._clock, floor_s)
        watch = Watch(
            self._plan, entropy=self._entropy, now_s=time.now_s(), at=time.at(), saved=saved
        )
        looking = Looking(time)
        outside = Outside(
            gates=self._gates,
            observers=self._observers,
            status=lambda _: self.get_system_status(),
            measured=self._measurements.record if self._measurements else None,
            manager=Systemd(self._variables),
        )
        loop = Loop(self._plan, watch, records, looking=looking, time=time, outside=outside)
        host = asyncio.get_running_loop()
        task = host.create_task(loop.run())
        self._running = _Running(loop, looking, records, time, task, host)
        task.add_done_callback(lambda _: self._ended(records))
        seen = host.create_task(loop.is_seen.wait())
        await asyncio.wait({task, seen}, timeout=_START_S, return_when=asyncio.FIRST_COMPLETED)
        seen.cancel()
        if task.done():
            await task

    def stop_monitoring(self) -> None:
        """Ask it to end; recoveries under way are finished first. From any thread."""
        running = self._running
        if running is not None and not running.host.is_closed():
            running.host.call_soon_threadsafe(running.loop.stop)

    async def wait_stopped(self) -> None:
        """Wait until it has ended.

        Raises:
            MonitoringError: its state could not be kept.
        """
        running = self._running
        if running is not None:
            await running.task

    def run(self) -> None:
        """Guard until SIGTERM or SIGINT; SIGHUP reads the configuration again."""
        asyncio.run(self._serve())

    def reload(self) -> None:
        """Read the configuration again and go on with it.

        Raises:
            ConfigurationError: it has faults; the guard goes on with the old one.
        """
        plan = self._made(self._read())
        if plan.config.store != self._plan.config.store:
            raise ConfigurationError(
                "store cannot change while the guard runs; the old configuration stays in use",
                {"parameter": "store", "constraint": "the same as at the start"},
            )
        self._plan = plan
        if self._running is not None:
            self._running.loop.replan(plan)

    def get_system_status(self) -> dict[str, Any]:
        """How everything stands, as JSON values; see `status.status_of`.

        Before the first look, health is `unknown`.
        """
        running = self._running
        if running is None:
            components = {
                str(each): {"health": UNKNOWN, "depends_on": [], "checks": {}}
                for each in self._plan.components()
            }
            return {
                "overall_health": UNKNOWN,
                "at": self._clock.now().isoformat(),
                "is_monitoring": False,
                "components": components,
                "alerts": [],
            }
        return status_of(
            running.loop.watch,
            at=running.time.at(),
            is_monitoring=not running.task.done(),
            lag_s=running.looking.lag_s,
            hanging=running.looking.is_waited_for,
            state_fault=running.loop.state_fault,
        )

    def alerts(self, *, with_resolved: bool = False) -> list[Alert]:
        """The alerts that stand, oldest first; with those that are over, the newest 200."""
        running = self._running
        if running is None:
            return []
        watch, roots = running.loop.watch, running.loop.watch.roots()
        found = sorted(watch.incidents.values(), key=lambda each: each.confirmed)
        if with_resolved:
            found = [*watch.resolved, *found]
        connection = connect(self.state_path, must_exist=True)
        try:
            return [
                alert_of(i, root=roots.get(i.id), events=events_of(connection, incident=i.id))
                for i in found
            ]
        finally:
            connection.close()

    def now(self) -> datetime:
        """The time of day, by its clock."""
        return self._clock.now()

    def silences(self) -> list[Silence]:
        """What people asked not to be paged about; also what ended."""
        return self._running.loop.silences if self._running else []

    def add_gate(self, gate: Gate) -> None:
        """Ask this gate before every recovery."""
        self._given.append(gate)
        self._gates.append(gate)

    def add_observer(self, observer: Observer) -> None:
        """Tell this observer of everything; it must not block."""
        self._observers.append(observer)

    def check(
        self, component: str, *, name: str | None = None, interval_s: float = 60.0
    ) -> Callable[[F], F]:
        """Make a function a check: `@guard.check("storage", interval_s=30)`."""

        def added(function: F) -> F:
            self._add_custom_health_check(
                component_of(component),
                name or str(getattr(function, "__name__", "check")),
                function,
                interval_s,
            )
            return function

        return added

    def recovery(
        self, component: str, *, fault: Fault | None = None, **limits: Any
    ) -> Callable[[F], F]:
        """Make a function a recovery: `@guard.recovery("storage", fault=Fault.DISK_FULL)`.

        It gets the alert and returns whether it did it. Keywords are those of `Limits`.
        """

        def added(function: F) -> F:
            self._add_recovery(component_of(component), function, fault, Limits(**limits))
            return function

        return added

    def _add_custom_health_check(
        self,
        component: Component | str,
        check_name: str,
        check_function: CheckFunction,
        interval_seconds: float = 60,
    ) -> None:
        """Look at a component by calling a function; also while the guard runs.

        Raises:
            ConfigurationError: the name is taken, or the interval is not above 0.
        """
        if not interval_seconds > 0:
            found = {"parameter": "interval_seconds", "value": interval_seconds}
            raise ConfigurationError(
                f"interval_seconds is {interval_seconds}, expected above 0; nothing was added",
                {**found, "constraint": "must be positive"},
            )
        if check_name in self._plan.checks:
            found = {"parameter": "check_name", "value": check_name, "constraint": "must be new"}
            raise ConfigurationError(
                f"there is a check {check_name!r} already; nothing was added", found
            )
        settings = CheckSettings(
            id=check_name, component=str(component), type="function", interval_s=interval_seconds
        )
        check = as_check(settings, self.config, probe_of(check_function, check_name))
        self._added[check_name] = self._plan.checks[check_name] = check
        self._replan()

    def _strategy(self, component: Component, function: RecoveryFunction | None) -> None:
        if function is None:
            del self._functions[f"{component}.function"]
            self._plan = self._made(self.config)
            self._replan()
        else:
            self._add_recovery(component, function, None, Limits())

    def _add_recovery(
        self, component: Component, function: RecoveryFunction, fault: Fault | None, limits: Limits
    ) -> None:
        name = f"{component}.{fault or 'function'}"
        settings = RecoverySettings(
            id=name,
            on=Trigger(component=str(component), fault=fault, severity="degraded"),
            steps=(Step(type="function"),),
            limits=limits,
            mode=self.config.mode or Mode.ACT,
        )
        called = getattr(function, "__name__", type(function).__name__)
        self._functions[name] = (settings, FunctionRemedy(function, called))
        self._plan = self._made(self.config)
        self._replan()

    def _replan(self) -> None:
        if self._running is not None:
            plan = self._plan
            loop = self._running.loop
            self._running.host.call_soon_threadsafe(lambda: loop.replan(plan))

    def _read(self) -> GuardConfig:
        if self._path is None:
            return GuardConfig()
        return read_config(self._path, self._registries(), variables=self._variables)

    def _registries(self) -> Registries:
        if self._kinds is None:
            from pipeline_guard.guard.kinds import registries  # noqa: PLC0415 -- files name kinds

            self._kinds = registries()
        return self._kinds

    def _made(self, config: GuardConfig) -> Plan:
        known = self._registries() if config != GuardConfig() else Registries()
        metrics = config.store.metrics
        if metrics is not None and self._measurements is None:
            from pipeline_guard.guard.measurements import Measurements  # noqa: PLC0415 -- numpy

            self._measurements = Measurements(config.beside(metrics), self._clock)
        asked = [build(g.type, g.parameters, known.gates or {}, g.where) for g in config.gates]
        plan = make_plan(config, known.probes or {}, known.remedies or {}, self._measurements)
        self._gates[:] = [*asked, *self._given]
        plan.checks.update(self._added)
        for name, (settings, remedy) in self._functions.items():
            plan.recoveries.append(settings)
            plan.remedies[name] = ((remedy, ()),)
        return plan

    async def _serve(self) -> None:
        await self.start_monitoring()
        add = asyncio.get_running_loop().add_signal_handler
        add(signal.SIGTERM, self.stop_monitoring)
        add(signal.SIGINT, self.stop_monitoring)
        add(signal.SIGHUP, self.reload_or_say)
        await self.wait_stopped()

    def reload_or_say(self) -> None:
        """Read the configuration again; a faulty one is written down, and the old one stays."""
        try:
            self.reload()
        except ConfigurationError as error:
            if self._running is not None:
                self._running.loop.say(f"not reloaded: {error.message}")

    def _ended(self, records: Records) -> None:
        records.close()
        if self._measurements is not None:
            self._measurements.close()
