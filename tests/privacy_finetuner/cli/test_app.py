from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from privacy_finetuner import __version__

COMMANDS = [
    [], ["train"], ["evaluate"], ["generate"], ["report"], ["version"], ["accountant"],
    ["accountant", "epsilon"], ["accountant", "noise"], ["accountant", "compare"],
]  # fmt: skip


def run_main(*arguments: str, after: str = "") -> subprocess.CompletedProcess[str]:
    code = (
        "import sys\n"
        "from privacy_finetuner.cli import main\n"
        f"sys.argv = ['privacy-finetuner', *{list(arguments)!r}]\n"
        f"try:\n    main()\nfinally:\n    {after or 'pass'}\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_help_has_an_example(cli: Any, command: list[str]) -> None:
    result = cli(*command, "--help")

    assert result.exit_code == 0
    assert "privacy-finetuner" in result.output


def test_version_as_json(cli: Any) -> None:
    assert cli.document("version")["version"] == __version__


def test_the_accountant_starts_without_torch() -> None:
    done = run_main(
        "accountant", "epsilon", "--noise-multiplier", "1", "--sample-rate", "0.1", "--steps", "3",
        "--delta", "1e-5", "--json",
        after="heavy = {'torch', 'transformers', 'matplotlib'} & set(sys.modules); "
        "sys.stderr.write(repr(heavy))",
    )  # fmt: skip

    assert done.returncode == 0
    assert done.stderr == "set()"
    assert json.loads(done.stdout)["steps"] == 3


def test_a_misused_option_is_a_document_with_json() -> None:
    done = run_main("accountant", "epsilon", "--noise-multiplier", "1", "--json")

    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "usage_error"


def test_a_refusal_keeps_its_exit_code_with_json() -> None:
    done = run_main(
        "accountant", "epsilon", "--noise-multiplier", "0", "--sample-rate", "0.1", "--steps", "3",
        "--delta", "1e-5", "--json",
    )  # fmt: skip

    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "invalid_parameter"
    assert "Traceback" not in done.stderr
