"""The scanner runs the real tools, and never takes "did not look" for "nothing found"."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from scripts.security_scanner import Finding, Scan, ScanReport, SecurityScanner, Severity

ROOT = Path(__file__).parents[2]
KEY = "AKIA" + "Q3EGRIDZ7XK5LPWM"  # in the form of an access key; nobody's


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "shell.py").write_text(
        f"import subprocess\n\nsubprocess.call(input(), shell=True)\nkey = {KEY!r}\n"
    )
    return tmp_path


def test_code_that_hands_input_to_a_shell_is_found_where_it_stands(project: Path) -> None:
    scan = SecurityScanner(project).code()

    assert scan.gap is None
    assert scan.version
    [found] = [each for each in scan.findings if each.severity is Severity.HIGH]
    assert (found.rule, found.path, found.line) == ("B602", "src/shell.py", 3)


def test_a_secret_is_found_and_not_repeated(project: Path) -> None:
    report = ScanReport(str(project), (SecurityScanner(project).secrets(),))

    assert [(each.path, each.line) for each in report.findings][:1] == [("src/shell.py", 4)]
    assert KEY not in json.dumps(report.to_dict()) + json.dumps(report.to_sarif())


def test_dependencies_that_nobody_looked_up_make_the_report_incomplete(project: Path) -> None:
    scanner = SecurityScanner(project, timeout_s=60)
    assert "no constraints.txt" in str(scanner.dependencies().gap)

    (project / "constraints.txt").write_text("a-package-that-nobody-ever-published==1.0\n")
    scan = scanner.dependencies()

    assert scan.findings == ()
    assert scan.gap is not None


def test_a_tool_that_takes_too_long_or_says_nothing_is_a_gap(project: Path) -> None:
    assert "was stopped after 0 s" in str(SecurityScanner(project, timeout_s=0.01).code().gap)

    (project / "src" / "shell.py").write_text("def broken(:\n")
    assert "src/shell.py" in str(SecurityScanner(project).code().gap)


def test_sarif_carries_rule_place_level_and_gaps() -> None:
    finding = Finding("bandit", "B602", Severity.HIGH, "shell", "src/a.py", 7)
    report = ScanReport("p", (Scan("bandit", "1", (finding,)), Scan("pip-audit", "", gap="absent")))
    [bandit, audit] = report.to_sarif()["runs"]

    [result] = bandit["results"]
    place = result["locations"][0]["physicalLocation"]
    assert (result["ruleId"], result["level"]) == ("B602", "error")
    assert place == {"artifactLocation": {"uri": "src/a.py"}, "region": {"startLine": 7}}
    assert bandit["invocations"][0]["executionSuccessful"]
    [notice] = audit["invocations"][0]["toolExecutionNotifications"]
    assert notice["message"]["text"] == "absent"
    assert not report.is_complete


def test_the_command_line_fails_on_what_it_found(project: Path, tmp_path: Path) -> None:
    sarif = tmp_path / "out.sarif"
    command = [sys.executable, "scripts/security_scanner.py", str(project), "--sarif", str(sarif)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "src/shell.py:3  bandit B602" in done.stdout
    assert json.loads(sarif.read_text())["version"] == "2.1.0"


def test_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError, match="nothing was scanned"):
        SecurityScanner(tmp_path / "absent")
