"""On a terminal there are bars and colours, elsewhere neither; Ctrl-C ends cleanly."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.fakes.s3 import ENVIRONMENT
from tests.harness.redis_servers import RedisServer
from tests.unit.cli.command_process import Operator, Terminal, description, finish, interrupt
from tests.unit.cli.silent_server import holding
from tests.unit.cli.snapshot_files import AT_MS, packed, put, some
from tests.unit.cli.test_save_and_restore import LEASES

ESCAPE = "\x1b"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


def put_two(kept: Path) -> None:
    put(kept, packed(some()))
    put(kept, b"", at_ms=AT_MS - 1)


def test_a_bar_is_drawn_and_wiped(operator: Operator, kept: Path) -> None:
    """While something is read; what stays are the results, and the cursor."""
    put_two(kept)
    ended = operator.on_terminal("snapshot", "verify")
    assert ended.status == 1
    assert "Verifying 1 of 2" in ended.out
    assert "━" in ended.out
    assert ended.out.count(HIDE) == ended.out.count(SHOW) == 2
    assert COLOUR.search(ended.out)
    assert "\x1b[32mwhole" in ended.out
    assert "\x1b[31mdamaged" in ended.out
    # the last control sequence of a bar erases its line
    for verdict in ("\x1b[32mwhole", "\x1b[31mdamaged"):
        assert f"\x1b[1A\x1b[2K{verdict}" in ended.out


def test_nothing_is_waited_for_for_ever() -> None:
    """A test that waits for missing output fails, and its message has the output so far."""
    ours, its = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen:
        command = ["sh", "-c", "echo only this; read -r answer"]
        with subprocess.Popen(command, stdin=its, stdout=its, text=True) as process:
            os.close(its)
            terminal = Terminal(process, screen)
            terminal.until("only this")
            terminal.limit_s = 0.1
            for wait in (lambda: terminal.until("never"), terminal.end):
                with pytest.raises(AssertionError, match=r"within 0\.1 s: 'only this"):
                    wait()
            process.kill()


def test_colours_can_be_disabled(operator: Operator, kept: Path) -> None:
    """NO_COLOR removes them, and nothing else."""
    put_two(kept)
    operator.more["NO_COLOR"] = "1"
    ended = operator.on_terminal("snapshot", "verify")
    assert "Verifying 1 of 2" in ended.out
    assert "whole    ghmirror-" in ended.out
    assert not set(COLOUR.findall(ended.out)) & {"\x1b[32m", "\x1b[31m"}
    assert not re.search(r"\x1b\[[0-9;]*3[0-9][0-9;]*m", ended.out)


def test_bars_can_be_disabled(operator: Operator, kept: Path) -> None:
    """Quiet, or on a terminal without cursor control, lines are printed one after another."""
    put_two(kept)
    operator.more["NO_COLOR"] = "1"
    ended = operator.on_terminal("snapshot", "verify", "--quiet")
    assert ESCAPE not in ended.out
    assert "Verifying" not in ended.out
    ended = operator.on_terminal("snapshot", "verify", env={"TERM": "dumb"})
    assert ESCAPE not in ended.out
    assert "Verifying 1 of 2 (" in ended.out


def test_a_long_list_is_not_paged(operator: Operator, kept: Path) -> None:
    """Nor wrapped: all is printed, and it ends, with any value of PAGER."""
    for number in range(60):
        put(kept, b"", owner="o" * 80, at_ms=AT_MS + number)
    pager = {"PAGER": "cat >/dev/null; false", "MANPAGER": "false"}
    ended = operator.on_terminal("snapshot", "list", env=pager)
    assert ended.status == 0
    assert len(ended.out.splitlines()) == 61
    assert all("ghmirror-" + "o" * 80 in line for line in ended.out.splitlines()[1:])


def test_elsewhere_there_is_no_trace_of_a_terminal(operator: Operator, kept: Path) -> None:
    """With any claim of the environment about the terminal."""
    put_two(kept)
    operator.more.update(TERM="xterm-256color", COLORTERM="truecolor")
    ended = operator.run("snapshot", "verify")
    assert ESCAPE not in ended.out + ended.err
    assert "\r" not in ended.out + ended.err


def test_json_on_a_terminal_is_json(operator: Operator, kept: Path) -> None:
    """The bars are printed before it, and are not in it."""
    put(kept, packed(some()))
    shown = operator.on_terminal("snapshot", "verify", "--json").out
    document = shown[shown.rindex("\r\n}") :]
    assert document.strip() == "}"
    assert ESCAPE not in shown[shown.rindex('{\r\n  "target"') :]


# Ctrl-C.

#: Requested when the first records have been read, and the snapshot has been begun.
LATER = b"{*}:g:*"


def test_it_can_be_ended_while_it_waits_for_redis(operator: Operator, kept: Path) -> None:
    """A server that accepts connections and sends nothing does not block the exit."""
    put(kept, packed(some()))
    with holding() as server:
        operator.configure(
            {"cache": {"backend": "redis"}, "redis": {"url": f"redis://127.0.0.1:{server.port}"}}
        )
        process = operator.start("snapshot", "restore", "--json")
        server.held.wait()
        interrupt(process)
        ended = finish(process)
    assert ended.error == (130, "interrupted", "interrupted")
    assert "Traceback" not in ended.err


def test_interruption_is_cleaned_up(operator: Operator, kept: Path, redis: RedisServer) -> None:
    """A partial snapshot is deleted, and the lease released: a mirror can make the next one."""
    put(kept, packed(some()))
    assert operator.run("snapshot", "restore").status == 0
    before = sorted(kept.iterdir())
    with holding(redis.address, LATER) as server:
        operator.configure({"redis": {"url": f"redis://127.0.0.1:{server.port}"}})
        process = operator.start("snapshot", "save")
        server.held.wait()
        assert redis.send("EXISTS", LEASES["save"])
        assert sorted(kept.iterdir()) != before
        interrupt(process)
        description(process, "Stopping")
        server.release()
        ended = finish(process)
    assert (ended.status, ended.out, ended.err) == (130, "", "error: interrupted\n")
    assert sorted(kept.iterdir()) == before
    assert not redis.send("EXISTS", LEASES["save"])


def test_the_cursor_is_restored_at_once(operator: Operator, kept: Path, redis: RedisServer) -> None:
    """After two interrupts, and of a dead process, the cursor is still visible."""
    put(kept, packed(some()))
    assert operator.run("snapshot", "restore").status == 0
    before = sorted(kept.iterdir())
    with holding(redis.address, LATER) as server:
        operator.configure({"redis": {"url": f"redis://127.0.0.1:{server.port}"}})
        with operator.terminal("snapshot", "save") as terminal:
            server.held.wait()
            terminal.until(HIDE)
            interrupt(terminal.process)
            terminal.until("Stopping")
            assert terminal.shown.index(SHOW) < terminal.shown.index("Stopping")
            server.release()
            assert terminal.end().status == 130
    assert sorted(kept.iterdir()) == before


def test_sigterm_is_handled_too(operator: Operator, kept: Path) -> None:
    """As at the end of a container; the status is that of the signal."""
    put(kept, packed(some()))
    with holding() as server:
        operator.configure(
            {"cache": {"backend": "redis"}, "redis": {"url": f"redis://127.0.0.1:{server.port}"}}
        )
        process = operator.start("snapshot", "save")
        server.held.wait()
        process.send_signal(signal.SIGTERM)
        ended = finish(process)
    assert (ended.status, ended.out) == (143, "")


def test_the_second_one_ends_it_at_once(operator: Operator) -> None:
    """Where a call to S3 is under way, which nothing can interrupt."""
    with holding() as server:
        operator.more.update(ENVIRONMENT)
        operator.configure(
            {
                "snapshot": {
                    "target": "s3://bucket/x",
                    "s3_endpoint_url": f"http://127.0.0.1:{server.port}",
                    "s3_region": "us-east-1",
                }
            }
        )
        process = operator.start("snapshot", "list")
        server.held.wait()
        interrupt(process)
        description(process, "Stopping; a second Ctrl-C ends the command")
        interrupt(process)
        ended = finish(process)
    assert ended.status == -signal.SIGINT
