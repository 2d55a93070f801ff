"""The search for secrets in what tests log finds them where they are."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
from tests.planted import SENTENCES, Planted, see

from privacy_runtime.secret import Secret

ROOT = Path(__file__).parents[1]
LEAKS = {
    "stderr": "print(Secret('a-password-of-somebody').reveal(), file=sys.stderr)",
    "a log line": "logging.getLogger('privacy_runtime.x').warning('a-password-of-somebody')\n"
    "    Secret('a-password-of-somebody')",
    "a file": "(tmp_path / 'server.log').write_text(Secret('a-password-of-somebody').reveal())",
}


@pytest.mark.parametrize("place", LEAKS)
def test_a_test_that_shows_a_secret_fails(place: str, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "from tests.planted import _every_secret_is_planted, no_secret_is_logged\n"
    )
    (tmp_path / "test_leak.py").write_text(
        "import logging, sys\nfrom privacy_runtime.secret import Secret\n"
        f"def test_it(tmp_path):\n    {LEAKS[place]}\n"
        "def test_another():\n    print('nothing', file=sys.stderr)\n"
    )
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
    found = subprocess.run(
        [*words, "--rootdir", str(tmp_path), "-c", "/dev/null", str(tmp_path)],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip

    assert found.returncode == 1
    assert "a secret of 22 characters" in found.stdout
    assert "2 passed, 1 error" in found.stdout


def test_what_the_product_logs_of_a_secret_is_its_length(no_secret_is_logged: Planted) -> None:
    from privacy_runtime import logs

    secret = Secret("a-password-of-somebody")
    logs.logger("privacy_runtime.tests").warning("it came", password=secret.reveal())
    logging.getLogger("privacy_runtime.tests").warning("it came: %s", secret.reveal())

    assert len(no_secret_is_logged.records) == 2
    assert no_secret_is_logged.leaks() == []


def test_what_a_command_says_is_searched(no_secret_is_logged: Planted) -> None:
    see("stderr of a command", f"cannot read {SENTENCES[0]!r}")

    assert len(no_secret_is_logged.leaks()) == 1
    no_secret_is_logged.said.clear()
