"""What importing costs and needs: nothing that a laptop on a train does not have."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
FACES = [
    "privacy_core",
    "privacy_core.accounting",
    "privacy_runtime",
    "privacy_finetuner",
    "privacy_finetuner.cli",
    "privacy_finetuner.training.plan",
    "privacy_finetuner.training.sampling",
]
MODULES = sorted(
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
    for path in SOURCE.rglob("*.py")
    if path.stem != "__main__"
)


def _python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"PATH": "/usr/bin:/bin"},
    )


@pytest.mark.parametrize("face", FACES)
def test_a_face_costs_no_torch(face: str) -> None:
    heavy = "{'torch', 'transformers', 'peft', 'datasets', 'matplotlib'}"
    done = _python(f"import sys, {face}; print(sorted({heavy} & set(sys.modules)))")

    assert done.stdout.strip() == "[]", done.stderr


def test_every_module_imports_without_network_or_environment() -> None:
    block = (
        "import socket\n"
        "def refuse(*_): raise OSError('no network in this test')\n"
        "socket.socket.connect = refuse\n"
    )
    imports = "\n".join(f"import {module}" for module in MODULES)
    done = _python(block + imports)

    assert done.returncode == 0, done.stderr[-2000:]
