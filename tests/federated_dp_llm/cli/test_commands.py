"""The command line: pages without a model, results on stdout, exit codes that say what failed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from federated_dp_llm.cli.entry import COMMANDS, application, main
from federated_dp_llm.cli.serve import secrets_of
from federated_dp_llm.config import KEYS, RouterConfig


def run(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Run a command in this process."""
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    said = capsys.readouterr()
    code = ended.value.code
    return (0 if code is None else int(str(code))), said.out, said.err


def test_the_page_that_lists_the_commands_loads_none_of_them() -> None:
    program = (
        "import sys\nfrom federated_dp_llm.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'fastapi', 'sqlalchemy', 'yaml', 'httpx2'} & set(sys.modules)\n"
        "sys.exit(str(sorted(heavy)) if heavy else 0)"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "serve" in done.stdout


def test_every_command_that_is_listed_can_be_loaded() -> None:
    whole = application(whole=True)
    names = {c.name for c in whole.registered_commands} | {g.name for g in whole.registered_groups}

    assert {"serve", "ask", "login", "budget", "nodes", "keys", "config"} <= names
    assert names <= set(COMMANDS)


def test_a_file_to_begin_with_is_valid_and_has_every_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "router.yaml"

    code, _, _ = run("config", "init", str(place), capsys=capsys)

    assert code == 0
    config = RouterConfig.read(place, variables={})
    text = place.read_text()
    assert all(f"{path.rpartition('.')[2]}:" in text for path in KEYS)
    assert config.privacy.delta == 1e-5
    assert run("config", "init", str(place), capsys=capsys)[0] == 2


def test_every_fault_of_a_file_is_told_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "router.yaml"
    place.write_text(
        "environment: production\nserver: {port: 0}\nprivacy: {delta: 2, epsilon: 1}\n"
        "nodes: {a: {endpoint: 'ftp://x'}}\n"
    )

    code, out, err = run("config", "check", str(place), "--json", capsys=capsys)

    assert code == 2
    assert json.loads(out)["error"]["code"] == "settings_refused"
    for fault in ("server.port", "privacy.delta", "privacy.epsilon", "endpoint"):
        assert fault in err


def test_the_shipped_configuration_is_valid() -> None:
    shipped = Path(__file__).parents[3] / "configs" / "router.yaml"

    config = RouterConfig.read(shipped, variables={})

    assert [node.node_id for node in config.nodes] == ["hospital_a", "hospital_b", "hospital_c"]
    assert config.department("front_desk") is not None
    assert config.department("no_such") is None
    assert config.may_ask_about("research", "cardiology")
    assert not config.may_ask_about("research", "emergency")


def test_a_variable_sets_a_key_and_a_misspelt_one_is_a_fault() -> None:
    config = RouterConfig.read(variables={"FEDERATED_DP_LLM_SERVER__PORT": "9091"})

    assert config.server.port == 9091
    with pytest.raises(ValueError, match="FEDERATED_DP_LLM_SERVER__PROT"):
        RouterConfig.read(variables={"FEDERATED_DP_LLM_SERVER__PROT": "1"})


@pytest.mark.parametrize(
    "sections",
    [
        {"security": {"authentication": "none"}},
        {
            "environment": "development",
            "security": {"authentication": "none"},
            "server": {"host": "0.0.0.0"},  # noqa: S104  what is refused
        },
        {"privacy": {"private_models": ["m"], "public_models": ["m"]}},
        {"privacy": {"epsilon_per_query": 5.0, "max_epsilon_per_query": 1.0}},
        {"server": {"certificate": "cert.pem"}},
    ],
)
def test_values_that_cannot_be_together_are_refused(sections: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="cannot be used"):
        RouterConfig.read(variables={}, **sections)


def test_a_signing_key_is_made_once_and_its_public_half_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "router-key.pem"

    code, out, _ = run("keys", "new", str(place), "--json", capsys=capsys)
    made = json.loads(out)

    assert code == 0
    assert place.stat().st_mode & 0o077 == 0
    assert run("keys", "new", str(place), capsys=capsys)[0] == 2
    _, out, _ = run("keys", "show", str(place), "--json", capsys=capsys)
    assert {**json.loads(out), "key": str(place)} == made


def test_passwords_are_not_taken_over_plain_http_from_other_machines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("serve", "--home", str(tmp_path), "--host", "0.0.0.0", "--json")  # noqa: S104

    code, out, _ = run(*words, capsys=capsys)

    assert code == 2
    assert "server.host" in json.loads(out)["error"]["message"]


def test_every_secret_of_a_configuration_is_kept_out_of_the_log() -> None:
    redis, slack = "redis://:quince@127.0.0.1/0", "https://hooks.example.org/T1/quince"

    config = RouterConfig.read(None, store={"redis": redis}, notices={"slack_url": slack})

    assert {secret.reveal() for secret in secrets_of(config)} == {redis, slack}


def test_asking_nobody_says_who_was_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDERATED_DP_LLM_TOKEN", "pf_x")
    words = ("ask", "a question", "--url", "http://127.0.0.1:9", "--json")

    code, out, _ = run(*words, capsys=capsys)

    assert code == 1
    assert json.loads(out)["error"]["code"] == "unreachable"


def test_asking_without_a_token_says_where_one_comes_from(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FEDERATED_DP_LLM_TOKEN", raising=False)

    code, _, err = run("ask", "a question", capsys=capsys)

    assert code == 2
    assert "login" in err
