"""`ghmirror top` shows the status document of a mirror, once or repeatedly."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from rich.console import Console
from rich.live import Live
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from ghmirror_tw.cli.admin_client import TIMEOUT_S, AdminAddress, StatusClient, admin_address
from ghmirror_tw.cli.command_errors import CommandError
from ghmirror_tw.cli.status_screen import Screen
from ghmirror_tw.cli.status_tables import sparkline, status_view
from ghmirror_tw.config.settings import Settings
from tests.harness.redis_servers import free_port
from tests.page.scene import Scene, StandIn, busy, mirror_of
from tests.unit.cli.command_process import Operator, finish, interrupt
from tests.unit.cli.silent_server import holding

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
ALONE, BACK = "\x1b[?1049h", "\x1b[?1049l"
TABLES = (
    *("Quota", "ms, last 5 min", "Users", " SHARE  What spends", "Limits", "Requests"),
    *("Quota left", "ms, last hour", "Store", " SHARE  Busiest"),
)


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    """A mirror that has been busy."""
    with StandIn() as github, mirror_of(github) as mirror:
        made = Scene(github, mirror)
        busy(made)
        yield made


@pytest.fixture
def url(scene: Scene) -> str:
    return scene.mirror.admin_url


def test_status_is_printed_as_lines(operator: Operator, scene: Scene, url: str) -> None:
    """Where there is no terminal: all the figures, as the mirror has them, without colours."""
    fields = scene.figures
    ended = operator.run("top", "--url", url)
    assert (ended.status, ended.err) == (0, "")
    assert "\x1b" not in ended.out
    lines = ended.out.splitlines()
    assert lines[0].startswith(f"{fields['replica']}: ready, version {fields['version']}, up ")
    for title in TABLES:
        assert any(line.startswith(title) for line in lines)
    words = [line.split() for line in lines]
    quota, requests = fields["quota"], fields["requests"]
    assert ["total", str(quota["saved"]), str(quota["spent"])] in [each[:3] for each in words]
    for name, count in requests["outcomes"].items():
        assert [name, str(fields["hour"]["outcomes"][name]), str(count)] in words
    for each in quota["users"]:
        assert [each["user"], str(each["saved"]), str(each["spent"])] in [w[:3] for w in words]
    assert ["user2", "primary", "search", "in"] in [each[:4] for each in words]
    assert ["user2", "search", "0", "of", "30", "in"] in [each[:6] for each in words]
    for busiest in fields["paths"]["busiest"]:
        assert any(line.endswith(f" {busiest['path']}") for line in lines)
    for paid in fields["paths"]["paid"]:
        assert any(line.endswith(f" {paid['operation']}") for line in lines)


def test_json_is_the_status_document(operator: Operator, scene: Scene, url: str) -> None:
    """Unchanged, for scripts; a slash at the end of the URL is permitted."""
    fields = operator.run("top", "--json", "--url", f"{url}/").json
    now = scene.figures
    assert fields.keys() == now.keys()
    for same in ("version", "replica", "pid", "started_at", "quota", "requests", "paths"):
        assert fields[same] == now[same]


def test_address_is_that_of_the_configuration(
    operator: Operator, scene: Scene, tmp_path: Path
) -> None:
    """By `admin_listen`, on a port or on a UNIX socket."""
    port, socket = free_port(), tmp_path / "admin.sock"
    ends = [f"unix:{socket}", f"tcp:{port}:interface=127.0.0.1"]
    with mirror_of(scene.github, {"server": {"admin_listen": ends}}) as mirror:
        pids = set()
        for listen in (*ends, "\n".join(ends)):
            operator.configure({"server": {"admin_listen": listen}})
            pids.add(operator.run("top", "--json").json["pid"])
        assert pids == {mirror.pid}


@pytest.mark.parametrize(
    ("listen", "where"),
    [
        ("tcp:8081:interface=127.0.0.1", "http://127.0.0.1:8081"),
        ("tcp:8081", "http://127.0.0.1:8081"),
        ("tcp:port=9:interface=0.0.0.0", "http://127.0.0.1:9"),
        ("tcp:interface=10.0.0.7:port=9", "http://10.0.0.7:9"),
        (r"tcp6:8081:interface=\:\:1", "http://[::1]:8081"),
        ("tcp6:8081", "http://[::1]:8081"),
        (r"unix:/run/a\:b", "unix:/run/a:b"),
        ("unix:address=/run/m.sock:mode=600", "unix:/run/m.sock"),
        ("ssl:8443:privateKey=k.pem", None),
        ("systemd:domain=INET:index=0", None),
        ("tcp:0", None),
        ("", None),
    ],
)
def test_address_of_admin_listen(listen: str, where: str | None) -> None:
    """As Twisted parses endpoints; where it has no address, the URL is required."""
    settings = Settings()
    object.__setattr__(settings.server, "admin_listen", (listen,) if listen else ())
    if where is None:
        with pytest.raises(CommandError) as caught:
            admin_address(None, settings)
        assert (caught.value.code, caught.value.status) == ("no-url", 2)
    else:
        assert admin_address(None, settings).name == where


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://mirror:8081", "http://mirror:8081"),
        ("https://mirror/admin/", "https://mirror/admin"),
        ("mirror:8081", "http://mirror:8081"),
        ("[::1]:8081", "http://[::1]:8081"),
        ("ftp://mirror", None),
        ("http://alice:hunter2@mirror", None),
        ("http://mirror:port", None),
        ("http://[mirror", None),
        ("http://mirror/?a=1", None),
        ("", None),
    ],
)
def test_url_is_parsed(given: str, url: str | None) -> None:
    """An invalid URL is refused, and not repeated."""
    if url is None:
        with pytest.raises(CommandError) as caught:
            admin_address(given, Settings())
        assert (caught.value.code, caught.value.status) == ("usage", 2)
        assert "hunter2" not in caught.value.message
    else:
        assert admin_address(given, Settings()).url == url


def test_unreachable_mirror(operator: Operator) -> None:
    """The error is one line with the address, and status 3."""
    url = f"http://127.0.0.1:{free_port()}"
    ended = operator.run("top", "--url", url)
    assert (ended.status, ended.out) == (3, "")
    line, _hint = ended.err.splitlines()
    assert line.startswith(f"error: {url}: the mirror cannot be reached: Connection was refused")
    assert operator.run("top", "--json", "--url", f"{url}").error[:2] == (3, "mirror")
    https = operator.run("top", "--json", "--url", url.replace("http:", "https:"))
    assert https.error[:2] == (3, "mirror")


class _Other(BaseHTTPRequestHandler):
    """Sends the same content for each request."""

    content = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("content", ["{}", "[]", "<html>", '{"version": "9.0", "at": []}'])
def test_response_of_another_program(operator: Operator, content: str) -> None:
    """Or one of another time: nothing is shown of it, and there is no traceback."""
    handler = type("Serving", (_Other,), {"content": content.encode()})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        ended = operator.run("top", "--url", f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
        thread.join()
    assert (ended.status, ended.out) == (3, "")
    assert len(ended.err.splitlines()) == 2  # with a hint
    assert "Traceback" not in ended.err


def test_another_server_is_no_mirror(operator: Operator, scene: Scene) -> None:
    """The message describes its response."""
    status, code, message = operator.run("top", "--json", "--url", scene.github.url).error
    assert (status, code) == (3, "mirror")
    assert "(status 4" in message


def test_a_name_that_the_mirror_does_not_expect() -> None:
    """The error names the option."""
    sent = StatusClient(Clock(), AdminAddress("http://mirror:8081"))
    with pytest.raises(CommandError, match=r"http://mirror:8081: .* \[server\] admin_hosts"):
        sent.parsed(421, b"{}")


def test_response_has_a_timeout() -> None:
    """A mirror that accepts the request and sends nothing is unavailable, too."""
    clock = Clock()
    sent = StatusClient(clock, AdminAddress("http://mirror"))
    cancelled: list[Any] = []

    class Silent:
        def request(self, *_: object) -> Deferred[Any]:
            return Deferred(cancelled.append)

    sent.agent = Silent()
    coming = Deferred.fromCoroutine(sent.fetch())
    failed: list[Any] = []
    coming.addErrback(failed.append)
    clock.advance(TIMEOUT_S)
    assert "no response within 10 s" in failed[0].value.message
    assert len(cancelled) == 1
    assert clock.getDelayedCalls() == []


def test_command_can_be_interrupted(operator: Operator) -> None:
    """At once, and without any other output."""
    with holding() as server:
        process = operator.start("top", "--url", f"http://127.0.0.1:{server.port}")
        server.held.wait()
        interrupt(process)
        ended = finish(process)
    assert (ended.status, ended.out, ended.err) == (130, "", "error: interrupted\n")


# On a terminal.


def test_screen_is_updated(operator: Operator, scene: Scene, url: str) -> None:
    """It changes with the mirror until Ctrl-C, and then leaves the terminal as it was."""
    arguments = ("top", "--url", url, "--interval", "0.5")
    with operator.terminal(*arguments, env={"COLUMNS": "160", "LINES": "70"}) as terminal:
        terminal.until("Busiest paths")
        scene.get("/something/without/earlier/request")
        terminal.until("/something/without/earlier/request")
        interrupt(terminal.process)
        ended = terminal.end()
    assert ended.status == 130
    assert ended.out.startswith((ALONE, HIDE))
    assert ended.out.rindex(BACK) > ended.out.rindex("Busiest paths")
    assert SHOW in ended.out[ended.out.rindex("Busiest paths") :]
    assert "interrupted" not in ended.out
    assert "Stopping" not in ended.out


def test_q_ends_it(operator: Operator, url: str) -> None:
    """With status 0, and the terminal echoes and edits lines again."""
    with operator.terminal("top", "--url", url) as terminal:
        before = terminal.mode
        terminal.until("Quota")
        terminal.press("x")
        terminal.press("q")
        ended = terminal.end()
        assert terminal.mode == before
    assert ended.status == 0
    assert BACK in ended.out
    assert SHOW in ended.out


def test_the_first_screen_has_what_matters(operator: Operator, url: str) -> None:
    """On 24 lines of 80 columns: state, limits, quota, latencies, users, and what spends it."""
    with operator.terminal("top", "--url", url, env={"COLUMNS": "80", "LINES": "24"}) as terminal:
        terminal.until("What spends the quota")
        terminal.press("q")
        shown = terminal.end().out
    for words in ("GitHub", "store", "1 in force: user2 primary search", "Quota", "ms, last 5 min"):
        assert words in shown
    assert "Busiest paths" not in shown


def test_a_narrow_screen_cuts_long_cells_alone(scene: Scene) -> None:
    """Labels and figures are complete; the reasons of failures use more lines."""
    fields = with_everything(scene)
    reason = "s3://bucket/ghmirror: writing: access is denied to the credentials in use (Denied)"
    fields["snapshots"]["save"]["error"] = reason
    fields["paths"]["paid"][0]["operation"] = "GET /repos/*/*" + "/contents" * 9
    shown = StringIO()
    console = Console(file=shown, width=80, height=40)
    with Live(console=console, auto_refresh=False) as live:
        Screen(live).show(status_view(fields), "", "")
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    for label in ("GitHub  ", "store  ", "rate limits  ", "snapshots    save failed: s3://bucket/"):
        assert any(line.startswith(label) for line in lines), label
    assert reason in " ".join(" ".join(lines).split())
    (paid,) = (line for line in lines if "/contents/contents" in line)
    assert re.fullmatch(r" *[0-9.]+ %  GET /repos/.+…", paid)


def test_a_reader_that_ends_early_is_no_error(operator: Operator, url: str) -> None:
    """As `head` does."""
    process = operator.start("top", "--url", url)
    assert process.stdout is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert (process.wait(60), process.stderr.read()) == (0, "")
    process.stderr.close()


def test_sigterm_restores_the_terminal(operator: Operator, url: str) -> None:
    """However it is ended."""
    with operator.terminal("top", "--url", url) as terminal:
        terminal.until("Quota")
        terminal.process.send_signal(signal.SIGTERM)
        ended = terminal.end()
    assert ended.status == 143
    assert BACK in ended.out


def test_last_status_is_shown_while_the_mirror_is_unreachable(
    operator: Operator, scene: Scene
) -> None:
    """Old figures are marked with their time; when the mirror is available, so are new ones."""
    listen = f"tcp:{free_port()}:interface=127.0.0.1"
    operator.configure({"server": {"admin_listen": listen}})
    sections = {"server": {"admin_listen": listen}}
    env = {"COLUMNS": "160", "LINES": "70"}
    with (
        mirror_of(scene.github, sections) as first,
        operator.terminal("top", "-n", "0.5", env=env) as terminal,
    ):
        terminal.until("none yet")
        first.stop()
        terminal.until("Not current: status of 20")
        with mirror_of(scene.github, sections) as second:
            Scene(scene.github, second).get("/user")
            terminal.until("/user")
            interrupt(terminal.process)
            assert terminal.end().status == 130


@pytest.mark.parametrize("how", ["--once", "dumb"])
def test_status_is_shown_once(operator: Operator, url: str, how: str) -> None:
    """With the option for it, and without a terminal, the output is lines."""
    more = ("--once",) if how == "--once" else ()
    env = {"TERM": "dumb" if how == "dumb" else "xterm"}
    ended = operator.on_terminal("top", "--url", url, *more, env=env)
    assert ended.status == 0
    assert "\x1b[?" not in ended.out
    assert "Busiest paths" in ended.out


def test_narrow_terminal_has_one_column(operator: Operator, url: str) -> None:
    """Nothing is left out but for want of lines."""
    env = {"COLUMNS": "60", "LINES": "120"}
    with operator.terminal("top", "--url", url, env=env) as terminal:
        terminal.until("Busiest paths")
        assert all(title.split("  ")[-1] in terminal.shown for title in TABLES)
        interrupt(terminal.process)
        assert terminal.end().status == 130


# The words.


def with_everything(scene: Scene) -> Any:
    """Return figures in which there is what seldom is."""
    fields = scene.figures
    at = fields["at"]
    fields["replica"], fields["state"] = "a\x1b[31m\nb", "degraded"
    fields["github"] |= {"available": False, "page": {"status": "major_outage", "at": at}}
    fields["store"] |= {
        "backend": "redis",
        "available": False,
        "breaker": {
            "reading": True,
            "writing": False,
            "fallback": True,
            "since": at - 125,
            "address": "redis.example:6379",
            "reason": "error reply OOM\x1b[31m",
        },
        "stores": [
            {
                "store": "redis",
                "bytes": None,
                "representations": None,
                "grants": None,
                "evictions": None,
            }
        ],
    }
    done = {"at": at - 90, "seconds": 1.0, "bytes": 5, "records": 2, "failures": 1}
    fields["snapshots"] = {
        "target": "file:///x",
        "interval": 900.0,
        "next_at": at + 60,
        "filling": True,
        "restoring": True,
        "foreign": 3,
        "foreign_option": "api_url",
        "save": {**done, "error": "file:///x: no space\x1b[31m"},
        "restore": {**done, "error": None},
    }
    fields["hour"]["minutes"] = [
        {"at": at - 7200, "outcomes": {"shared": 9}},
        {"at": at - 120, "outcomes": {"shared": 4}},
        {"at": at, "outcomes": {"shared": 2, "miss": 6}},
    ]
    fields["latencies"]["github"]["5m"] |= {"p50": 0.0055, "p90": 1.5}
    fields["quota"]["remaining"][0]["resets_at"] = at - 1
    fields["quota"]["users"] = [{"user": f"u{n}", "saved": 0, "spent": 0} for n in range(12)]
    return json.loads(json.dumps(fields))


def snapshots_of(fields: Any) -> list[str]:
    """Return the text of the first table about snapshots."""
    return [row[1] for row in status_view(fields).state.rows if row[0] == "snapshots"]


def state_of(fields: Any) -> dict[str, str]:
    """Return the rows of the table of that name."""
    view = status_view(fields)
    (rows,) = (each.rows for each in view.left if each.title == "Store")
    return {row[0]: row[1] for row in (*view.state.rows, *rows)}


@pytest.mark.parametrize("state", ["ready", "degraded", "stopping"])
def test_the_state_is_that_of_the_document(scene: Scene, state: str) -> None:
    """The headline has the word of the page and of `/status.json`."""
    fields = scene.figures
    fields["state"] = state
    assert f": {state}, version " in status_view(fields).headline


def test_failures_are_shown(scene: Scene) -> None:
    """Unavailable parts, failures, unknown values; none has control sequences of a terminal."""
    fields = with_everything(scene)
    assert status_view(fields).headline.startswith("a\\x1b[31m\\nb: degraded, version")
    state = state_of(fields)
    foreign = "3 snapshots not used: of another api_url"
    assert snapshots_of(fields) == ["save failed: file:///x: no space\\x1b[31m", foreign]
    fields["snapshots"]["save"]["error"] = None
    fields["snapshots"]["restore"]["error"] = "access is denied"
    failed = "restore failed: access is denied; nothing is saved until it succeeds"
    assert snapshots_of(fields) == [failed, foreign]
    fields["snapshots"]["restoring"] = False
    assert snapshots_of(fields) == ["restore failed: access is denied", foreign]
    fields["snapshots"]["restoring"] = True
    fields["snapshots"]["restore"]["error"], fields["snapshots"]["foreign"] = None, 0
    state = state_of(fields)
    why = "redis.example:6379: error reply OOM\\x1b[31m; for 2m5s"
    assert state == {
        "GitHub": "unavailable, stale responses are sent; status page: major_outage",
        "store": f"Redis read only, memory stands in for writing; {why}",
        "rate limits": state["rate limits"],
        "in redis": "-, - evicted",
        "saved": "1m30s ago, next after the restore",
        "restored": "in progress, 2 failures",
    }
    fields["store"]["breaker"] |= {"reading": False, "writing": False}
    assert state_of(fields)["store"] == f"Redis unavailable, memory stands in; {why}"
    fields["store"]["breaker"] |= {"address": None, "reason": "no primary", "since": None}
    fields["store"]["breaker"]["fallback"] = False
    assert state_of(fields)["store"] == "Redis unavailable, nothing is stored; no primary"
    fields["store"]["breaker"] |= {"reading": True, "writing": True}
    fields["github"] |= {"failures": 2, "reason": "503"}
    fields["snapshots"] |= {"filling": False, "restoring": False}
    assert state_of(fields)["saved"] == "1m30s ago, next in 1m"
    fields["snapshots"] |= {"next_at": None}
    state = state_of(fields)
    assert state["store"] == "Redis in use"
    assert "; 503; 2 failures in a row; " in state["GitHub"]
    assert state["saved"] == "1m30s ago, in progress"
    assert state["restored"] == "1m30s ago, 2 failures"


def test_a_line_shows_the_hour(scene: Scene) -> None:
    """A minute is a bar; what is older than an hour is none."""
    line = sparkline(with_everything(scene))
    assert len(line) == 60
    assert line[-3] == "▄"
    assert line[-1] == "█"
    assert not line[:-3].strip()


def test_a_quiet_mirror_has_an_empty_line(scene: Scene) -> None:
    """There is no highest minute then."""
    fields = with_everything(scene)
    fields["hour"]["minutes"] = []
    assert sparkline(fields) == " " * 60
