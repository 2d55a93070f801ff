"""What a pipeline makes: figures of a model, exported artefacts, queues of work."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pipeline_guard.config.values import POSITIVE, Within
from pipeline_guard.model import Fault, Moment, Reading
from pipeline_guard.probes.commands import run
from pipeline_guard.probes.inputs import (
    Patience,
    asked,
    critical,
    ok,
    refused,
    unknown,
    warning,
)
from pipeline_guard.probes.streams import NotHttp, address_of, context_of, exchange
from pipeline_guard.probes.trends import duration

Span = Annotated[float, POSITIVE]
_JSON_BYTES_MOST = 16 << 20


@dataclass(frozen=True, kw_only=True)
class QualityProbe:
    """A figure of a model, released in a JSON file, against a bound and the last accepted one.

    Compare released figures only: a figure that was computed from private records exactly is
    outside their guarantee, and so is every alert that follows from it.

    Args:
        path: of the figures: a JSON object.
        field: which, as `metrics.accuracy` for an object in an object.
        better: whether greater or smaller is better.
        crit: worse than this is critical.
        accepted: the figures of the last accepted model, in the same form.
        tolerance: so much worse than the accepted one is a warning; three times that, critical.
        answer_s: the file system must answer within this time.
    """

    path: Path
    field_: str
    better: Literal["greater", "smaller"] = "greater"
    crit: float | None = None
    accepted: Path | None = None
    tolerance: Annotated[float, Within(0)] = 0.01
    answer_s: Span = 2.0
    _patience: Patience = field(default_factory=Patience, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse no comparison."""
        if self.crit is None and self.accepted is None:
            raise refused("crit", None, "crit, accepted, or both")

    def look(self, moment: Moment) -> Reading:
        """Read the figures, and compare."""
        evidence: dict[str, Any] = {"path": str(self.path), "field": self.field_}
        found = asked(
            self._patience,
            lambda: (
                figure_of(self.path, self.field_),
                None if self.accepted is None else figure_of(self.accepted, self.field_),
            ),
            name="the file of figures",
            within_s=self.answer_s,
            moment=moment,
            evidence=evidence,
        )
        if isinstance(found, Reading):
            return found
        value, accepted = found
        evidence |= {"value": value, "accepted": accepted}
        more: dict[str, Any] = {"measurements": {self.field_: value}, "evidence": evidence}
        sign = 1 if self.better == "greater" else -1
        if self.crit is not None and sign * value < sign * self.crit:
            words = f"{self.field_} is {value:g}, expected at {_least(sign)} {self.crit:g}"
            return critical(words, Fault.MODEL_QUALITY, **more)
        if accepted is not None:
            loss = sign * (accepted - value)
            words = f"{self.field_} is {value:g}, {loss:g} worse than the accepted {accepted:g}"
            if loss > 3 * self.tolerance:
                return critical(words, Fault.MODEL_QUALITY, **more)
            if loss > self.tolerance:
                return warning(words, Fault.MODEL_QUALITY, **more)
        return ok(f"{self.field_} is {value:g}", **more)


@dataclass(slots=True)
class _Checked:
    stamp: Any = None
    at_s: float = 0.0
    reading: Reading | None = None
    patience: Patience = field(default_factory=Patience)


@dataclass(frozen=True, kw_only=True)
class ExportProbe:
    """An exported artefact: a program loads it, runs it, and its outputs are those expected.

    The program gets the artefact's path as its last argument and prints one JSON object with
    `outputs`: numbers, or lists of them. `expected` holds the same of the model that was exported.
    It is run when the artefact changes, and again after `again_s`.

    ====================================  ======================================================
    the artefact                          is
    ====================================  ======================================================
    is missing, empty or too large        critical
    cannot be loaded (exit code not 0)    critical
    differs by more than it may, has a    critical
    NaN, or another number of outputs
    took too long                         unknown
    ====================================  ======================================================

    Args:
        artefact: the file.
        command: loads it; the path is added.
        expected: outputs of the model that was exported.
        difference: the greatest absolute difference of a number.
        most_bytes: the artefact's greatest size.
        again_s: it is run again after this time.
        answer_s: the program is killed after this time; the check's timeout must be longer.
    """

    artefact: Path
    command: tuple[str, ...]
    expected: Path
    difference: Annotated[float, Within(0)] = 1e-3
    most_bytes: int | None = None
    again_s: Span = 86_400.0
    answer_s: Span = 120.0
    _checked: _Checked = field(default_factory=_Checked, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse no command."""
        if not self.command:
            raise refused("command", [], "a program that loads the artefact")

    async def look(self, moment: Moment) -> Reading:
        """Run it, if it changed."""
        evidence: dict[str, Any] = {"artefact": str(self.artefact)}
        try:
            stats = self.artefact.stat()
        except FileNotFoundError:
            return _failed(f"{self.artefact.name} is not there", evidence)
        except OSError as error:
            return unknown(f"{self.artefact.name}: {error.strerror}", evidence=evidence)
        evidence["size_bytes"] = stats.st_size
        if stats.st_size == 0:
            return _failed(f"{self.artefact.name} is empty", evidence)
        if self.most_bytes is not None and stats.st_size > self.most_bytes:
            words = f"{stats.st_size} bytes, expected at most {self.most_bytes}"
            return _failed(words, evidence)
        stamp = (stats.st_size, stats.st_mtime_ns, stats.st_ino)
        known = self._checked
        is_fresh = known.stamp == stamp and moment.monotonic_s - known.at_s < self.again_s
        if known.reading is None or not is_fresh:
            reading = await self._compared(evidence)
            if reading.verdict.name == "UNKNOWN":
                return reading
            known.stamp, known.at_s, known.reading = stamp, moment.monotonic_s, reading
        return known.reading

    async def _compared(self, evidence: dict[str, Any]) -> Reading:
        try:
            expected = outputs_of(_document(self.expected))
        except (OSError, ValueError) as error:
            words = getattr(error, "strerror", None) or str(error)
            return unknown(f"the expected outputs cannot be used: {words}", evidence=evidence)
        done = await run((*self.command, str(self.artefact)), self.answer_s)
        if isinstance(done, Reading):
            return done
        if done.code != 0:
            return _failed(f"it cannot be loaded: exit code {done.code}", evidence)
        try:
            found = outputs_of(json.loads(done.text))
        except ValueError:
            return _failed("the program printed no outputs", evidence)
        if len(found) != len(expected):
            return _failed(f"{len(found)} outputs, expected {len(expected)}", evidence)
        pairs = zip(found, expected, strict=True)
        greatest = max((abs(a - b) for a, b in pairs), default=0.0)
        greatest = math.inf if any(math.isnan(value) for value in found) else greatest
        evidence["difference"] = greatest if math.isfinite(greatest) else "not finite"
        figures = {"output_difference": greatest} if math.isfinite(greatest) else {}
        words = f"outputs differ by {greatest:.3g} (at most {self.difference:g})"
        if not greatest <= self.difference:
            return _failed(words, evidence, figures)
        return ok(words, measurements=figures, evidence=evidence)


@dataclass(frozen=True, kw_only=True)
class QueueProbe:
    """Work that waits: files in a folder, or a number that an HTTP endpoint says in JSON.

    Args:
        folder: each file that fits `pattern` is one piece of work.
        pattern: of its files.
        url: answers with a JSON object; one of `folder` and `url`.
        field: the number in it, as `queue.length` for an object in an object.
        warn, crit: pieces that wait.
        crit_age_s: of a folder: the oldest waits for longer than this.
        answer_s: folder or endpoint must answer within this time.
    """

    folder: Path | None = None
    pattern: str = "*"
    url: str = ""
    field_: str = ""
    warn: Annotated[int, Within(0)] = 100
    crit: Annotated[int, Within(0)] = 1_000
    crit_age_s: Span | None = None
    answer_s: Span = 3.0
    _patience: Patience = field(default_factory=Patience, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse both or neither."""
        if (self.folder is None) == (not self.url):
            raise refused("url", self.url, "either folder or url")
        if self.url:
            address_of(self.url)
            if not self.field_:
                raise refused("field", "", "the name of the number, with url")

    async def look(self, moment: Moment) -> Reading:
        """Count."""
        found = await self._asked(moment) if self.url else self._counted(moment)
        if isinstance(found, Reading):
            return found
        count, age_s = found
        figures = {"waiting": count}
        words = f"{count:g} wait"
        if age_s is not None:
            figures["oldest_seconds"] = age_s
            words = f"{words}, the oldest for {duration(age_s)}"
        more: dict[str, Any] = {"measurements": figures}
        is_old = self.crit_age_s is not None and age_s is not None and age_s > self.crit_age_s
        if count >= self.crit or is_old:
            return critical(words, Fault.OVERLOAD, **more)
        return warning(words, Fault.OVERLOAD, **more) if count >= self.warn else ok(words, **more)

    def _counted(self, moment: Moment) -> tuple[float, float | None] | Reading:
        def count() -> tuple[float, float | None]:
            if self.folder is None or not self.folder.is_dir():
                raise FileNotFoundError
            times = [p.stat().st_mtime for p in self.folder.glob(self.pattern) if p.is_file()]
            oldest = max(0.0, moment.at.timestamp() - min(times)) if times else None
            return float(len(times)), oldest

        return asked(
            self._patience,
            count,
            name=str(self.folder),
            within_s=self.answer_s,
            moment=moment,
            evidence={},
        )

    async def _asked(self, moment: Moment) -> tuple[float, float | None] | Reading:
        import asyncio  # noqa: PLC0415 -- only with a URL

        address = address_of(self.url)
        context = context_of(None) if address.is_encrypted else None
        try:
            async with asyncio.timeout(self.answer_s):
                answer = await exchange(address, context=context)
            if answer.status != 200:
                return unknown(f"the queue's endpoint says {answer.status}")
            return number_at(json.loads(answer.body), self.field_), None
        except TimeoutError:
            return unknown(f"no answer within {self.answer_s:g} s")
        except (OSError, NotHttp, ValueError) as error:
            return unknown(f"the queue cannot be asked: {type(error).__name__}")


def figure_of(path: Path, name: str) -> float:
    """A number of a JSON file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is empty, no JSON, or has no such number.
    """
    return number_at(_document(path), name)


def number_at(document: Any, name: str) -> float:
    """The number under a dotted name.

    Raises:
        ValueError: there is none, or it is not finite.
    """
    value = document
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise ValueError(f"it has no {name!r}")
        value = value[part]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"its {name!r} is no finite number")
    return float(value)


def outputs_of(document: Any) -> list[float]:
    """The numbers of `outputs`, in order, whatever lists they are in.

    Raises:
        ValueError: there are none.
    """
    if not isinstance(document, Mapping) or "outputs" not in document:
        raise ValueError("it has no 'outputs'")

    def flat(value: Any) -> list[float]:
        if isinstance(value, list):
            return [number for inner in value for number in flat(inner)]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError("its 'outputs' are not numbers")  # noqa: TRY004 -- of a file's content
        return [float(value)]

    found = flat(document["outputs"])
    if not found:
        raise ValueError("its 'outputs' are empty")
    return found


def _document(path: Path) -> Any:
    with path.open("rb") as file:
        data = file.read(_JSON_BYTES_MOST + 1)
    if not data:
        raise ValueError("it is empty")
    if len(data) > _JSON_BYTES_MOST:
        raise ValueError("it is too large")
    try:
        return json.loads(data)
    except ValueError as error:
        raise ValueError("it is not JSON") from error


def _failed(
    words: str, evidence: dict[str, Any], figures: Mapping[str, float] | None = None
) -> Reading:
    return critical(words, Fault.EXPORT_FAILED, measurements=figures or {}, evidence=evidence)


def _least(sign: int) -> str:
    return "least" if sign > 0 else "most"
