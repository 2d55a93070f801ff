"""The gateway beside LiteLLM's proxy: requests per CPU second, added latency, throughput.

    python benchmarks/router.py --json [--seconds 8] [--connections 32] [--rate 1000]
                                [--without-litellm] [--litellm-python PATH]

Both forward OpenAI chat completions (500 bytes) to four mock backends, each a process. Ours runs as
in a deployment: access tokens of an identity in SQLite, a durable debit of two accounts before each
request is forwarded and its settling afterwards (SQLite, every commit on the disk, group commit),
a hash-chained audit, metrics; one process. LiteLLM runs without a database, budgets, or logs, with
a master key, explicit prices and httptools, which is the fastest that was found.

`requests_per_cpu_second` counts the processor time of the router's whole process tree under a
closed loop (`wrk`, backends that answer at once); other programs disturb it least. `added_p99_ms`
is the 99th percentile through the router less that of asking a backend directly, in an open loop
of Poisson arrivals, timed from when each request was due, with backends that answer after 20 ms:
ours at `--rate`, LiteLLM at the 30 a second that it can follow.

LiteLLM is installed into a throw-away virtual environment, without version bounds that the index
at hand may not have; if that fails its figures are null and `litellm_missing` says why.
Needs `wrk` (Debian: wrk).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import router_parts as parts

LITELLM = "litellm==1.109.1"
LOOSE = ("certifi", "litellm-proxy-extras", "litellm-enterprise")
"""Requirements whose bounds need releases that an index may not have yet."""
LITELLM_RATE = 30.0
DELAY_S = 0.02
_REQUIREMENTS = """
import re, sys
from importlib.metadata import requires
from pip._vendor.packaging.requirements import Requirement
loose = set(sys.argv[1].split(","))
for line in requires("litellm"):
    one = Requirement(line)
    if one.marker and not one.marker.evaluate({"extra": "proxy"}):
        continue
    extras = "[" + ",".join(sorted(one.extras)) + "]" if one.extras else ""
    print(one.name + extras + ("" if one.name in loose else str(one.specifier)))
"""


def installed(folder: Path) -> Path:
    """Install LiteLLM's proxy; return the interpreter that has it."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", LITELLM], check=True, capture_output=True)
    wanted = subprocess.run(
        [python, "-c", _REQUIREMENTS, ",".join(LOOSE)], check=True, capture_output=True, text=True
    )
    (folder / "wanted.txt").write_text(wanted.stdout)
    subprocess.run(
        [*pip, "-r", str(folder / "wanted.txt"), "httptools"], check=True, capture_output=True
    )
    return python


@contextmanager
def litellm(python: Path, folder: Path, ports: Sequence[int]) -> Iterator[parts.Target]:
    """LiteLLM's proxy before the same backends."""
    key = "sk-" + secrets.token_hex(16)
    models = [
        {
            "model_name": parts.MODEL,
            "litellm_params": {
                "model": f"openai/{parts.MODEL}",
                "api_base": f"http://127.0.0.1:{port}/v1",
                "api_key": "none",
                "input_cost_per_token": 1e-6,
                "output_cost_per_token": 1e-6,
            },
        }
        for port in ports
    ]
    config = folder / "litellm.json"  # JSON is YAML
    config.write_text(
        json.dumps(
            {
                "model_list": models,
                "general_settings": {"master_key": key},
                "litellm_settings": {"telemetry": False, "num_retries": 0},
            }
        )
    )
    port = parts.free_port()
    command = [str(python.parent / "litellm"), "--config", str(config), "--host", "127.0.0.1"]
    offline = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    with parts.started(
        *command, "--port", str(port), log=folder / "litellm.log", env={**os.environ, **offline}
    ) as process:
        parts.wait_for(port, process, seconds=180)
        yield parts.Target(port, key, psutil.Process(process.pid))


def closed_loop(
    target: parts.Target, folder: Path, *, seconds: int, connections: int
) -> dict[str, float]:
    """Ask as fast as answers come."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise SystemExit("wrk is not installed")
    (folder / "body.json").write_bytes(parts.body())
    script = folder / "post.lua"
    script.write_text(
        'wrk.method = "POST"\n'
        'wrk.headers["content-type"] = "application/json"\n'
        'wrk.headers["authorization"] = "Bearer " .. os.getenv("ROUTER_TOKEN")\n'
        f'wrk.body = io.open("{folder / "body.json"}"):read("*a")\n'
    )
    url = f"http://127.0.0.1:{target.port}/v1/chat/completions"
    command = [wrk, "-t1", f"-c{connections}", "--latency", "--timeout", "30s", "-s", str(script)]
    env = {**os.environ, "ROUTER_TOKEN": target.token}
    for _ in range(8):  # imports and caches
        request = urllib.request.Request(
            url,
            data=parts.body(),
            headers={
                "content-type": "application/json",
                "authorization": f"Bearer {target.token}",
            },
        )
        with urllib.request.urlopen(request, timeout=180) as answer:  # noqa: S310
            answer.read()
    subprocess.run([*command, "-d2s", url], check=True, capture_output=True, env=env)
    before = target.cpu_s()
    done = subprocess.run(
        [*command, f"-d{seconds}s", url], check=True, capture_output=True, text=True, env=env
    )
    spent_s, text = target.cpu_s() - before, done.stdout
    count, rate = re.search(r"(\d+) requests in", text), re.search(r"Requests/sec:\s+(\S+)", text)
    late = re.search(r"99%\s+([\d.]+)(us|ms|s)", text)
    if (
        "Non-2xx" in text
        or "Socket errors" in text
        or not (count and rate and late and int(count[1]))
    ):
        raise SystemExit(f"not every request was answered:\n{text}")
    return {
        "requests_per_cpu_second": round(int(count[1]) / spent_s, 1),
        "cpu_us_per_request": round(spent_s / int(count[1]) * 1e6, 1),
        "requests_per_s": float(rate[1]),
        "p99_ms": float(late[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[late[2]],
        "memory_mb": round(target.process.memory_info().rss / 2**20, 1),
    }


def latencies(port: int, token: str, *, rate: float, seconds: float) -> dict[str, float]:
    """Percentiles in milliseconds of an open loop."""
    arrivals = parts.poisson(rate, seconds, seed=7)
    taken = asyncio.run(parts.open_loop(port, token, arrivals_s=arrivals, seeds=False))
    return {
        "p50_ms": float(np.nanpercentile(taken, 50) * 1e3),
        "p99_ms": float(np.nanpercentile(taken, 99) * 1e3),
        "unanswered": int(np.isnan(taken).sum()),
    }


def added(port: int, token: str, direct: int, *, rate: float, seconds: float) -> dict[str, Any]:
    """What a router adds, against a backend asked directly just before."""
    alone = latencies(direct, "", rate=rate, seconds=seconds)
    through = latencies(port, token, rate=rate, seconds=seconds)
    return {
        "rate_per_s": rate,
        "added_p50_ms": round(through["p50_ms"] - alone["p50_ms"], 2),
        "added_p99_ms": round(through["p99_ms"] - alone["p99_ms"], 2),
        "direct_p99_ms": round(alone["p99_ms"], 2),
        "unanswered": through["unanswered"],
    }


def measured(opened: Any, folder: Path, options: argparse.Namespace, rate: float) -> dict[str, Any]:
    """Both loads on a router, which `opened` starts before some backends."""
    folder.mkdir()
    with parts.mocks(4, folder) as ports, opened(folder, ports) as target:
        closed = closed_loop(
            target, folder, seconds=options.seconds, connections=options.connections
        )
    other = folder / "delayed"
    other.mkdir()
    with parts.mocks(4, other, draws=str(DELAY_S)) as ports, opened(other, ports) as target:
        found = added(target.port, target.token, ports[0], rate=rate, seconds=options.seconds)
    return {"closed_loop": closed, "open_loop": found}


def compared(options: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], str | None]:
    """LiteLLM's figures, or why there are none."""
    if options.without_litellm:
        return {}, "not asked for"
    try:
        python = options.litellm_python or installed(folder / "venv")
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or b"").decode(errors="replace").strip().splitlines()
        return {}, f"{LITELLM} cannot be installed: {lines[-1] if lines else error}"

    def opened(where: Path, ports: Sequence[int]) -> Any:
        return litellm(Path(python), where, ports)

    return measured(opened, folder / "litellm", options, LITELLM_RATE), None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document only")
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument("--without-litellm", action="store_true")
    parser.add_argument("--litellm-python", default="", help="one that has it already")
    parser.add_argument("--allowances", default="", help="a PostgreSQL URL in SQLite's place")
    options = parser.parse_args()
    given = {"allowances": options.allowances} if options.allowances else {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def ours(where: Path, ports: Sequence[int]) -> Any:
            return parts.gateway(where, ports, **given)

        found: dict[str, dict[str, Any]] = {
            "ours": measured(ours, folder / "ours", options, options.rate)
        }
        found["litellm"], missing = compared(options, folder)
    result: dict[str, Any] = {
        name: {who: one.get(place, {}).get(name) for who, one in found.items()}
        for name, place in (
            ("requests_per_cpu_second", "closed_loop"),
            ("added_p99_ms", "open_loop"),
            ("requests_per_s", "closed_loop"),
        )
    }
    rates = result["requests_per_cpu_second"]
    result |= {
        "cpu_ratio": rates["litellm"] and round(rates["ours"] / rates["litellm"], 1),
        "details": found,
        "litellm_missing": missing,
        "store": "postgres" if options.allowances else "sqlite",
        "load_average": os.getloadavg(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
    }
    print(json.dumps(result) if options.json else json.dumps(result, indent=2))


if __name__ == "__main__":
    sys.exit(main())
