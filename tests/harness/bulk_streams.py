"""Much content at once through a mirror, from and to ends that cost little and hold nothing.

with FarEnd() as github, BlockingMirror({"github": {"api_url": github.url}}) as mirror:
    with Readers(mirror.url, 8), watched(mirror.pid) as seen:
        assert upload(mirror.url, count=10, size=20_000_000) == []
    print(seen.grown, seen.files)
"""

from __future__ import annotations

import contextlib
import gzip
import os
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

from attrs import define, field

#: Requested by clients that read nothing: JSON of 40 MB, which is 40 kB as gzip.
UNPACKED_BYTES: Final = 40_000_000
_PACKED: Final = gzip.compress(b'"%b"' % (b" " * UNPACKED_BYTES))
_DOWNLOAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n"
    b'ETag: "x"\r\nContent-Length: %d\r\n\r\n%b' % (len(_PACKED), _PACKED)
)
_TAKEN: Final = b"HTTP/1.1 201 Created\r\nContent-Length: 7\r\nConnection: close\r\n\r\nall of "
_PIECE: Final = memoryview(bytes(1 << 18))
_LOOK_S: Final = 0.05
_END: Final = b"\r\n\r\n"


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


@define(eq=False)
class _Taking:
    """One connection of the far end: the received fields, then the content that is left."""

    head: bytes = b""
    left: int | None = None


class FarEnd:
    """A stand-in for GitHub, in a thread: accepts content of any size, serves a large one."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=1000)
        self._listening.setblocking(False)
        self._ends, self._end = socket.socketpair()
        self._buffer = bytearray(1 << 18)
        self._selector = selectors.DefaultSelector()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        #: Requests whose content was received completely.
        self.taken = 0

    def __enter__(self) -> Self:
        self._selector.register(self._listening, selectors.EVENT_READ)
        self._selector.register(self._ends, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._end.send(b"x")
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()
        self._end.close()

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                end = key.fileobj
                assert isinstance(end, socket.socket)
                if end is self._ends:
                    return
                if end is self._listening:
                    connection, _ = end.accept()
                    connection.setblocking(False)
                    self._selector.register(connection, selectors.EVENT_READ, _Taking())
                elif not self._take(end, key.data):
                    self._selector.unregister(end)
                    end.close()

    def _take(self, end: socket.socket, taking: _Taking) -> bool:
        """Process received bytes; return whether there may be more."""
        try:
            size = end.recv_into(self._buffer)
        except OSError:
            return False
        if not size:
            return False
        if taking.left is None:
            taking.head += self._buffer[:size]
            if _END not in taking.head:
                return True
            head, _, content = taking.head.partition(_END)
            taking.head = b""
            if head.startswith(b"GET "):
                end.setblocking(True)
                end.sendall(_DOWNLOAD)
                end.setblocking(False)
                return True
            taking.left = int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0])
            size = len(content)
        taking.left -= size
        if taking.left:
            return True
        self.taken += 1
        end.sendall(_TAKEN)
        return False


def upload(url: str, *, count: int, size: int, fields: bytes = b"") -> list[bytes]:
    """Send simultaneous requests with content; return the responses that are not 201.

    Each has a credential of its own.
    """
    selector, others = selectors.DefaultSelector(), []
    for number in range(count):
        end = socket.create_connection(("127.0.0.1", _port(url)))
        end.sendall(
            b"POST /repos/o/r/releases/1/assets HTTP/1.1\r\nHost: x\r\nUser-Agent: t\r\n%b"
            b"Authorization: token t%d\r\nContent-Length: %d\r\n\r\n" % (fields, number, size)
        )
        end.setblocking(False)
        selector.register(end, selectors.EVENT_WRITE, [size])
    with selector:
        while selector.get_map():
            for key, events in selector.select():
                end = key.fileobj  # type: ignore[assignment]
                if events & selectors.EVENT_WRITE:
                    key.data[0] -= _send(end, key.data[0])
                    if not key.data[0]:
                        selector.modify(end, selectors.EVENT_READ, key.data)
                else:
                    response = end.recv(1000)
                    if not response.startswith(b"HTTP/1.1 201 "):
                        others.append(response)
                    selector.unregister(end)
                    end.close()
    return others


def _send(end: socket.socket, left: int) -> int:
    """Send a part of the rest; return its size. After a refusal there is no rest."""
    try:
        return end.send(_PIECE[:left])
    except BlockingIOError:
        return 0
    except OSError:
        return left


class Readers:
    """Clients that request 40 MB and read nothing, as long as the ``with`` lasts."""

    def __init__(self, url: str, count: int) -> None:
        self._ends = []
        for number in range(count):
            end = socket.socket()
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            end.connect(("127.0.0.1", _port(url)))
            end.sendall(
                b"GET /large HTTP/1.1\r\nHost: x\r\nUser-Agent: t\r\n"
                b"Authorization: token r%d\r\n\r\n" % number
            )
            self._ends.append(end)

    def __enter__(self) -> Self:
        for end in self._ends:
            end.settimeout(60)
            begun = end.recv(12)
            assert begun == b"HTTP/1.1 200", begun
        return self

    def __exit__(self, *_exception: object) -> None:
        for end in self._ends:
            end.close()


@define(eq=False)
class Watched:
    """Observations of a process: the growth of its memory, and the files it opened."""

    before: int
    most: int = 0
    files: set[str] = field(factory=set)

    @property
    def grown(self) -> int:
        """By how much its memory grew at most."""
        return self.most - self.before


@contextlib.contextmanager
def watched(pid: int) -> Iterator[Watched]:
    """Watch a process; the observations are complete after the ``with``."""
    known = set(_files(pid))
    seen = Watched(_resident(pid))
    over = threading.Event()

    def look() -> None:
        while not over.wait(_LOOK_S):
            seen.most = max(seen.most, _resident(pid))
            seen.files |= set(_files(pid)) - known

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
        time.sleep(2 * _LOOK_S)  # what is there at the end is seen, too
    finally:
        over.set()
        thread.join()


def _resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _files(pid: int) -> Iterator[str]:
    """Return the open files of a process, deleted ones too; no sockets and pipes."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            target = str(link.readlink())
            if target.startswith("/") and not target.startswith("/dev/"):
                yield target
