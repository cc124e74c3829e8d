"""Attacking clients, and a server in GitHub's place with harmful responses.

with BadServer() as github, BlockingMirror(sections(github.url)) as mirror:
    with Victim(mirror.url) as victim, watched(mirror.pid) as seen:
        ATTACKS["bombs"](mirror.url, 100)
    print(seen.grown, victim.failed)

An attack ends with all of its connections closed.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import random
import re
import socket
import socketserver
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self
from urllib.request import urlopen

from attrs import define, field, frozen

#: How large an unpacked bomb is, and stored content: near the largest that is stored.
BOMB_BYTES: Final = 250_000_000
STORED_BYTES: Final = 7_500_000
_SMALL: Final = json.dumps([{"n": n, "text": "x" * 100} for n in range(200)]).encode()
_PIECE: Final = bytes(64 * 1024)
_PAUSE_S: Final = 0.02
_TIMEOUT_S: Final = 60.0
_CLOSED: Final = (ConnectionError, TimeoutError)


def _bomb() -> bytes:
    """Return zeros in gzip, made without having them."""
    packs = zlib.compressobj(9, zlib.DEFLATED, 31)
    made = [packs.compress(bytes(1_000_000)) for _ in range(BOMB_BYTES // 1_000_000)]
    return b"".join((*made, packs.flush()))


def _stored(number: int, url: str) -> bytes:
    """Return JSON that compresses badly, with URLs of the server in it."""
    text = random.Random(number).randbytes(STORED_BYTES // 2).hex()
    items = [{"url": f"{url}/{n}", "text": text[n : n + 5000]} for n in range(0, len(text), 5000)]
    return json.dumps(items).encode()[:STORED_BYTES]


class _Serving(socketserver.StreamRequestHandler):
    server: BadServer

    def handle(self) -> None:
        with contextlib.suppress(*_CLOSED):
            while self._respond():
                pass

    def _respond(self) -> bool:
        line = self.rfile.readline()
        fields = {}
        while (field_line := self.rfile.readline()).strip():
            name, _, value = field_line.partition(b":")
            fields[name.strip().lower()] = value.strip()
        if not line:
            return False
        self.rfile.read(int(fields.get(b"content-length", 0)))
        path = line.split()[1].decode()
        path = path.partition("?")[0]
        kind = path.split("/")[1]
        if kind == "rate_limit" and b"made-up" not in fields.get(b"authorization", b""):
            kind = "small"  # the mirror checks whether a credential is valid
        if kind == "endless":
            self._endless()
        status, lines, content = self.server.response(kind, path)
        if b'"%b"' % path.encode() in fields.get(b"if-none-match", b""):
            status, content, lines = 304, b"", [each for each in lines if b"ETag" in each]
        head = [b"HTTP/1.1 %d x" % status, *lines, b"Content-Type: application/json"]
        if kind == "bomb" or status == 304:
            head += [] if status == 304 else [b"Transfer-Encoding: chunked"]
        else:
            head.append(b"Content-Length: %d" % len(content))
        self.wfile.write(b"\r\n".join(head) + b"\r\n\r\n")
        if kind == "bomb":
            self.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content))
        else:
            self.wfile.write(content)
        return True

    def _endless(self) -> None:
        """Send as long as the client reads."""
        self.wfile.write(b"HTTP/1.1 200 x\r\nContent-Type: text/plain\r\n")
        self.wfile.write(b"Transfer-Encoding: chunked\r\n\r\n")
        while True:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(_PIECE), _PIECE))


class BadServer(socketserver.ThreadingTCPServer):
    """A stand-in for GitHub: bombs, endless content, and large content, storable or not."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 1000

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Serving)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self._bomb = _bomb()
        self._members = 300_000 * gzip.compress(b"")
        self._large: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing: the mirror may close connections."""

    def large(self, name: str) -> bytes:
        """Return large content, the same each time, in gzip."""
        with self._lock:
            if name not in self._large:
                content = _stored(int(name), self.url)
                self._large[name] = gzip.compress(content, 1)
            return self._large[name]

    def response(self, kind: str, path: str) -> tuple[int, list[bytes], bytes]:
        """Return status, fields and content."""
        packed = b"Content-Encoding: gzip"
        etag = b'ETag: "%b"' % path.encode()
        if kind == "bomb":
            return 200, [packed], self._bomb
        if kind == "members":
            return 200, [packed], self._members
        if kind == "stored":
            return 200, [packed, etag], self.large(path.rpartition("/")[2])
        if kind == "unstored":
            return 404, [packed], self.large(path.rpartition("/")[2])
        if kind == "small":
            return 200, [etag], _SMALL
        return 401, [], b'{"message":"Bad credentials"}'


def sections(github: str) -> dict[str, dict[str, object]]:
    """Return how the mirror is set up: with nothing but its defaults where it matters."""
    return {
        "github": {"api_url": github, "points_per_minute": 0},
        "log": {"access": "none"},
    }


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


def connect(url: str) -> socket.socket:
    """Return a connection with a minimal receive buffer."""
    end = socket.socket()
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    end.settimeout(_TIMEOUT_S)
    end.connect(("127.0.0.1", _port(url)))
    return end


def get(target: str, *, token: str = "a", host: str = "x", coding: str = "gzip") -> bytes:
    """Return a GET."""
    return (
        f"GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: t\r\nAccept-Encoding: {coding}\r\n"
        f"Authorization: token {token}\r\n\r\n"
    ).encode()


def begin(url: str, requests: list[bytes]) -> tuple[list[socket.socket], list[int]]:
    """Send each on a connection of its own; return these, and the statuses, when all have one."""
    ends = []
    for request in requests:
        ends.append(end := connect(url))
        end.sendall(request)
    statuses = []
    for end in ends:
        try:
            line = end.recv(12)
            statuses.append(int(line[9:12] or 0))
        except _CLOSED:
            statuses.append(0)
    return ends, statuses


def close(ends: list[socket.socket]) -> None:
    """Abort connections."""
    for end in ends:
        with contextlib.suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        end.close()


def _unread(url: str, requests: list[bytes], hold_s: float = 1.0) -> list[int]:
    ends, statuses = begin(url, requests)
    time.sleep(hold_s)
    close(ends)
    return statuses


def bombs(url: str, count: int) -> list[int]:
    """Read nothing of content that unpacks to 250 MB; with and without gzip."""
    return _unread(
        url,
        [get(f"/bomb/{n}", coding=("gzip", "identity")[n % 2]) for n in range(count)],
    )


def members(url: str, count: int) -> list[int]:
    """Request gzip streams that consist of empty members."""
    return _unread(url, [get(f"/members/{n}", coding="identity") for n in range(count)])


def readers(url: str, count: int) -> list[int]:
    """Read nothing of one large stored content, all at once."""
    return _unread(
        url, [get("/stored/0", coding=("gzip", "identity")[n % 2]) for n in range(count)]
    )


def hosts(url: str, count: int) -> list[int]:
    """Read nothing of one large stored content, each by another name of the mirror."""
    return _unread(url, [get("/stored/0", host=f"mirror{n}") for n in range(count)])


def unstored(url: str, count: int) -> list[int]:
    """Read nothing of large content that cannot be stored, another one each."""
    return _unread(url, [get(f"/unstored/{n % 40}?{n}") for n in range(count)])


def aborts(url: str, count: int) -> list[int]:
    """Disconnect after the first bytes of stored, unstored and unpacked content, one by one."""
    kinds = ("/stored/0", "/unstored/1", "/bomb/1")
    statuses = []
    for n in range(count):
        statuses += _unread(url, [get(kinds[n % 3], coding=("gzip", "identity")[n % 2])], 0)
    return statuses


def endless(url: str, count: int) -> list[int]:
    """Read part of endless content, and disconnect."""
    ends, statuses = begin(url, [get(f"/endless/{n}", coding="identity") for n in range(count)])
    for _ in range(100):
        for end in ends:
            with contextlib.suppress(OSError):
                end.recv(4096)
    close(ends)
    return statuses


def _heads(url: str, count: int, fields: bytes) -> list[int]:
    """Send the head of a request without its end, on so many connections."""
    head = b"GET / HTTP/1.1\r\nHost: x\r\n" + fields
    ends = []
    for _ in range(count):
        ends.append(end := connect(url))
        with contextlib.suppress(OSError):
            end.sendall(head)
    time.sleep(1)  # for the mirror to have read it all
    close(ends)
    return []


def heads(url: str, count: int) -> list[int]:
    """Send 16 kB of as many fields as are accepted, and never end."""
    fields = b"".join(b"%x:1\r\n" % n for n in range(98))
    return _heads(url, count, fields + b"Long: " + b"x" * 15_000)


def fields(url: str, count: int) -> list[int]:
    """Send 16 kB of field lines of three bytes, of which too many are refused."""
    return _heads(url, count, 3_200 * b"x:1\r\n")


def uploads(url: str, count: int) -> list[int]:
    """Announce GraphQL of 1 MiB, send nearly all of it, and never end."""
    ends = []
    for n in range(count):
        ends.append(end := connect(url))
        token = b"" if n % 2 else b"Authorization: token made-up-%d\r\n" % n
        head = b"POST /graphql HTTP/1.1\r\nHost: x\r\nUser-Agent: t\r\nContent-Length: 1000000\r\n"
        end.settimeout(0.5)
        with contextlib.suppress(OSError):
            end.sendall(head + token + b"\r\n" + bytes(990_000))
    close(ends)
    return []


def tokens(url: str, count: int) -> list[int]:
    """Make up a token for each request."""
    statuses = []
    for start in range(0, count, 100):
        statuses += _unread(
            url, [get("/user", token=f"made-up-{n}") for n in range(start, start + 100)], 0
        )
    return statuses


def connections(url: str, count: int) -> list[int]:
    """Connect, and do nothing."""
    close([connect(url) for _ in range(count)])
    return []


#: By name: what is done, how often in a full run, and in a short one.
ATTACKS: Final[dict[str, tuple[Callable[[str, int], list[int]], int, int]]] = {
    "bombs": (bombs, 100, 8),
    "members": (members, 20, 2),
    "readers": (readers, 200, 20),
    "hosts": (hosts, 200, 4),
    "unstored": (unstored, 100, 5),
    "aborts": (aborts, 100, 12),
    "endless": (endless, 50, 8),
    "heads": (heads, 3000, 300),
    "fields": (fields, 3000, 300),
    "uploads": (uploads, 300, 30),
    "tokens": (tokens, 3000, 200),
    "connections": (connections, 3000, 300),
}


@define(eq=False)
class Victim:
    """A client that behaves, and waits a little after each response."""

    url: str
    seconds: list[float] = field(factory=list)
    failed: list[str] = field(factory=list)
    _over: threading.Event = field(factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._over.set()
        assert self._thread is not None
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(_PAUSE_S):
            began = time.monotonic()
            try:
                line = self.send()
            except OSError as error:
                line = repr(error)
            self.seconds.append(time.monotonic() - began)
            if not line.startswith("HTTP/1.1 200"):
                self.failed.append(line)

    def send(self) -> str:
        """Send a request; return how the response begins, when all of it is here."""
        request = get("/small/1", token="victim")
        received = b""
        with socket.create_connection(("127.0.0.1", _port(self.url)), _TIMEOUT_S) as end:
            end.sendall(request[:-2] + b"Connection: close\r\n\r\n")
            while piece := end.recv(65536):
                received += piece
        return received[:40].decode("latin-1")


@frozen
class Open:
    """The open files of a mirror's process, and the use of its budgets."""

    descriptors: int
    held: int


def opened(pid: int, url: str, admin_url: str) -> Open:
    """Count the resources of a mirror; persistent connections to GitHub are not counted."""
    inodes, descriptors = set(), 0
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found = re.fullmatch(r"socket:\[(\d+)\]", str(path.readlink()))
            if found:
                inodes.add(found[1])
            else:
                descriptors += 1
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        parts = line.split()
        descriptors += int(parts[1].split(":")[1], 16) == _port(url) and parts[9] in inodes
    with urlopen(f"{admin_url}/metrics") as response:
        shown = response.read().decode()
    held = re.findall(r"^ghmirror_content_bytes\{[^}]*\} (\S+)$", shown, re.MULTILINE)
    return Open(descriptors, int(sum(map(float, held))))


def settled(pid: int, url: str, admin_url: str, before: Open, timeout_s: float = 20.0) -> Open:
    """Return the open files when an attack has left nothing, or after *timeout_s*."""
    end = time.monotonic() + timeout_s
    while True:
        now = opened(pid, url, admin_url)
        if now.held == 0 and now.descriptors <= before.descriptors:
            return now
        if time.monotonic() > end:
            return now
        time.sleep(_PAUSE_S)


def resident(pid: int) -> int:
    """Return how much memory a process has, in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
