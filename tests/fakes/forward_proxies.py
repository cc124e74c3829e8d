"""Forward proxies: a real one, tinyproxy, and one with scripted responses."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import Factory, ProcessProtocol, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.harness.redis_servers import free_port

reactor: Any = global_reactor

_READY = "Accepting connections"


class TinyProxy(ProcessProtocol):
    """A tinyproxy in a process of its own, which ends with the test."""

    def __init__(self, port: int, host: str, login: str) -> None:
        self.port = port
        self.url = f"http://{login}{'@' if login else ''}{host}:{port}"
        self.text = ""
        self.ended: Deferred[None] = Deferred()
        self._watchers: list[tuple[Callable[[], bool], Deferred[None]]] = []

    @property
    def targets(self) -> list[str]:
        """The target of each CONNECT request."""
        return re.findall(r"Request \(file descriptor [0-9]+\): CONNECT (\S+)", self.text)

    async def seen(self, condition: Callable[[], bool]) -> None:
        """Return when its output fulfils a condition."""
        if not condition():
            done: Deferred[None] = Deferred()
            self._watchers.append((condition, done))
            await done

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self.text += data.decode(errors="replace")
        watchers, self._watchers = self._watchers, []
        for condition, done in watchers:
            if condition():
                done.callback(None)
            else:
                self._watchers.append((condition, done))

    def processEnded(self, reason: Failure) -> None:
        watchers, self._watchers = self._watchers, []
        for _, done in watchers:
            done.errback(AssertionError(f"tinyproxy has ended:\n{self.text}"))
        self.ended.callback(None)


async def start_proxy(
    case: TestCase, login: str = "", *, host: str = "127.0.0.1", ports: Iterable[int] = ()
) -> TinyProxy:
    """Start one on a free port, for a *login* (user:password), to these *ports* (all)."""
    program = shutil.which("tinyproxy")
    assert program is not None, "tinyproxy is not installed; try `make test`"
    bare = host.strip("[]")
    port = free_port(bare)
    lines = [f"Port {port}", f"Listen {bare}", "MaxClients 100", "LogLevel Info"]
    lines += [f"BasicAuth {login.replace(':', ' ')}"] if login else []
    lines += [f"ConnectPort {each}" for each in ports]
    folder = Path(tempfile.mkdtemp(prefix="tinyproxy-"))
    case.addCleanup(shutil.rmtree, folder)
    path = folder / "tinyproxy.conf"
    path.write_text("\n".join(lines) + "\n")
    proxy = TinyProxy(port, host, login)
    process = reactor.spawnProcess(
        proxy, program, [program, "-d", "-c", str(path)], env={}, childFDs={0: "w", 1: "r", 2: "r"}
    )

    def stop() -> Deferred[None]:
        with contextlib.suppress(ProcessExitedAlready):
            process.signalProcess("KILL")
        return proxy.ended

    case.addCleanup(stop)
    await proxy.seen(lambda: _READY in proxy.text)
    return proxy


class Scripted(Factory):
    """A proxy that sends a fixed response to each CONNECT, and then disconnects if *hangs_up*.

    With an empty *response* it sends nothing.
    """

    noisy = False

    def __init__(self, response: bytes, *, hangs_up: bool = False) -> None:
        self.response = response
        self.hangs_up = hangs_up
        self.received: list[bytes] = []
        self.contacted: Deferred[None] = Deferred()
        self.disconnected: Deferred[None] = Deferred()
        self.url = ""

    def buildProtocol(self, addr: object) -> Protocol:
        made = _Scripted()
        made.factory = self
        return made


class _Scripted(Protocol):
    factory: Any

    def dataReceived(self, data: bytes) -> None:
        script: Scripted = self.factory
        script.received.append(data)
        assert self.transport is not None
        if script.response and data.startswith(b"CONNECT "):
            self.transport.write(script.response)
        if script.hangs_up:
            self.transport.loseConnection()
        if not script.contacted.called:
            script.contacted.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.factory.disconnected.called:
            self.factory.disconnected.callback(None)


def start_script(
    case: TestCase, response: bytes, *, hangs_up: bool = False, login: str = "user:hunter2"
) -> Scripted:
    """Start a scripted proxy on a free port."""
    script = Scripted(response, hangs_up=hangs_up)
    port = reactor.listenTCP(0, script, interface="127.0.0.1")
    case.addCleanup(port.stopListening)
    script.url = f"http://{login}@127.0.0.1:{port.getHost().port}"
    return script
