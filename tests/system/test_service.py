"""A real twistd with a real configuration, and real signals."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.trial.unittest import TestCase

from ghmirror_tw import __version__
from ghmirror_tw.config.settings import OPTIONS, SECTIONS
from ghmirror_tw.wiring import service_parts, settings_reload
from tests.harness.certificates import Authority
from tests.harness.home import Raw, Received, fetch, open_github, open_home, reactor
from tests.harness.redis_servers import start_redis
from tests.harness.running import (
    ROOT,
    STOPPED,
    TWISTD,
    environment,
    ini,
    merged,
    start_mirror,
)

#: The token of an installation, in which it names its GitHub App.
INSTALLATION = "ghs_4711_eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOjQ3MTF9.c2lnbmF0dXJlLW9mLWl0"

#: Starts a mirror as twistd does, and sends SIGHUP to its own process after a step.
_STARTED_WITH_SIGHUP = """
import os, signal, sys
from twisted.internet import reactor
from ghmirror_tw.tap import Options, makeService

def done(step):
    if step == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGHUP)

def reload():
    print("reloaded")
    reactor.stop()

options = Options()
done("options")
options.parseOptions(["--config", sys.argv[1]])
done("settings")
service = makeService(options)
service.reread = reload
done("service")
service.startService()
done("start")
reactor.callLater(30, reactor.stop)
reactor.run()
"""


async def get(url: str, target: str = "/", token: str | None = None) -> Received:
    """GET a target of the server at *url*."""
    return await fetch("GET", int(url.rpartition(":")[2]), target, token=token)


class Service(TestCase):
    """The service that twistd runs."""

    async def test_service_serves_reports_and_exits_with_status_0(self) -> None:
        """The service serves, shows its status, logs no credential and exits with 0."""
        github = await open_github(self)
        sections = {"github": {"api_url": github.api_url}, "log": {"format": "json"}}
        mirror = await start_mirror(self, sections)
        for base in (mirror.url, mirror.admin_url):
            for path in ("/healthz", "/readyz"):
                assert (await get(base, path)).status == 200
        for _ in range(2):
            assert (await get(mirror.url, "/user", "alice-1")).json["login"] == "alice"
        await get(mirror.url, "/user?access_token=alice-2", "nobodys-secret")
        github.user("robot[bot]", tokens=[INSTALLATION])
        github.put("/thing", {"a": 1})
        await get(mirror.url, "/thing", INSTALLATION)
        shown = (await get(mirror.admin_url, "/metrics")).content.decode()
        assert 'ghmirror_quota_spent_total{user="alice"}' in shown
        assert (
            'ghmirror_requests_total{method="GET",outcome="revalidated",status="200"} 1.0' in shown
        )
        assert await mirror.stop() == STOPPED == 0
        log = mirror.log_text
        lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
        access = [line for line in lines if line.get("path") == "/user"]
        assert [line["outcome"] for line in access] == ["miss", "revalidated", "pass"]
        assert access[1]["user"] == "alice"
        (thing,) = [line for line in lines if line.get("path") == "/thing"]
        assert (thing["user"], thing["client"]) == ("app:4711", "127.0.0.1")
        assert (thing["bytes"], thing["upstream_status"]) == (len(b'{"a":1}'), 200)
        assert 0 < thing["upstream_ms"] <= thing["milliseconds"]
        hashed = hashlib.sha256(INSTALLATION.encode()).digest()
        assert thing["hashed_token"] == base64.b64encode(hashed).decode()
        assert thing["request_id"]
        assert thing["detail"] is None
        for secret in ("alice-1", "alice-2", "nobodys-secret", INSTALLATION):
            assert secret not in log
            assert secret not in shown

    async def test_sigterm_completes_requests_in_flight_before_exit(self) -> None:
        """After SIGTERM the service is unready, completes requests in flight, and exits with 0."""
        github = await open_github(self)
        github.put("/slow", {"a": 1})
        server = {"shutdown_delay": "1s", "shutdown_grace": "20s"}
        mirror = await start_mirror(self, {"github": {"api_url": github.api_url}, "server": server})
        barrier = github.hold("/slow")
        slow = fetch_later(mirror.url, "/slow")
        await barrier.arrived(1)
        mirror.signal(signal.SIGTERM)
        while (await get(mirror.url, "/readyz")).status == 200:
            pass
        assert (await get(mirror.url, "/zen")).status == 200
        await mirror.logged("Shutdown begun")
        barrier.open()
        got = await slow
        assert (got.status, got.json) == (200, {"a": 1})
        assert await mirror.stop() == STOPPED

    async def test_two_signals_at_once_stop_it_once(self) -> None:
        """As from make, which passes SIGTERM on to a process that has received it already."""
        mirror = await start_mirror(self, {})
        await get(mirror.url, "/healthz")
        for each in (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT):
            mirror.signal(each)
        await mirror.ended()
        assert "Stopped" in mirror.log_text
        assert "Traceback" not in mirror.log_text

    async def test_sigterm_lets_a_begun_request_complete(self) -> None:
        """A request that began before SIGTERM receives its response; idle connections close."""
        github = await open_github(self)
        mirror = await start_mirror(self, {"github": {"api_url": github.api_url}})
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", int(mirror.url.rpartition(":")[2]))
        sender = await connectProtocol(endpoint, Raw())
        transport: Any = sender.transport
        transport.write(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{")
        await get(mirror.url, "/healthz")
        mirror.signal(signal.SIGTERM)
        while await listens(mirror.url):
            pass
        transport.write(b"}")
        assert (await sender.ended).startswith(b"HTTP/1.1 403 ")  # GitHub's: it has no User-Agent
        assert await mirror.ended() == STOPPED

    async def test_sighup_reloads_the_list_of_users(self) -> None:
        """SIGHUP reloads the list of users; an invalid file changes nothing."""
        github = await open_github(self)
        mirror = await start_mirror(
            self,
            {"github": {"api_url": github.api_url}, "server": {"allowed_users": "alice"}},
        )
        assert (await get(mirror.url, "/zen", "bob-1")).status == 403
        text = mirror.config.read_text()
        mirror.config.write_text(text.replace("= alice", "= bob"))
        mirror.signal(signal.SIGHUP)
        await mirror.logged("Configuration reloaded")
        assert (await get(mirror.url, "/zen", "bob-1")).status == 200
        assert (await get(mirror.url, "/zen", "alice-1")).status == 403
        assert "Restart needed" not in mirror.log_text
        mirror.config.write_text(f"{mirror.config.read_text()}\n[cache]\nstale_limit = 1d\n")
        mirror.signal(signal.SIGHUP)
        await mirror.logged(r"Restart needed by changed options: options=\[cache\] stale_limit$")
        mirror.config.write_text("[server]\nlisten = nowhere\n")
        mirror.signal(signal.SIGHUP)
        await mirror.logged("Configuration not reloaded")
        assert (await get(mirror.url, "/zen", "bob-1")).status == 200

    async def test_sighup_reloads_the_certificate_authorities_of_redis(self) -> None:
        """New connections are verified with the new file, and open connections stay."""
        authority = Authority.new()
        server = start_redis(self, authority=authority)
        path = server.directory / "trusted.pem"
        path.write_text(Authority.new().pem)
        redis = {"url": f"rediss://127.0.0.1:{server.port}", "tls_ca_path": path, "pool_size": 1}
        mirror = await start_mirror(self, {"cache": {"backend": "redis"}, "redis": redis})
        await mirror.logged("certificate verify failed")
        path.write_text(authority.pem)
        mirror.signal(signal.SIGHUP)
        await mirror.logged(f"Redis available: address=127.0.0.1:{server.port}")
        path.write_text("nothing")
        mirror.signal(signal.SIGHUP)
        await mirror.logged(r"Configuration not reloaded: \[redis\] tls_ca_path: ")
        shown = (await get(mirror.admin_url, "/metrics")).content.decode()
        assert "ghmirror_store_available 1.0" in shown

    async def test_content_beyond_a_lower_limit_is_not_read_from_redis(self) -> None:
        """A replica whose `max_stored_size` is lower finds none, also after a reload."""
        github = await open_github(self)
        content = {"a": "x" * 2000}
        redis = {"url": f"redis://127.0.0.1:{start_redis(self).port}"}
        sections = {"github": {"api_url": github.api_url}, "redis": redis}
        cache = {"backend": "redis", "credential_secret": "s" * 32}
        lower_cache = {**cache, "max_stored_size": "1KiB"}
        higher = await start_mirror(self, {**sections, "cache": cache})
        lower = await start_mirror(self, {**sections, "cache": lower_cache})
        for mirror in (higher, lower):
            await mirror.logged("Redis available")
        for target in ("/one", "/two"):
            github.put(target, content)
            outcomes = []
            for mirror in (higher, higher, lower):
                got = await get(mirror.url, target, "alice-1")
                assert got.json == content
                outcomes.append(got.outcome.partition(";")[0])
            assert outcomes == ["fwd=uri-miss", "fwd=stale", "fwd=uri-miss"]
            lower.signal(signal.SIGHUP)
            await lower.logged("Configuration reloaded")

    async def test_sighup_reads_exactly_the_documented_options(self) -> None:
        """SIGHUP reads the options that are documented as reloadable, and no others."""
        home = await open_home(self)
        seen: set[tuple[str, str]] = set()
        settings = SimpleNamespace(
            **{name: _Noting(name, cls(), seen) for name, cls in SECTIONS.items()}
        )
        self.patch(settings_reload, "read_settings", lambda _: settings)
        self.patch(settings_reload, "changed_options", lambda *_: [])
        settings_reload.SettingsReload(None, home.parts).reload()
        assert seen == {
            (option.section, option.name) for option in OPTIONS if option.reread == "at SIGHUP"
        }

    async def test_sighup_while_the_mirror_starts_is_handled_once_it_runs(self) -> None:
        """It neither ends the process nor is it lost, whichever step it interrupts."""
        config = Path(self.mktemp())
        config.write_text(ini(merged({})))  # noqa: ASYNC240 - it is a few bytes
        environ = environment()
        for step in ("options", "settings", "service", "start"):
            command = [sys.executable, "-c", _STARTED_WITH_SIGHUP, str(config), step]
            ended = subprocess.run(  # noqa: ASYNC221 - nothing else runs
                command, env=environ, capture_output=True, text=True, timeout=60, check=False
            )
            assert (ended.returncode, ended.stdout) == (0, "reloaded\n"), (step, ended.stderr)

    async def test_sighup_lifts_no_restriction(self) -> None:
        """A file that is only half written may have no options yet."""
        alice = frozenset({"alice"})
        restricted = {"allowed_users": alice}, {"credential_secret": "a" * 32}
        home = await open_home(self, server=restricted[0], cache=restricted[1])
        credentials, options = home.parts.mirror.credentials, home.parts.mirror.options
        names, config = credentials.names, Path(self.mktemp())
        settings = settings_reload.SettingsReload(str(config), home.parts)
        users, secret = (
            "[server]\nallowed_users = bob\n",
            f"[cache]\ncredential_secret = {'b' * 32}\n",
        )
        for text in ("", users, secret):
            config.write_text(text)  # noqa: ASYNC240 - it is a few bytes
            settings.reload()
            assert (options.allowed_users, credentials.names) == (alice, names)
        config.write_text(users + secret)  # noqa: ASYNC240 - it is a few bytes
        settings.reload()
        assert options.allowed_users == frozenset({"bob"})
        assert credentials.names is not names

    async def test_only_a_new_secret_renames_credentials(self) -> None:
        """A reload with the same secret preserves the names of credentials."""
        home = await open_home(self)
        config = Path(self.mktemp())
        settings = settings_reload.SettingsReload(str(config), home.parts)
        given = []
        for secret in ("a", "a", "b", "b"):
            config.write_text(  # noqa: ASYNC240 - it is a few bytes
                f"[cache]\ncredential_secret = {secret * 32}\n"
            )
            settings.reload()
            given.append(home.parts.mirror.credentials.names)
        assert given[0] is given[1]
        assert given[1] is not given[2]
        assert given[2] is given[3]

    async def test_start_logs_addresses_and_versions(self) -> None:
        """The log shows the addresses and versions, and no lines of twistd itself."""
        mirror = await start_mirror(self, {})
        started = await mirror.logged("Started: ")
        assert f"Started: config={mirror.config} api_url=" in started
        urls = f'status={mirror.admin_url}/ try="curl {mirror.url}/zen"'
        assert started.endswith(f"store=memory snapshots=none {urls}")
        assert (await get(mirror.url, "/healthz")).status == 200
        assert await mirror.stop() == STOPPED
        assert "Stopped\n" in mirror.log_text
        for foreign in ("log_legacy", "reactor class", "starting up", "Server Shut Down"):
            assert foreign not in mirror.log_text

    async def test_tls_client_on_a_plain_port_is_refused_and_logged_once(self) -> None:
        """The client receives a plain HTTP error, and the log has the reason once."""
        mirror = await start_mirror(self, {})
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", int(mirror.url.rpartition(":")[2]))
        for _ in "12":
            sender = await connectProtocol(endpoint, Raw())
            transport: Any = sender.transport
            transport.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64))
            got = await sender.ended
            assert got.startswith(b"HTTP/1.1 400 ")
            assert b"plain HTTP" in got
        await mirror.stop()
        assert mirror.log_text.count("TLS handshake on a plain port") == 1

    async def test_failure_of_github_is_logged_with_its_cause(self) -> None:
        """The log has the reason and the text of the error."""
        mirror = await start_mirror(self, {})
        assert (await get(mirror.url, "/zen")).status == 502
        await mirror.logged(
            r"GitHub sent no usable response: method=GET path=/zen reason=connect-error"
            r" error=Connection was refused by"
        )


@frozen
class _Noting:
    """The settings of a section, which record the options that are read."""

    section: str
    settings: Any
    seen: set[tuple[str, str]]

    def __getattr__(self, name: str) -> Any:
        secret = name.removeprefix("current_").replace("credential_secrets", "credential_secret")
        names = (secret,) if secret == name else (secret, f"{secret}_path")
        self.seen.update((self.section, each) for each in names)
        return getattr(self.settings, name)


async def listens(url: str) -> bool:
    """Return whether a server accepts connections."""
    try:
        await get(url, "/healthz")
    except Exception:
        return False
    return True


def fetch_later(url: str, target: str) -> Deferred[Received]:
    """Begin to GET a target."""
    return Deferred.fromCoroutine(get(url, target))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run twistd until it ends by itself."""
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run(
            [TWISTD, "--nodaemon", "--pidfile=", "ghmirror", *arguments],
            cwd=folder,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def test_invalid_configuration_reports_all_faults(tmp_path: Path) -> None:
    """The process reports each fault and exits with 1."""
    path = tmp_path / "bad.ini"
    path.write_text("[server]\nlisten = nowhere\n[nonsense]\na = 1\n[github]\ntimeout = soon\n")
    ended = run("--config", str(path))
    assert ended.returncode == 1
    for part in ("[server] listen:", "[nonsense]", "[github] timeout:"):
        assert part in ended.stderr
    assert "Traceback" not in ended.stderr


def test_usage_error_where_the_path_has_a_space(tmp_path: Path) -> None:
    """There pip's script begins with a line for the shell, which Python reads as its docstring."""
    script = tmp_path / "twistd"
    script.write_text(
        f"#!/bin/sh\n'''exec' \"{sys.executable}\" \"$0\" \"$@\"\n' '''\n"
        "from twisted.scripts.twistd import run\nrun()\n"
    )
    ended = subprocess.run(
        ["sh", str(script), "--nodaemon", "--pidfile=", "ghmirror", "--nonsense"],
        cwd=tmp_path,
        env=environment({"PYTHONPATH": str(ROOT)}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "exec" not in ended.stdout + ended.stderr
    assert "conf/ghmirror.ini" in ended.stdout
    assert ended.stdout.endswith("option --nonsense not recognized\n")


def test_version_is_that_of_the_mirror() -> None:
    """`twistd ghmirror --version` is not Twisted's version."""
    assert run("--version").stdout == f"ghmirror {__version__}\n"


def test_port_in_use_is_reported_in_one_line(tmp_path: Path) -> None:
    """An occupied port of either listener is reported in one line, with exit status 1."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        free = "tcp:0:interface=127.0.0.1"
        for listen, admin, what in ((busy, free, "listening"), (free, busy, "admin listening")):
            path = tmp_path / "busy.ini"
            path.write_text(f"[server]\nlisten = {listen}\nadmin_listen = {admin}\n")
            ended = run("--config", str(path))
            assert ended.returncode == 1
            assert f"Not {what} on {busy}" in ended.stdout
            assert "Address already in use" in ended.stdout
            option = "listen" if what == "listening" else "admin_listen"
            assert f"change [server] {option}, or GHMIRROR_SERVER_{option.upper()}" in ended.stdout
            assert "Traceback" not in ended.stdout + ended.stderr


def test_daemon_with_a_port_in_use_exits_with_status_1(tmp_path: Path) -> None:
    """The daemon exits at once, and its log has the reason."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        path = tmp_path / "busy.ini"
        busy = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        path.write_text(f"[server]\nlisten = {busy}\nadmin_listen =\n")
        ended = subprocess.run(
            [TWISTD, "ghmirror", "--config", str(path)],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert ended.returncode == 1
    assert "Couldn't listen on" in ended.stderr  # twistd cuts it short
    assert f"Not listening on {busy}" in (tmp_path / "twistd.log").read_text()
    assert not (tmp_path / "twistd.pid").exists()


def test_log_is_written_where_twistd_writes_it(tmp_path: Path) -> None:
    """The log is in --logfile, in twistd.log of a daemon, or on stdout."""
    path = tmp_path / "mirror.log"
    assert service_parts.log_stream(reactor, {"nodaemon": True, "logfile": None}) is sys.stdout
    assert service_parts.log_stream(reactor, {"nodaemon": True, "logfile": "-"}) is sys.stdout
    with pytest.raises(SystemExit):
        service_parts.log_stream(reactor, {"nodaemon": False, "logfile": "-"})
    before = signal.getsignal(signal.SIGUSR1)
    try:
        for nodaemon in (True, False):
            file = service_parts.log_stream(reactor, {"nodaemon": nodaemon, "logfile": str(path)})
            assert file.path == str(path)
            file.close()
        with contextlib.chdir(tmp_path):
            service_parts.log_stream(reactor, {"nodaemon": False, "logfile": None}).close()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert (tmp_path / "twistd.log").exists()


def test_authority_file_without_certificates_is_a_fault(tmp_path: Path) -> None:
    """A file without certificates is a fault of the configuration."""
    pem, path = tmp_path / "ca.pem", tmp_path / "bad.ini"
    pem.write_text("nothing")
    path.write_text(f"[github]\nca_path = {pem}\n")
    ended = run("--config", str(path))
    assert (ended.returncode, "[github] ca_path:" in ended.stderr) == (1, True)
