"""Scan a project with bandit, pip-audit and detect-secrets, and report as SARIF 2.1.0.

    python scripts/security_scanner.py [PROJECT] [--sarif FILE] [--json] [--fail-on low|medium|high]

The tools judge; this puts their findings into one form and says which of them could not look. A
tool that is missing, failed or ran into its time limit makes the report incomplete, and so does a
package that pip-audit skipped: "nothing found" by somebody who did not look is not a result.

Exit codes: 0 nothing at or above --fail-on; 1 findings; 2 bad arguments; 3 incomplete.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from importlib import metadata, util
from pathlib import Path
from typing import Any, Final

TIMEOUT_S: Final = 900.0
_SARIF_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"
_INSTALL: Final = "pip install -c constraints.txt -e '.[scan]'"


class Severity(StrEnum):
    """How bad a finding is, as its tool says."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"

    @property
    def rank(self) -> int:
        """Its place in the order from low to high."""
        return list(Severity).index(self)

    @property
    def sarif_level(self) -> str:
        """The SARIF level."""
        return ("note", "warning", "error")[self.rank]


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding of one tool.

    Attributes:
        tool, rule: who says it, and by which rule.
        severity: as the tool says.
        message: what it found; of a secret its kind, never the secret.
        path: relative to the project.
        line: from 1; 1 where the tool names none.
    """

    tool: str
    rule: str
    severity: Severity
    message: str
    path: str
    line: int = 1


@dataclass(frozen=True, slots=True)
class Scan:
    """What one tool did.

    Attributes:
        tool, version: which; the version is empty where it is not installed.
        findings: what it found.
        gap: what it could not look at, and how to get it; `None`: it saw everything.
    """

    tool: str
    version: str
    findings: tuple[Finding, ...] = ()
    gap: str | None = None


@dataclass(frozen=True, slots=True)
class ScanReport:
    """What all tools found in a project."""

    project: str
    scans: tuple[Scan, ...] = field(default_factory=tuple)

    @property
    def findings(self) -> list[Finding]:
        """All findings, the worst first."""
        found = [each for scan in self.scans for each in scan.findings]
        return sorted(found, key=lambda each: (-each.severity.rank, each.path, each.line))

    @property
    def is_complete(self) -> bool:
        """Whether every tool saw everything it should have seen."""
        return all(scan.gap is None for scan in self.scans)

    def at_least(self, severity: Severity) -> list[Finding]:
        """Return the findings of this severity and above."""
        return [each for each in self.findings if each.severity.rank >= severity.rank]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "project": self.project,
            "is_complete": self.is_complete,
            "counts": {each: len(self._of(each)) for each in Severity},
            "tools": [
                {"tool": scan.tool, "version": scan.version, "gap": scan.gap} for scan in self.scans
            ],
            "findings": [asdict(each) for each in self.findings],
        }

    def to_sarif(self) -> dict[str, Any]:
        """Return a SARIF 2.1.0 log: one run for each tool."""
        return {
            "$schema": _SARIF_SCHEMA,
            "version": "2.1.0",
            "runs": [_run(scan) for scan in self.scans],
        }

    def _of(self, severity: Severity) -> list[Finding]:
        return [each for each in self.findings if each.severity is severity]


class SecurityScanner:
    """Runs the three tools over a project.

    Args:
        project: its folder. Code is looked for in `src` and `scripts` where they exist, else in
            the whole folder; dependencies in `constraints.txt` or `requirements.txt`.
        timeout_s: for each tool.

    Raises:
        NotADirectoryError: there is no such folder.
    """

    def __init__(self, project: Path | str, *, timeout_s: float = TIMEOUT_S) -> None:
        self._project = Path(project).resolve()
        self._timeout_s = timeout_s
        if not self._project.is_dir():
            raise NotADirectoryError(f"{project} is not a folder; nothing was scanned")

    def scan_project(self) -> ScanReport:
        """Run every tool. What one could not do is said in its scan; the others still run."""
        return ScanReport(str(self._project), (self.code(), self.dependencies(), self.secrets()))

    def code(self) -> Scan:
        """Run bandit over the code."""
        found, gap = self._run("bandit", ["-q", "-r", *self._folders(), "-f", "json"])
        findings = [
            Finding(
                tool="bandit",
                rule=each["test_id"],
                severity=Severity(each["issue_severity"].lower()),
                message=f"{each['test_name']}: {each['issue_text']}",
                path=self._relative(each["filename"]),
                line=each["line_number"],
            )
            for each in found.get("results", ())
        ]
        unread = [self._relative(each["filename"]) for each in found.get("errors", ())]
        gap = gap or (f"bandit could not read {', '.join(unread)}" if unread else None)
        return _scan("bandit", findings, gap)

    def dependencies(self) -> Scan:
        """Ask pip-audit about every pinned dependency; it needs the vulnerability service."""
        pins = next(
            (
                path
                for name in ("constraints.txt", "requirements.txt")
                if (path := self._project / name).is_file()
            ),
            None,
        )
        if pins is None:
            gap = "there is no constraints.txt or requirements.txt, so no version is known"
            return _scan("pip-audit", (), gap)
        wanted = ["-r", str(pins), "--no-deps", "--disable-pip", "-f", "json"]
        found, gap = self._run("pip-audit", ["--progress-spinner", "off", *wanted])
        packages = found.get("dependencies", [])
        findings = [
            Finding(
                tool="pip-audit",
                rule=known["id"],
                severity=Severity.HIGH,  # the service gives no severity; a known hole is one
                message=f"{package['name']} {package['version']} has {known['id']}; fixed in "
                + (", ".join(known["fix_versions"]) or "no version yet"),
                path=pins.name,
            )
            for package in packages
            for known in package.get("vulns", ())
        ]
        skipped = sum("skip_reason" in package for package in packages)
        if gap is None and skipped:
            gap = f"{skipped} of {len(packages)} packages were not found at the service it asked"
        return _scan("pip-audit", findings, gap)

    def secrets(self) -> Scan:
        """Look for secrets with detect-secrets. The secret itself is never shown or kept."""
        # Without git there is no list of the project's own files, so every file counts.
        everything = [] if (self._project / ".git").exists() else ["--all-files"]
        found, gap = self._run("detect-secrets", ["-C", str(self._project), "scan", *everything])
        findings = [
            Finding(
                tool="detect-secrets",
                rule=each["type"],
                severity=Severity.MEDIUM,
                message=f"this line looks like it holds a secret ({each['type']})",
                path=self._relative(path),
                line=each["line_number"],
            )
            for path, marks in found.get("results", {}).items()
            for each in marks
        ]
        return _scan("detect-secrets", findings, gap)

    def _run(self, tool: str, arguments: Sequence[str]) -> tuple[dict[str, Any], str | None]:
        """Return the tool's JSON, and why it is not whole."""
        module = tool.replace("-", "_")
        if util.find_spec(module) is None:
            return {}, f"{tool} is not installed; {_INSTALL}"
        command = [sys.executable, "-m", module, *arguments]
        with tempfile.TemporaryFile() as errors:
            try:
                done = subprocess.run(  # noqa: S603  # a list of our own, no shell
                    command,
                    cwd=self._project,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    timeout=self._timeout_s,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return {}, f"{tool} was stopped after {self._timeout_s:.0f} s"
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().splitlines()
        try:
            found = json.loads(done.stdout)
        except ValueError:
            last = said[-1] if said else "it said nothing"
            return {}, f"{tool} ended with code {done.returncode}: {last}"
        return found, None

    def _folders(self) -> list[str]:
        named = [self._project / name for name in ("src", "scripts")]
        return [str(path) for path in named if path.is_dir()] or [str(self._project)]

    def _relative(self, path: str) -> str:
        whole = (self._project / path).resolve()
        return (
            str(whole.relative_to(self._project)) if whole.is_relative_to(self._project) else path
        )


def _scan(tool: str, findings: Iterable[Finding], gap: str | None) -> Scan:
    try:
        version = metadata.version(tool)
    except metadata.PackageNotFoundError:
        version = ""
    return Scan(tool, version, tuple(findings), gap)


def _run(scan: Scan) -> dict[str, Any]:
    rules = sorted({each.rule for each in scan.findings})
    notice = {"level": "error", "message": {"text": scan.gap}}
    return {
        "tool": {
            "driver": {
                "name": scan.tool,
                "version": scan.version,
                "rules": [{"id": rule} for rule in rules],
            }
        },
        "invocations": [
            {
                "executionSuccessful": scan.gap is None,
                "toolExecutionNotifications": [] if scan.gap is None else [notice],
            }
        ],
        "results": [
            {
                "ruleId": each.rule,
                "ruleIndex": rules.index(each.rule),
                "level": each.severity.sarif_level,
                "message": {"text": each.message},
                "locations": [
                    {
                        "physicalLocation": {
                            "artifactLocation": {"uri": each.path.replace("\\", "/")},
                            "region": {"startLine": max(each.line, 1)},
                        }
                    }
                ],
            }
            for each in scan.findings
        ],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Scan, print, and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("project", nargs="?", default=".", help="its folder (default: this one)")
    parser.add_argument("--sarif", type=Path, help="write a SARIF 2.1.0 log to this file")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--fail-on", type=Severity, choices=list(Severity), default=Severity.HIGH)
    parser.add_argument("--timeout", type=float, default=TIMEOUT_S, help="seconds for each tool")
    asked = parser.parse_args(arguments)
    try:
        report = SecurityScanner(asked.project, timeout_s=asked.timeout).scan_project()
    except NotADirectoryError as error:
        parser.error(str(error))
    if asked.sarif:
        asked.sarif.write_text(json.dumps(report.to_sarif(), indent=2) + "\n")
    if asked.json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        for each in report.at_least(asked.fail_on):
            print(f"{each.severity:<7} {each.path}:{each.line}  {each.tool} {each.rule}")
            print(f"        {each.message}")
        for scan in report.scans:
            state = f"incomplete: {scan.gap}" if scan.gap else "complete"
            print(f"{scan.tool} {scan.version}: {len(scan.findings)} findings, {state}")
    if report.at_least(asked.fail_on):
        return 1
    return 0 if report.is_complete else 3


if __name__ == "__main__":
    sys.exit(main())
