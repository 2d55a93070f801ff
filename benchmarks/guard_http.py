"""Metrics into the guard over HTTP: points per second, and per second of the server's processor.

    python benchmarks/guard_http.py --json [--requests 200] [--points 1000]

A real `pipeline-guard serve` in a process of its own; one client sends bodies of `--points` points,
one after the other on one connection, as JSON and in Prometheus' text format. Every body is
authorised, counted against the rate limit (1,000 requests a minute), checked, and recorded durably
before it is answered. `points_per_cpu_s` counts the processor time of the server alone, sealing
included: what one core takes in when nobody else needs it.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

from pipeline_guard.app.tokens import WRITE, Tokens
from pipeline_guard.config import HttpSettings
from privacy_runtime.secret import Secret
from privacy_runtime.world import SystemClock

KEY = "a-secret-of-this-benchmark-and-of-nobody-else-in-the-whole-world"
CLOCK = SystemClock()
KINDS = ("application/json", "text/plain")


def body_of(kind: str, points: int, number: int) -> bytes:
    """Of five hundred series in turn; every body has its own second."""
    at = CLOCK.now() - timedelta(hours=2) + timedelta(seconds=number)
    rows = []
    for place in range(points):
        labels = {"node": f"node-{place % 25}", "instance": str(place % 500)}
        value = 2 + (number * 37 + place * 101) % 1009 / 997
        if kind == "application/json":
            rows.append({"timestamp": at.isoformat(), "component": "training",
                         "metric_name": "loss", "value": value, "labels": labels})  # fmt: skip
        else:
            inside = ",".join(f'{name}="{text}"' for name, text in labels.items())
            stamp = round(at.timestamp() * 1000)
            rows.append(f'loss{{component="training",{inside}}} {value!r} {stamp}\n')
    text = json.dumps(rows) if kind == "application/json" else "".join(map(str, rows))
    return text.encode()


def cpu_s(process: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def answering(port: int) -> http.client.HTTPConnection:
    """A connection to the server, once it answers."""
    end_s = time.monotonic() + 120
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.request("GET", "/health/live")
            connection.getresponse().read()
        except OSError:
            connection.close()
            if time.monotonic() > end_s:
                raise
            time.sleep(0.1)
        else:
            return connection


def sent(port: int, process: int, token: str, kind: str, options: Any) -> dict[str, Any]:
    """Send all bodies of a kind, each made before its time is taken."""
    heads = {"Authorization": f"Bearer {token}", "Content-Type": kind}
    taken_s, cpu = [], 0.0
    with closing(answering(port)) as connection:
        for number in range(options.requests):
            body = body_of(kind, options.points, number)
            before, began = cpu_s(process), time.perf_counter()
            connection.request("POST", "/api/v1/metrics", body, heads)
            answer = connection.getresponse()
            said = answer.read()
            taken_s.append(time.perf_counter() - began)
            cpu += cpu_s(process) - before
            if answer.status != 202 or json.loads(said)["recorded"] != options.points:
                raise SystemExit(f"{answer.status}: {said!r}")
    count = options.requests * options.points
    return {
        "points": count,
        "points_per_s": round(count / sum(taken_s)),
        "points_per_cpu_s": round(count / cpu),
        "request_p50_ms": round(sorted(taken_s)[len(taken_s) // 2] * 1e3, 2),
        "request_max_ms": round(max(taken_s) * 1e3, 1),
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Serve, send, and stop."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    http_settings = {"enabled": True, "port": port, "jwt_key": "${GUARD_KEY}"}
    found: dict[str, Any] = {"load": [round(os.getloadavg()[0], 1)]}
    with tempfile.TemporaryDirectory() as place:
        config = Path(place) / "guard.yaml"
        store = {"path": f"{place}/guard.db", "metrics": f"{place}/metrics.db"}
        config.write_text(json.dumps({"version": 1, "http": http_settings, "store": store}))
        words = [sys.executable, "-m", "pipeline_guard.cli", "serve", "--config", str(config)]
        process = subprocess.Popen(words, env={**os.environ, "GUARD_KEY": KEY})
        try:
            answering(port).close()
            tokens = Tokens(HttpSettings(jwt_key=Secret(KEY)))
            token = tokens.issue("benchmark", frozenset({WRITE}), CLOCK.now(), timedelta(hours=1))
            for kind in KINDS:
                name = kind.partition("/")[2]
                found[name] = sent(port, process.pid, token, kind, options)
        finally:
            process.terminate()
            process.wait(30)
    found["load"].append(round(os.getloadavg()[0], 1))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document only")
    parser.add_argument("--requests", type=int, default=200, help="of each kind")
    parser.add_argument("--points", type=int, default=1000, help="of each request")
    options = parser.parse_args()
    found = measure(options)
    if options.json:
        print(json.dumps(found))
        return
    for part, figures in found.items():
        print(part, figures)


if __name__ == "__main__":
    main()
