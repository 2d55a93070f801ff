"""Services that something else runs: systemd units, containers, Kubernetes; nodes and stand-bys.

Each calls the program that owns the service, with a list of arguments and without a shell. What it
says before is kept as evidence, so that the change can be found and taken back.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from typing import Annotated, Literal

from pipeline_guard.config.values import POSITIVE, Within
from pipeline_guard.model import Applied, Case
from pipeline_guard.remedies.actions import locked, needs, refusal, run, setting, succeed

Span = Annotated[float, POSITIVE]
_LOOK_S = 10.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@:/\\-]{0,252}")
"""Of units, containers, workloads and nodes. None begins with a dash: none is read as an option."""


@dataclass(frozen=True, kw_only=True)
class RestartUnit:
    """Restart a systemd unit. Refused where there is no such unit, or it is masked.

    Args:
        unit: its name. Setting `unit`.
        user: a unit of the user's own manager.
        program: the program to call.
    """

    unit: str = ""
    user: bool = False
    program: str = "systemctl"

    def objection(self, case: Case) -> str | None:
        """Look whether the unit is there."""
        unit = setting(case, self.unit, "unit")
        wrong = _wrong(unit, "unit", self.program)
        if wrong is not None:
            return wrong
        done = run((*self._begin(), "show", "--property=LoadState", unit), _LOOK_S)
        state = done.text.partition("=")[2]
        return None if state == "loaded" else f"unit {unit} is {state or 'not known'}"

    def intent(self, case: Case) -> str:
        """Which unit."""
        return f"restart the unit {setting(case, self.unit, 'unit')}"

    def apply(self, case: Case, within_s: float) -> Applied:
        """Restart it."""
        unit = setting(case, self.unit, "unit")
        properties = "--property=ActiveState,SubState,MainPID,NRestarts"
        with locked(f"unit:{unit}"):
            before = run((*self._begin(), "show", properties, unit), _LOOK_S).text
            succeed((*self._begin(), "restart", unit), within_s, "the unit may be stopped")
        evidence = {"unit": unit, "before": before.splitlines()}
        return Applied(summary=f"the unit {unit} was restarted", evidence=evidence)

    def _begin(self) -> tuple[str, ...]:
        return (self.program, "--user") if self.user else (self.program,)


@dataclass(frozen=True, kw_only=True)
class RestartContainer:
    """Restart a container. Refused where there is none of that name.

    Args:
        container: its name or id. Setting `container`.
        program: docker, or podman, or a path of one.
        grace_s: from SIGTERM to SIGKILL.
    """

    container: str = ""
    program: str = "docker"
    grace_s: Annotated[float, Within(0, 3600)] = 10.0

    def objection(self, case: Case) -> str | None:
        """Look whether the container is there."""
        name = setting(case, self.container, "container")
        wrong = _wrong(name, "container", self.program)
        if wrong is not None:
            return wrong
        done = run((self.program, "inspect", "--type=container", name), _LOOK_S)
        return None if done.code == 0 else f"there is no container {name}"

    def intent(self, case: Case) -> str:
        """Which container."""
        return f"restart the container {setting(case, self.container, 'container')}"

    def apply(self, case: Case, within_s: float) -> Applied:
        """Restart it."""
        name = setting(case, self.container, "container")
        form = "--format={{.Id}} {{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}"
        grace = str(round(self.grace_s))
        with locked(f"container:{name}"):
            before = run((self.program, "inspect", form, name), _LOOK_S).text
            state = "the container may be stopped"
            succeed((self.program, "restart", "--time", grace, name), within_s, state)
        evidence = {"container": name, "before": before}
        return Applied(summary=f"the container {name} was restarted", evidence=evidence)


@dataclass(frozen=True, kw_only=True)
class RestartRollout:
    """Restart a Kubernetes workload pod by pod (`kubectl rollout restart`), and wait for it.

    Args:
        workload: as `deployment/router`. Setting `workload`.
        namespace: of it. Setting `namespace`.
        program: the program to call.
    """

    workload: str = ""
    namespace: str = ""
    program: str = "kubectl"

    def objection(self, case: Case) -> str | None:
        """Look whether the workload is there."""
        return _workload_objection(case, self)

    def intent(self, case: Case) -> str:
        """Which workload."""
        return f"restart {setting(case, self.workload, 'workload')} pod by pod"

    def apply(self, case: Case, within_s: float) -> Applied:
        """Restart it, and wait until the new pods are ready."""
        return _rolled(case, self, "restart", within_s)


@dataclass(frozen=True, kw_only=True)
class RollBackRollout:
    """Take a Kubernetes workload back to the revision before (`kubectl rollout undo`), and wait.

    Args:
        workload: as `deployment/router`. Setting `workload`.
        namespace: of it. Setting `namespace`.
        program: the program to call.
    """

    workload: str = ""
    namespace: str = ""
    program: str = "kubectl"

    def objection(self, case: Case) -> str | None:
        """Look whether the workload is there."""
        return _workload_objection(case, self)

    def intent(self, case: Case) -> str:
        """Which workload."""
        return f"take {setting(case, self.workload, 'workload')} back to the revision before"

    def apply(self, case: Case, within_s: float) -> Applied:
        """Take it back, and wait until the pods are ready."""
        return _rolled(case, self, "undo", within_s)


@dataclass(frozen=True, kw_only=True)
class DrainNode:
    """Let a Kubernetes node take no new work, and move what runs there elsewhere.

    Taken back by `kubectl uncordon`. What keeps data on the node only is not evicted.

    Args:
        node: its name. Setting `node`.
        only_cordon: leave what runs there alone.
        program: the program to call.
    """

    node: str = ""
    only_cordon: bool = False
    program: str = "kubectl"

    def objection(self, case: Case) -> str | None:
        """Look whether the node is there, and not the last one that takes work."""
        node = setting(case, self.node, "node")
        wrong = _wrong(node, "node", self.program)
        if wrong is not None:
            return wrong
        form = r"-o=jsonpath={range .items[*]}{.metadata.name} {.spec.unschedulable}{'\n'}{end}"
        done = run((self.program, "get", "nodes", form), _LOOK_S)
        if done.code != 0:
            return "the nodes cannot be listed"
        rows = [line.split() for line in done.text.splitlines() if line.strip()]
        taking = {row[0] for row in rows if row[1:] != ["true"]}
        if node not in {row[0] for row in rows}:
            return f"there is no node {node}"
        return None if taking - {node} else f"{node} is the last node that takes work"

    def intent(self, case: Case) -> str:
        """Which node."""
        word = "cordon" if self.only_cordon else "drain"
        return f"{word} the node {setting(case, self.node, 'node')}"

    def apply(self, case: Case, within_s: float) -> Applied:
        """Cordon it, and drain it."""
        node = setting(case, self.node, "node")
        undo = [self.program, "uncordon", node]
        with locked(f"node:{node}"):
            succeed((self.program, "cordon", node), _LOOK_S, "the node takes work as before")
            if not self.only_cordon:
                limit = f"--timeout={max(1, int(within_s) - 2)}s"
                command = (self.program, "drain", node, "--ignore-daemonsets", limit)
                succeed(command, within_s, "the node takes no new work, some still runs there")
        words = "takes no new work" if self.only_cordon else "is drained"
        return Applied(summary=f"the node {node} {words}", evidence={"node": node, "undo": undo})


def _workload_objection(case: Case, remedy: RestartRollout | RollBackRollout) -> str | None:
    workload = setting(case, remedy.workload, "workload")
    wrong = _wrong(workload, "workload", remedy.program)
    if wrong is not None:
        return wrong
    done = run((remedy.program, *_namespace(case, remedy), "get", workload, "-o=name"), _LOOK_S)
    return None if done.code == 0 else f"there is no {workload}"


def _rolled(
    case: Case,
    remedy: RestartRollout | RollBackRollout,
    verb: Literal["restart", "undo"],
    within_s: float,
) -> Applied:
    workload = setting(case, remedy.workload, "workload")
    begin = (remedy.program, *_namespace(case, remedy))
    revision = r"-o=jsonpath={.metadata.annotations.deployment\.kubernetes\.io/revision}"
    with locked(f"workload:{workload}"):
        before = run((*begin, "get", workload, revision), _LOOK_S).text
        succeed((*begin, "rollout", verb, workload), within_s, "the pods are as they were")
        wait = f"--timeout={max(1, int(within_s) - 2)}s"
        state = f"the rollout goes on; it began at revision {before}"
        succeed((*begin, "rollout", "status", workload, wait), within_s, state)
    undo = [*begin, "rollout", "undo", workload, f"--to-revision={before}"]
    evidence = {"workload": workload, "revision_before": before, "undo": undo}
    return Applied(summary=f"{workload}: rollout {verb}", evidence=evidence)


def _namespace(case: Case, remedy: RestartRollout | RollBackRollout) -> tuple[str, ...]:
    name = setting(case, remedy.namespace, "namespace")
    if not name:
        return ()
    if not _NAME.fullmatch(str(name)):
        raise refusal("the namespace is no name")
    return (f"--namespace={name}",)


def _wrong(name: object, parameter: str, program: str) -> str | None:
    if not name:
        return needs(parameter)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return f"{parameter} is no name"
    return None if shutil.which(program) else f"{program} is not installed"
