"""What resource management does, step by step, on this machine: nothing is simulated.

python -m privacy_finetuner.examples.resource_management_demo
"""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from privacy_runtime.resources import NotEnough
from privacy_runtime.resources.management import ResourceManagement


class ResourceManagementDemo:
    """Reads the machine, promises parts of it, is refused, takes back by priority.

    Args:
        management: of which process; one of its own by default.
        console: where it tells.
    """

    def __init__(
        self, management: ResourceManagement | None = None, console: Console | None = None
    ) -> None:
        self._management = management or ResourceManagement(interval_s=0.5)
        self._console = console or Console()

    def run_complete_demo(self) -> dict[str, Any]:
        """Run every step; returns the status at the end."""
        management = self._management
        management.start_resource_management()
        try:
            self._show_readings()
            self._show_promises()
        finally:
            management.stop_resource_management()
        status = management.get_comprehensive_status()
        self._console.print(f"Health: {management.get_system_health()['status']}")
        return status

    def _show_readings(self) -> None:
        status = self._management.get_comprehensive_status()
        reading = status["reading"]
        table = Table(title="What this machine has", title_justify="left", box=None)
        table.add_column("Resource")
        table.add_column("Used", justify="right")
        table.add_column("Level")
        for shortage in status["shortages"]:
            used = f"{100 * shortage['used_share']:.1f} %"
            table.add_row(shortage["resource"], used, shortage["level"])
        self._console.print(table)
        memory_gb = reading["memory_limit_bytes"] / 1e9
        self._console.print(f"{reading['cores']:g} cores, {memory_gb:.1f} GB of memory")

    def _show_promises(self) -> None:
        management = self._management
        told: list[str] = []
        left = management.watch.allocation.left
        batch = management.allocate_resources(
            "batch work", cores=left.cores, told=lambda: told.append("batch work")
        )
        self._console.print(f"{batch.holder} was promised {batch.amounts.cores:g} cores")
        try:
            management.allocate_resources("more batch work", cores=1)
        except NotEnough as error:
            self._console.print(f"more batch work: {error}")
        training = management.allocate_resources("training", cores=left.cores / 2, priority=10)
        self._console.print(f"training, more important, has them now; {told[0]} was told")
        management.deallocate_resources(training)


def main() -> None:
    """Run the demonstration."""
    ResourceManagementDemo().run_complete_demo()


if __name__ == "__main__":
    main()
