from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from privacy_core.errors import InvalidParameter
from privacy_runtime.append_log import (
    GENESIS_HASH,
    AppendLog,
    RunRecordDamaged,
    RunRecordLocked,
    read_log,
)
from privacy_runtime.files import WriteFailed, errno_of, write_atomic


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_write_atomic_creates_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "state.bin"

    write_atomic(path, b"old")
    write_atomic(path, b"new content")

    assert path.read_bytes() == b"new content"
    assert os.listdir(tmp_path) == ["state.bin"]


def test_write_atomic_keeps_the_permissions_and_follows_a_link(tmp_path: Path) -> None:
    path, link = tmp_path / "state.bin", tmp_path / "link"
    path.write_bytes(b"old")
    path.chmod(0o600)
    link.symlink_to(path)

    write_atomic(link, b"new")

    assert link.is_symlink()
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


FILL_THE_DISK = """
    import resource, sys
    from privacy_runtime.append_log import AppendLog
    from privacy_runtime.files import WriteFailed, errno_of, write_atomic
    # A limit on file size makes the kernel refuse a write in the middle, as a full disk does.
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
"""


@pytest.mark.parametrize("old", [b"old", None])
def test_a_write_that_the_disk_refuses_leaves_the_old_file(
    tmp_path: Path, old: bytes | None
) -> None:
    path = tmp_path / "state.bin"
    if old is not None:
        path.write_bytes(old)
    code = (
        FILL_THE_DISK
        + """
    try:
        write_atomic(sys.argv[1], bytes(5000))
    except WriteFailed as error:
        print(error)
    """
    )

    said = run_python(code, str(path)).stdout

    assert "File too large" in said
    assert ("the old content is intact" if old else "no file was created") in said
    assert os.listdir(tmp_path) == (["state.bin"] if old else [])
    if old:
        assert path.read_bytes() == old


def test_a_directory_that_does_not_exist_is_a_failed_write(tmp_path: Path) -> None:
    with pytest.raises(WriteFailed, match="No such file or directory; no file was created"):
        write_atomic(tmp_path / "missing" / "state.bin", b"x")


def test_a_killed_writer_leaves_the_old_or_the_new_content(tmp_path: Path) -> None:
    path = tmp_path / "state.bin"
    write_atomic(path, b"\x00" * 2**20)
    code = """
    import sys
    from privacy_runtime.files import write_atomic
    print("ready", flush=True)
    while True:
        for byte in (b"\\x01", b"\\x02"):
            write_atomic(sys.argv[1], byte * 2**20)
    """
    seen = set()
    for attempt in range(5):
        writer = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), str(path)], stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.01 + 0.013 * attempt)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        content = path.read_bytes()
        seen.add(content[:1])

        assert len(content) == 2**20
        assert len(set(content)) == 1
    assert seen & {b"\x01", b"\x02"}


def test_entries_come_back_as_they_were_appended(tmp_path: Path) -> None:
    bodies = [{"step": 1, "epsilon": 0.1}, {"nested": {"ü": [1, None, True, "x"]}}, {}]
    with AppendLog(tmp_path / "log") as log:
        written = [log.append("step", body) for body in bodies]

        assert log.read() == written

    assert read_log(tmp_path / "log") == written
    assert [entry.body for entry in written] == bodies
    assert [entry.index for entry in written] == [0, 1, 2]
    assert written[0].prev_hash == GENESIS_HASH
    assert written[2].prev_hash == written[1].hash


def test_a_reopened_log_goes_on_where_it_stopped(tmp_path: Path) -> None:
    with AppendLog(tmp_path / "log") as log:
        assert log.head == GENESIS_HASH
        first = log.append("start", {"a": 1})
    with AppendLog(tmp_path / "log") as log:
        assert (log.head, len(log)) == (first.hash, 1)
        second = log.append("stop", {})

    assert second.prev_hash == first.hash
    assert len(read_log(tmp_path / "log")) == 2


def three_entries(path: Path) -> list[bytes]:
    with AppendLog(path) as log:
        for step in range(3):
            log.append("step", {"step": step, "note": "abc"})
    return path.read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize("left", [1, 20, -1])
def test_one_torn_last_line_is_left_out_and_cut_off_on_opening(tmp_path: Path, left: int) -> None:
    path = tmp_path / "log"
    lines = three_entries(path)
    path.write_bytes(b"".join(lines[:2]) + lines[2][:left])

    assert len(read_log(path)) == 2
    with AppendLog(path) as log:
        log.append("step", {"step": 2})

    assert [entry.body["step"] for entry in read_log(path)] == [0, 1, 2]


def test_zeros_left_by_a_power_cut_count_as_torn(tmp_path: Path) -> None:
    path = tmp_path / "log"
    three_entries(path)
    with path.open("ab") as file:
        file.write(bytes(100))

    assert len(read_log(path)) == 3


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda a, b, c: a + b.replace(b"abc", b"abd") + c, 2),
        (lambda a, b, c: a + c, 2),
        (lambda a, b, c: b + a + c, 1),
        (lambda a, b, c: a + b + b + c, 3),
        (lambda a, b, c: a + b[:30] + b"\n" + c, 2),
        (lambda a, b, c: a + b"\n" + b + c, 2),
        (lambda a, b, c: a + b + c.replace(b":2", b":3", 1), 3),
        (lambda a, b, c: a + b + c[:-1] + b" \n", 3),
        (lambda a, b, c: a + b + b"[]\n", 3),
        (lambda a, b, c: a + b + b"\xff\n", 3),
        (lambda a, b, c: a + b + b"[" * 100_000 + b"\n", 3),
        (lambda a, b, c: a + b + c.replace(b'{"body":{', b'{"body":{"x":NaN,'), 3),
    ],
)
def test_any_other_damage_is_refused_and_the_file_left_alone(tmp_path, damage, line) -> None:
    path = tmp_path / "log"
    damaged = damage(*three_entries(path))
    path.write_bytes(damaged)

    with pytest.raises(RunRecordDamaged, match=f"line {line}:") as caught:
        read_log(path)
    with pytest.raises(RunRecordDamaged):
        AppendLog(path)

    assert "abc" not in str(caught.value)
    assert path.read_bytes() == damaged
    path.unlink()
    AppendLog(path).close()  # the refused opening released its lock


def test_an_entry_rewritten_with_a_hash_of_its_own_breaks_the_chain_behind_it(
    tmp_path: Path,
) -> None:
    path, other = tmp_path / "log", tmp_path / "other"
    lines = three_entries(path)
    with AppendLog(other) as log:
        log.append("step", {"step": 0, "note": "abc"})
        log.append("step", {"step": 1, "note": "forged"})
    forged = other.read_bytes().splitlines(keepends=True)[1]
    path.write_bytes(lines[0] + forged + lines[2])

    with pytest.raises(RunRecordDamaged, match="line 3: does not follow"):
        read_log(path)


def test_an_entry_with_a_field_too_many_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log"
    lines = three_entries(path)
    entry = json.loads(lines[0])
    entry["extra"] = 1
    path.write_bytes(json.dumps(entry, sort_keys=True, separators=(",", ":")).encode() + b"\n")

    with pytest.raises(RunRecordDamaged, match="fields"):
        read_log(path)


@pytest.mark.parametrize(
    "body", [{"x": float("nan")}, {"x": float("inf")}, {"x": b"y"}, {1j: 1}, 7]
)
def test_a_body_that_json_cannot_hold_is_refused_and_nothing_appended(tmp_path, body) -> None:
    with AppendLog(tmp_path / "log") as log:
        with pytest.raises(InvalidParameter, match="body"):
            log.append("step", body)

        assert log.read() == []


def test_an_empty_type_and_a_body_without_end_are_refused(tmp_path: Path) -> None:
    with AppendLog(tmp_path / "log") as log:
        with pytest.raises(InvalidParameter, match="type"):
            log.append("", {})
        with pytest.raises(InvalidParameter, match="bytes"):
            log.append("step", {"x": "y" * 2**20})

        assert log.read() == []


def test_keys_that_json_turns_into_strings_are_stored_as_read_back(tmp_path: Path) -> None:
    with AppendLog(tmp_path / "log") as log:
        entry = log.append("step", {10: "a", 9: "b"})  # type: ignore[dict-item]  # the case

        assert log.read() == [entry]


def test_a_second_writer_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "log"
    code = """
    import sys
    from privacy_runtime.append_log import AppendLog, RunRecordLocked
    try:
        AppendLog(sys.argv[1]).append("x", {})
        print("appended")
    except RunRecordLocked as error:
        print("locked:", error)
    """
    with AppendLog(path) as log:
        with pytest.raises(RunRecordLocked):
            AppendLog(path)
        assert run_python(code, str(path)).stdout.startswith("locked:")
        log.append("y", {})

    assert run_python(code, str(path)).stdout == "appended\n"
    assert [entry.type for entry in read_log(path)] == ["y", "x"]


def test_a_closed_log_refuses(tmp_path: Path) -> None:
    log = AppendLog(tmp_path / "log")
    log.close()
    log.close()

    with pytest.raises(RunRecordLocked):
        log.append("x", {})


def test_a_forked_child_may_not_append_to_its_parents_log(tmp_path: Path) -> None:
    with AppendLog(tmp_path / "log") as log:
        child = os.fork()
        if child == 0:
            try:
                log.append("child", {})
            except RunRecordLocked:
                os._exit(7)
            finally:
                os._exit(8)
        _, status = os.waitpid(child, 0)
        log.append("parent", {})

    assert os.waitstatus_to_exitcode(status) == 7
    assert [entry.type for entry in read_log(tmp_path / "log")] == ["parent"]


def test_an_append_that_the_disk_refuses_leaves_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "log"
    code = (
        FILL_THE_DISK
        + """
    log = AppendLog(sys.argv[1])
    first = log.append("fits", {"x": "y" * 3000})
    try:
        log.append("does not fit", {"x": "y" * 3000})
    except WriteFailed as error:
        print(error)
    log.append("fits again", {})
    """
    )

    said = run_python(code, str(path)).stdout

    assert "File too large; nothing was appended, 1 entries are intact" in said
    assert [entry.type for entry in read_log(path)] == ["fits", "fits again"]
    assert path.read_bytes().endswith(b"\n")


def test_what_was_acknowledged_before_kill_9_is_read_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "log"
    code = """
    import sys
    from privacy_runtime.append_log import AppendLog
    with AppendLog(sys.argv[1]) as log:
        while True:
            print(log.append("step", {"step": len(log), "pad": "x" * 500}).index, flush=True)
    """
    expected_least = 0
    for attempt in range(5):
        writer = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), str(path)], stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        acknowledged = [int(writer.stdout.readline()) for _ in range(3 + 2 * attempt)]
        writer.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in writer.stdout if line.endswith(b"\n")]
        writer.wait()
        writer.stdout.close()

        entries = read_log(path)  # one more may be there: written, killed before it was said

        assert acknowledged[0] >= expected_least
        assert acknowledged[-1] + 1 <= len(entries) <= acknowledged[-1] + 2
        expected_least = len(entries)


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), errno.ENOSPC),
        (Exception("File too large (os error 27)"), errno.EFBIG),
        (RuntimeError("I/O error: No space left on device (os error 28)"), errno.ENOSPC),
        (ValueError("28"), None),
        (OSError("no number"), None),
    ],
)
def test_the_systems_error_is_known_by_its_number(error: Exception, number: int | None) -> None:
    assert errno_of(error) == number
