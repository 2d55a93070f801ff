"""Quality gates: suites of real checks on a given trainer, run together or in turn, with a score.

The system is looked at, never changed: a check that needs weights works on a copy, a check that
needs files on a copy of them, and a check that trains does so on made-up records in a folder of its
own. So a whole test costs the people in the private records nothing.

A check ends in one of four ways, and only the first two count for the score:

=============  ====================================================================
`passed`       what was to hold was looked at and held
`failed`       it did not; the reason says what was found and what was expected
`not run`      there is nothing to look at yet (no run, no folder), or no time left
`broken`       the check itself ended with an error; it counts as failed
=============  ====================================================================
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Final

from privacy_core.errors import PrivacyError
from privacy_finetuner.errors import ConfigurationError
from privacy_runtime.files import write_atomic
from privacy_runtime.world import Clock, Entropy, SystemClock, SystemEntropy

SUITES: Final = ("privacy_tests", "security_tests", "performance_tests", "integration_tests")
MODES: Final = ("parallel", "sequential")


class Outcome(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not run"
    BROKEN = "broken"


class CheckFailed(Exception):
    """What was to hold does not. The message says what was found and what was expected."""


class NothingToCheck(Exception):
    """The system has nothing yet for this check to look at. The message says what is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TestConfiguration:
    """How much a test may take. All of it is public.

    Attributes:
        privacy_budget: epsilon of the trainings that checks run, on made-up records.
        test_duration: seconds after which no further check begins.
        sample_size: numbers, or draws, that a statistical check looks at; its false-alarm rate is
            1e-6 whatever the size.
        most_time_ratio: of a private step to the same step without privacy, on made-up inputs.
        run_folder: the folder of a finished run, for checks of files; by default the trainer's.
    """

    __test__ = False  # not a test of pytest's

    privacy_budget: float = 1.0
    test_duration: float = 300.0
    sample_size: int = 1000
    most_time_ratio: float = 5.0
    run_folder: str | Path | None = None

    def __post_init__(self) -> None:
        numbers = (self.privacy_budget, self.test_duration, self.most_time_ratio)
        if not all(0 < number < float("inf") for number in numbers) or self.sample_size < 100:
            raise ConfigurationError(
                "privacy_budget, test_duration and most_time_ratio are expected above 0, "
                f"sample_size at least 100; found {numbers} and {self.sample_size}"
            )


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check: what it is about, how it ended, and why."""

    name: str
    about: str
    outcome: Outcome
    reason: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class SuiteResults:
    """The checks of one suite."""

    suite: str
    checks: tuple[CheckResult, ...]

    @property
    def score(self) -> float | None:
        """Passed among those that ran; `None` where none did."""
        return score_of(self.checks)


@dataclass(frozen=True, slots=True)
class TestResults:
    """All suites, with one score. `meets_threshold` is false where nothing ran."""

    __test__ = False

    suites: tuple[SuiteResults, ...]
    quality_threshold: float

    @property
    def checks(self) -> tuple[CheckResult, ...]:
        """Of all suites, in order."""
        return tuple(check for suite in self.suites for check in suite.checks)

    @property
    def overall_quality_score(self) -> float:
        """Passed among those that ran, over all suites; 0 where none did."""
        return score_of(self.checks) or 0.0

    @property
    def meets_threshold(self) -> bool:
        """Whether the score reaches the threshold, and no privacy check failed."""
        return self.overall_quality_score >= self.quality_threshold and not self.blocking

    @property
    def blocking(self) -> tuple[CheckResult, ...]:
        """Failed privacy checks: no score makes up for one."""
        return tuple(
            check
            for suite in self.suites
            if suite.suite == "privacy_tests"
            for check in suite.checks
            if check.outcome in (Outcome.FAILED, Outcome.BROKEN)
        )


@dataclass(frozen=True, slots=True)
class QualityReport:
    """What a test found, for people and for machines."""

    results: TestResults
    made_at: str
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        results = self.results
        return {
            "made_at": self.made_at,
            "overall_quality_score": results.overall_quality_score,
            "quality_threshold": results.quality_threshold,
            "meets_threshold": results.meets_threshold,
            "suites": {
                suite.suite: {"score": suite.score, "checks": [asdict(c) for c in suite.checks]}
                for suite in results.suites
            },
            "notes": list(self.notes),
        }

    def to_markdown(self) -> str:
        """A page: one table a suite, what failed first."""
        results = self.results
        word = "passed" if results.meets_threshold else "NOT passed"
        lines = [
            "# Quality report",
            "",
            f"Gate {word}: score {results.overall_quality_score:.2f}, threshold "
            f"{results.quality_threshold:.2f}. {self.made_at}",
        ]
        for suite in results.suites:
            score = "nothing ran" if suite.score is None else f"{suite.score:.2f}"
            lines += ["", f"## {suite.suite.replace('_', ' ')} ({score})", ""]
            lines += ["| check | outcome | reason |", "|---|---|---|"]
            lines += [
                f"| {check.about} | {check.outcome.value} | {check.reason} |"
                for check in sorted(suite.checks, key=lambda c: c.outcome is Outcome.PASSED)
            ]
        return "\n".join([*lines, "", *self.notes, ""])

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Leave `quality_report.json` and `quality_report.md` in a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        data, page = folder / "quality_report.json", folder / "quality_report.md"
        write_atomic(data, json.dumps(self.to_dict(), indent=2, sort_keys=True).encode())
        write_atomic(page, self.to_markdown().encode())
        return data, page


@dataclass(frozen=True, slots=True)
class Check:
    """A check of a suite: `run` returns what it measured, or raises `CheckFailed`."""

    name: str
    about: str
    run: Callable[[System], str]


@dataclass(frozen=True, slots=True)
class System:
    """What checks look at: a trainer, and how much they may take."""

    trainer: Any
    configuration: TestConfiguration
    clock: Clock
    entropy: Entropy

    @property
    def folder(self) -> Path:
        """The folder of a finished run: the one named, or the trainer's own last one.

        Raises:
            NothingToCheck: none was named, and the trainer has finished no run that is still there.
        """
        if self.configuration.run_folder is not None:
            return Path(self.configuration.run_folder)
        account = self.trainer.history.run
        if account is None or not Path(account.folder).is_dir():
            raise NothingToCheck(
                "the trainer has finished no run, and no folder was named "
                "(TestConfiguration.run_folder)"
            )
        return Path(account.folder)


class TestOrchestrator:
    """Runs suites of checks against a trainer.

    Args:
        test_suites: of `SUITES`; `None`: all of them.
        execution_mode: `parallel`, a thread a suite, or `sequential`.
        quality_threshold: least score of a gate, in [0, 1].
        clock: the outside world; only tests replace it.
        entropy: likewise.

    Raises:
        ConfigurationError: an unknown name, or a threshold outside [0, 1].
    """

    __test__ = False

    def __init__(
        self,
        test_suites: Sequence[str] | None = None,
        execution_mode: str = "parallel",
        quality_threshold: float = 0.85,
        *,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
    ) -> None:
        self.test_suites = tuple(SUITES if test_suites is None else test_suites)
        unknown = [name for name in self.test_suites if name not in SUITES]
        if unknown or not self.test_suites:
            raise ConfigurationError(
                f"test_suites are {list(self.test_suites)}, expected some of {', '.join(SUITES)}"
            )
        if execution_mode not in MODES:
            raise ConfigurationError(
                f"execution_mode is {execution_mode!r}, expected one of {', '.join(MODES)}"
            )
        if not 0 <= quality_threshold <= 1:
            raise ConfigurationError(
                f"quality_threshold is {quality_threshold}, expected a number in [0, 1]"
            )
        self.execution_mode = execution_mode
        self.quality_threshold = quality_threshold
        self._clock = clock or SystemClock()
        self._entropy = entropy or SystemEntropy()
        self._latest: Any = None

    def run_all_tests(
        self, target_system: Any, test_config: TestConfiguration | None = None
    ) -> TestResults:
        """Run every suite.

        Args:
            target_system: a `PrivateTrainer`.
            test_config: how much the checks may take.

        Raises:
            ConfigurationError: the system is nothing that the checks know.
        """
        system = self._system(target_system, test_config or TestConfiguration())
        self._latest = target_system
        until = self._clock.monotonic_s() + system.configuration.test_duration
        run = partial(self._suite, system, until)
        if self.execution_mode == "sequential":
            suites = [run(name) for name in self.test_suites]
        else:
            with ThreadPoolExecutor(len(self.test_suites)) as pool:
                suites = list(pool.map(run, self.test_suites))
        return TestResults(tuple(suites), self.quality_threshold)

    def run_specific_suite(
        self, suite_name: str, *, target_system: Any = None, **configuration: Any
    ) -> SuiteResults:
        """Run one suite; keywords are those of `TestConfiguration`.

        Args:
            suite_name: of `SUITES`.
            target_system: a `PrivateTrainer`; `None`: the one that `run_all_tests` looked at last.
            **configuration: how much the checks may take.

        Raises:
            ConfigurationError: an unknown suite or system, or none at all.
            TypeError: an unknown keyword.
        """
        if suite_name not in SUITES:
            raise ConfigurationError(
                f"suite_name is {suite_name!r}, expected one of {', '.join(SUITES)}"
            )
        wanted = TestConfiguration(**configuration)
        target = self._latest if target_system is None else target_system
        if target is None:
            raise ConfigurationError(
                "run_specific_suite has nothing to look at: give target_system, or call "
                "run_all_tests first"
            )
        system = self._system(target, wanted)
        until = self._clock.monotonic_s() + system.configuration.test_duration
        return self._suite(system, until, suite_name)

    def generate_quality_report(self, results: TestResults) -> QualityReport:
        """Put results into words."""
        skipped = sum(check.outcome is Outcome.NOT_RUN for check in results.checks)
        notes = [f"{skipped} checks did not run and count for nothing."] if skipped else []
        if results.blocking:
            notes.append("A privacy check failed: the gate stays shut whatever the score.")
        return QualityReport(results, self._clock.now().isoformat(), tuple(notes))

    def _system(self, target: Any, configuration: TestConfiguration) -> System:
        from privacy_finetuner.trainer import PrivateTrainer

        if not isinstance(target, PrivateTrainer):
            raise ConfigurationError(
                f"target_system is a {type(target).__name__}, expected a PrivateTrainer"
            )
        return System(target, configuration, self._clock, self._entropy)

    def _suite(self, system: System, until: float, name: str) -> SuiteResults:
        from privacy_finetuner.assessment.quality_checks import CHECKS

        return SuiteResults(
            name, tuple(self._checked(system, check, until) for check in CHECKS[name])
        )

    def _checked(self, system: System, check: Check, until: float) -> CheckResult:
        start = self._clock.monotonic_s()
        if start >= until:
            return CheckResult(check.name, check.about, Outcome.NOT_RUN, "no time was left", 0.0)
        try:
            outcome, reason = Outcome.PASSED, check.run(system)
        except CheckFailed as failure:
            outcome, reason = Outcome.FAILED, str(failure)
        except NothingToCheck as nothing:
            outcome, reason = Outcome.NOT_RUN, str(nothing)
        except PrivacyError as error:
            outcome, reason = Outcome.BROKEN, f"{type(error).__name__}: {error}"
        except Exception as error:  # noqa: BLE001 -- of anybody's model; its text may hold data
            outcome, reason = Outcome.BROKEN, f"ended with {type(error).__name__}"
        return CheckResult(
            check.name, check.about, outcome, reason, self._clock.monotonic_s() - start
        )


def score_of(checks: Iterable[CheckResult]) -> float | None:
    """Passed among those that ran; `None` where none did."""
    ran = [check for check in checks if check.outcome is not Outcome.NOT_RUN]
    if not ran:
        return None
    return sum(check.outcome is Outcome.PASSED for check in ran) / len(ran)


Suites = Mapping[str, tuple[Check, ...]]
