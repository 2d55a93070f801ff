"""What a rehearsal is done to. Products offer theirs; the guard knows none of them.

A product names, in the entry-point group `pipeline_guard.subjects`, one of two things:

- a function that, called with an empty folder, returns a `Subject`: a training that is small, real,
  and whose price can be recomputed. The guard has the scenes (`rehearsal.scenes`);
- a mapping of scenes of its own (`rehearsal.stage`), where what is hurt is something else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

from pipeline_guard.errors import ConfigurationError
from pipeline_guard.model import Fault
from pipeline_guard.rehearsal.stage import Priced, Repertoire

GROUP: Final = "pipeline_guard.subjects"


class Subject(Priced, Protocol):
    """A training that may be hurt; its price is that of one undisturbed run.

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


Factory: TypeAlias = Callable[[Path], Subject]


def subjects(entries: Iterable[metadata.EntryPoint] | None = None) -> dict[str, Repertoire]:
    """The scenes that this installation can rehearse, by subject."""
    found = metadata.entry_points(group=GROUP) if entries is None else entries
    return {each.name: _repertoire(each.load()) for each in found}


def scenes_of(name: str | None, known: Mapping[str, Repertoire]) -> Repertoire:
    """The scenes of this subject; those of all where none is named.

    Raises:
        ConfigurationError: there is no such subject, or there is none at all, or two have a scene
            of one name.
    """
    if not known or (name is not None and name not in known):
        raise ConfigurationError(
            f"there is no subject {name!r} to rehearse on; known: {', '.join(known) or 'none'}. "
            "Install a product that offers one: pip install privacy-finetuner",
            {"parameter": "subject", "value": name, "constraint": f"one of {sorted(known)}"},
        )
    if name is not None:
        return known[name]
    owners = [(scene, subject) for subject, scenes in known.items() for scene in scenes]
    whole = {scene: known[subject][scene] for scene, subject in owners}
    if len(whole) < len(owners):
        twice = sorted({s for s, _ in owners if sum(s == other for other, _ in owners) > 1})
        raise ConfigurationError(
            f"several subjects have a scene {twice[0]!r}; name one: --subject {' | '.join(known)}",
            {"parameter": "subject", "value": None, "constraint": f"one of {sorted(known)}"},
        )
    return whole


def _repertoire(offer: Any) -> Repertoire:
    from pipeline_guard.rehearsal.scenes import training_scenes  # noqa: PLC0415 -- it needs Subject

    return offer if isinstance(offer, Mapping) else training_scenes(offer)
