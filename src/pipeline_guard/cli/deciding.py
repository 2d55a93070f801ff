"""`silence` and `promote`: what people decide. Both are written into the chain of events."""

from __future__ import annotations

import getpass
import os
from contextlib import closing
from datetime import timedelta
from typing import Annotated

import typer

from pipeline_guard.cli.asking import state_of
from pipeline_guard.cli.output import (
    ConfigFile,
    Json,
    config_path,
    faults_reported,
    say,
    say_json,
)
from pipeline_guard.config import Mode, read_config, seconds_of
from pipeline_guard.errors import ConfigurationError
from pipeline_guard.guard.events import Event, Happening
from pipeline_guard.guard.records import append, connect, transaction
from privacy_runtime.settings.faults import nearest, unknown
from privacy_runtime.world import SystemClock, SystemEntropy


def silence(
    scope: Annotated[str, typer.Argument(help="An alert, a check, a component, or '*'.")],
    for_: Annotated[str, typer.Option("--for", help="How long, such as 2h.")] = "1h",
    reason: Annotated[str, typer.Option(help="Why; others read it.")] = "",
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Page nobody about something for a while. Recoveries run all the same."""
    with faults_reported(as_json):
        span_s = seconds_of(for_)
        if not span_s:
            raise ConfigurationError(
                f"--for is {for_!r}, expected a duration such as 30m or 2h; nothing was silenced",
                {"parameter": "for", "value": for_, "constraint": "a duration above 0"},
            )
        now = SystemClock().now()
        until = now + timedelta(seconds=span_s)
        name = f"sil_{SystemEntropy().token_bytes(4).hex()}"
        text = f"{scope} until {until.isoformat(timespec='seconds')} by {_who()}: {reason or '-'}"
        event = Event(kind=Happening.SILENCED, at=now, text=text, data={"id": name})
        path = state_of(read_config(config_path(config)))
        with closing(connect(path)) as connection, transaction(connection):
            row = (name, scope, until.isoformat(), _who(), reason)
            connection.execute("INSERT INTO silences VALUES (?, ?, ?, ?, ?)", row)
            append(connection, [event], now.timestamp())
        document = {"id": name, "scope": scope, "until": until.isoformat()}
        say_json(document) if as_json else say(f"silenced {text}")


def promote(
    recovery: Annotated[str, typer.Argument(help="Its id: see pipeline-guard config check.")],
    to: Annotated[Mode, typer.Option(help="What it may do from now on.")] = Mode.ACT,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Let a recovery do more, or less: act, suggest, or observe.

    It never may more than the `mode` of the file. A guard that runs follows within seconds.
    """
    with faults_reported(as_json):
        found = read_config(config_path(config))
        names = [each.name for each in found.recoveries]
        if recovery not in names:
            words = f"there is no recovery {recovery!r}, expected one of {', '.join(names) or '-'}"
            raise ConfigurationError(
                unknown(words, nearest(recovery, names)) + "; nothing was changed",
                {"parameter": "recovery", "value": recovery, "constraint": "a recovery's id"},
            )
        now = SystemClock().now()
        text = f"{recovery} may {to.value}, says {_who()}"
        event = Event(kind=Happening.PROMOTED, at=now, text=text, recovery=recovery)
        with closing(connect(state_of(found))) as connection, transaction(connection):
            row = (recovery, to.value, now.isoformat(), _who())
            connection.execute("INSERT OR REPLACE INTO promotions VALUES (?, ?, ?, ?)", row)
            append(connection, [event], now.timestamp())
        order = list(Mode)
        held = found.mode is not None and order.index(found.mode) < order.index(to)
        note = f"; the file's mode is {found.mode}, so it may {found.mode}" if held else ""
        document = {"recovery": recovery, "mode": to.value, "is_held_by_file": held}
        say_json(document) if as_json else say(text + note)


def _who() -> str:
    return os.environ.get("SUDO_USER") or getpass.getuser()
