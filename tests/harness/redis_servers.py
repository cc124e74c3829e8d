"""Real Redis servers for tests and benchmarks: start, kill, pause, send commands, remove."""

from __future__ import annotations

import contextlib
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Self, TypeAlias, cast

from attrs import define, field, frozen
from twisted.trial.unittest import TestCase

from tests.harness.certificates import Authority

READY = r"Ready to accept connections"
"""A server logs this when it accepts commands; a Sentinel logs ``READY_SENTINEL``."""

READY_SENTINEL = r"Sentinel ID is"

Argument: TypeAlias = str | bytes | int | float

_START_S = 60.0
_TIMEOUT_S = 60.0
_TRIES = 20
#: Below the ports of outgoing connections, so that a port stays free while its server is down;
#: the bus of a cluster, 10,000 above, too.
_PORTS = range(10000, 22000)


class RedisError(Exception):
    """An error reply of a server."""


class NotStartedError(Exception):
    """A server did not start; the text has its log."""


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that is free now."""
    while True:
        port = random.choice(_PORTS)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe, contextlib.suppress(OSError):
            probe.bind((host, port))
            return port


@define(eq=False)
class Client:
    """A minimal blocking client, for commands beside the mirror."""

    _socket: socket.socket
    _file: IO[bytes] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._socket.settimeout(_TIMEOUT_S)
        self._file = self._socket.makefile("rb")

    @classmethod
    def to(cls, where: tuple[str, int] | Path) -> Self:
        """Connect to an address, or to a UNIX socket."""
        if isinstance(where, Path):
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(str(where))
        else:
            connection = socket.create_connection(where)
        return cls(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def send(self, *parts: Argument) -> Any:
        """Send one command and return its reply, raising `RedisError` for an error."""
        encoded = [
            part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogateescape")
            for part in parts
        ]
        sent = b"*%d\r\n" % len(encoded)
        sent += b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in encoded)
        self._socket.sendall(sent)
        reply = self._reply()
        if isinstance(reply, RedisError):
            raise reply
        return reply

    def calls(self) -> dict[str, int]:
        """Return how often each command was executed since the last call."""
        info = self.send("INFO", "commandstats").decode()
        self.send("CONFIG", "RESETSTAT")
        found = re.findall(r"cmdstat_([a-z|]+):calls=(\d+)", info)
        return {name: int(calls) for name, calls in found}

    def reads(self) -> int:
        """Return how many times the server has read from a connection."""
        info = self.send("INFO", "stats").decode()
        (found,) = re.findall(r"total_reads_processed:(\d+)", info)
        return int(found)

    def _reply(self) -> Any:
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server closed the connection")
        kind, rest = line[:1], line[1:-2]
        match kind:
            case b"+":
                return rest
            case b"-":
                return RedisError(rest.decode(errors="replace"))
            case b":":
                return int(rest)
            case b"$":
                return None if rest == b"-1" else self._file.read(int(rest) + 2)[:-2]
            case b"*":
                return None if rest == b"-1" else [self._reply() for _ in range(int(rest))]
        raise ConnectionError(f"not RESP: {line!r}")


@define(eq=False)
class _Log:
    """The output of a server; a thread of its own reads it."""

    text: str = ""
    ended: bool = False
    _change: threading.Condition = field(factory=threading.Condition)

    def read(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                with self._change:
                    self.text += line.decode(errors="replace")
                    self._change.notify_all()
        with self._change:
            self.ended = True
            self._change.notify_all()

    def wait(self, pattern: str, timeout_s: float) -> bool:
        """Return whether the output matches before the server ends."""
        wanted = re.compile(pattern)
        with self._change:
            self._change.wait_for(lambda: wanted.search(self.text) or self.ended, timeout_s)
            return bool(wanted.search(self.text))


@frozen
class _Running:
    """One life of a server."""

    process: subprocess.Popen[bytes]
    log: _Log
    reader: threading.Thread

    @classmethod
    def start(cls, command: Sequence[str], folder: Path) -> Self:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        log = _Log()
        stream = cast("IO[bytes]", process.stdout)
        reader = threading.Thread(target=log.read, args=(stream,), daemon=True)
        reader.start()
        return cls(process, log, reader)

    def kill(self) -> None:
        """Kill it with SIGKILL, stopped or not, and wait for its end."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.reader.join()


def _clear_up(lives: list[_Running], folder: Path) -> None:
    for life in lives:
        life.kill()
    shutil.rmtree(folder, ignore_errors=True)


class RedisServer:
    """A redis-server (or a Sentinel) with a port and a directory of its own.

    *password*: of the default user. *users*: lines of an ACL file after ``user``, such as
    ``"mirror on >secret ~ghmirror:* +@all"``. *authority*: it speaks TLS, and only TLS, with a
    certificate by it for *names*. *options*: of its configuration, in order; names may repeat.
    *ready*: the message in its log after the start. It listens on a UNIX socket too.

    Usable in a ``with`` by blocking code; tests call `start_redis`.
    """

    def __init__(
        self,
        *,
        password: str | None = None,
        users: Sequence[str] = (),
        authority: Authority | None = None,
        names: tuple[str, ...] = ("127.0.0.1", "localhost"),
        maxmemory: str | None = None,
        replica_of: tuple[str, int] | None = None,
        host: str = "127.0.0.1",
        port: int | None = None,
        options: Sequence[tuple[str, str]] = (),
        sentinel: bool = False,
    ) -> None:
        self.host = host
        self.password = password
        self.directory = Path(tempfile.mkdtemp(prefix="redis-"))
        self.socket = self.directory / "s"
        self._chosen = port
        self.port = port or free_port(host)
        self._secure = authority is not None
        self._sentinel = sentinel
        self._ready = READY_SENTINEL if sentinel else READY
        given: list[tuple[str, str]] = [("bind", host), ("protected-mode", "no")]
        if not sentinel:
            given += [("unixsocket", str(self.socket)), ("save", '""'), ("appendonly", "no")]
        if authority is not None:
            paths = authority.issue(self.directory, names)
            given += [
                ("tls-cert-file", str(paths["certificate"])),
                ("tls-key-file", str(paths["key"])),
                ("tls-ca-cert-file", str(paths["authority"])),
                ("tls-auth-clients", "no"),
            ]
        if password is not None and not users:
            given.append(("requirepass", password))
        if users:
            default = f"user default on {f'>{password}' if password else 'nopass'} ~* &* +@all"
            acl = self.directory / "users.acl"
            acl.write_text("\n".join((default, *(f"user {line}" for line in users))) + "\n")
            given.append(("aclfile", str(acl)))
        if maxmemory is not None:
            given.append(("maxmemory", maxmemory))
        if replica_of is not None:
            given.append(("replicaof", f"{replica_of[0]} {replica_of[1]}"))
        self._options = [*given, *options]
        self._lives: list[_Running] = []
        self._finalizer = weakref.finalize(self, _clear_up, self._lives, self.directory)
        self.start()

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port

    @property
    def pid(self) -> int:
        return self.life.process.pid

    @property
    def log_text(self) -> str:
        """The output since the last start."""
        return self.life.log.text

    @property
    def life(self) -> _Running:
        return self._lives[-1]

    def start(self, *, wait: bool = True) -> None:
        """Start it on its port; return when it accepts commands, or at once."""
        for _ in range(_TRIES):
            self._lives[:] = [_Running.start(self._command(), self.directory)]
            if not wait or self.life.log.wait(self._ready, _START_S):
                return
            text = self.log_text
            self.kill()
            if self._chosen is not None or "Address already in use" not in text:
                break
            self.port = free_port(self.host)  # another process has bound it meanwhile
        raise NotStartedError(text)

    def _command(self) -> list[str]:
        ports = [("port", "0"), ("tls-port", str(self.port))]
        if not self._secure:
            ports = [("port", str(self.port))]
        config = self.directory / "redis.conf"
        if not self._sentinel or not config.exists():  # a Sentinel writes to its own
            lines = [f"{name} {value}" for name, value in (*ports, *self._options)]
            config.write_text("\n".join(lines) + "\n")
        return ["redis-server", str(config), *(["--sentinel"] if self._sentinel else [])]

    def wait_for(self, pattern: str, timeout_s: float = _START_S) -> None:
        """Return when its log matches a regular expression."""
        if not self.life.log.wait(pattern, timeout_s):
            raise NotStartedError(f"no {pattern!r} in the log:\n{self.log_text}")

    def kill(self) -> None:
        """Kill it with SIGKILL; its data is lost, except after SAVE."""
        self.life.kill()

    def restart(self, *, wait: bool = True) -> None:
        """Kill it if it runs, and start it on the same port; empty, except after SAVE."""
        self.kill()
        self.start(wait=wait)

    def pause(self) -> None:
        """Stop it (SIGSTOP): the kernel still accepts connections, which have no replies.

        Returns when it has stopped.
        """
        self.life.process.send_signal(signal.SIGSTOP)
        state = Path(f"/proc/{self.pid}/stat")
        while state.read_text().rpartition(")")[2].split()[0] != "T":
            pass

    def resume(self) -> None:
        """Continue it (SIGCONT)."""
        self.life.process.send_signal(signal.SIGCONT)

    def client(self) -> Client:
        """Return a connection of the default user through the UNIX socket."""
        client = Client.to(self.address if self._sentinel else self.socket)
        if self.password is not None:
            client.send("AUTH", self.password)
        return client

    def send(self, *parts: Argument) -> Any:
        """Send it one command, over a connection of its own, and return the reply."""
        with self.client() as client:
            return client.send(*parts)

    def remove(self) -> None:
        """End it and remove its directory; may be called again."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.remove()


def start_redis(test: TestCase, **options: Any) -> RedisServer:
    """Start a server that accepts commands; it is removed after the test."""
    server = RedisServer(**options)
    test.addCleanup(server.remove)
    return server
