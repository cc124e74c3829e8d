"""A server that is there, and silent when it matters; in a thread of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from attrs import define, field


@define(eq=False)
class Holding:
    """Takes connections, and passes on what comes to *target* until it has *word* in it.

    From then on nothing more gets through, until `release`; without a target nothing ever does.
    """

    target: tuple[str, int] | None
    word: bytes
    port: int = 0
    held: threading.Event = field(factory=threading.Event)
    _released: threading.Event = field(factory=threading.Event)
    _ended: threading.Event = field(factory=threading.Event)
    _open: list[socket.socket] = field(factory=list)

    def release(self) -> None:
        """Forward the held data, and all later data."""
        self._released.set()

    def serve(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            if self._ended.is_set():
                connection.close()
                continue
            self._open.append(connection)
            threading.Thread(target=self._link, args=(connection,), daemon=True).start()

    def _link(self, connection: socket.socket) -> None:
        if self.target is None:
            self.held.set()
            return
        server = socket.create_connection(self.target)
        self._open.append(server)
        threading.Thread(target=self._pump, args=(server, connection), daemon=True).start()
        self._pump(connection, server, self.word)

    def _pump(self, source: socket.socket, sink: socket.socket, word: bytes | None = None) -> None:
        with suppress(OSError):
            while piece := source.recv(65536):
                if word is not None and word in piece and not self._released.is_set():
                    self.held.set()
                    self._released.wait()
                sink.sendall(piece)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def end(self) -> None:
        """Close all, after any outcome."""
        self._ended.set()
        self._released.set()
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextmanager
def holding(target: tuple[str, int] | None = None, word: bytes = b"") -> Iterator[Holding]:
    """Listen on a port of its own until the end of the ``with``."""
    listening = socket.create_server(("127.0.0.1", 0))
    made = Holding(target, word, listening.getsockname()[1])
    serving = threading.Thread(target=made.serve, args=(listening,), daemon=True)
    serving.start()
    try:
        yield made
    finally:
        made.end()
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        serving.join()
