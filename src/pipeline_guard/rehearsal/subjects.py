"""What a rehearsal is done to. Products offer theirs; the guard knows none of them.

A product names a function in the entry-point group `pipeline_guard.subjects`; called with an empty
folder, it returns a `Subject`: a training that is small, real, and whose price can be recomputed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Final, Protocol, TypeAlias, cast

from pipeline_guard.errors import ConfigurationError
from pipeline_guard.model import Fault

GROUP: Final = "pipeline_guard.subjects"


class Subject(Protocol):
    """A training that may be hurt.

    Attributes:
        run: the folder in which it keeps `heartbeat.json` and its checkpoints.
        artefact: an export of its model, once `export_command` has made it.
        export_command: makes the export.
        export_check: ends with 0 if the export is what was made and answers as it should.
    """

    run: Path
    artefact: Path
    export_command: tuple[str, ...]
    export_check: tuple[str, ...]

    def command(self, *, is_resumed: bool, injury: Fault | None = None) -> tuple[str, ...]:
        """How it is started; `injury`: it does this to itself on the way, once."""
        ...

    def epsilon_difference(self) -> float | None:
        """What its ledger says it spent, less the price of one undisturbed run; after its end.

        `None`: it cannot be said. Above 0: more was charged than ran. Below 0: private steps ran
        that nobody paid for.
        """
        ...


Factory: TypeAlias = Callable[[Path], Subject]


def subjects(entries: Iterable[metadata.EntryPoint] | None = None) -> dict[str, Factory]:
    """What this installation can rehearse on, by name."""
    found = metadata.entry_points(group=GROUP) if entries is None else entries
    return {each.name: cast(Factory, each.load()) for each in found}


def subject_of(name: str | None, known: dict[str, Factory]) -> Factory:
    """The subject of this name; the only one where none is named.

    Raises:
        ConfigurationError: there is none, or several and none is named.
    """
    if name is None and len(known) == 1:
        return next(iter(known.values()))
    if name is None or name not in known:
        raise ConfigurationError(
            f"there is no subject {name!r} to rehearse on; known: {', '.join(known) or 'none'}. "
            "Install a product that offers one: pip install privacy-finetuner",
            {"parameter": "subject", "value": name, "constraint": f"one of {sorted(known)}"},
        )
    return known[name]
