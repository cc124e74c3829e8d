"""Sending on a socket at once, or at the end of a turn of the reactor, instead of in the next."""

from __future__ import annotations

from typing import Any, Final

from attrs import define, field
from twisted.internet.tcp import Connection

#: So many messages wait for the end of a turn at most: a turn that is long must not hold up all.
MAX_QUEUED: Final = 16
#: Where fewer answers or questions are under way, each message is sent at once.
SEVERAL: Final = 3
#: So much is worth a system call of its own, whenever it is there.
LARGE_BYTES: Final = 16 * 1024


def send_now(transport: Any, data: bytes) -> None:
    """Write *data*, and hand to the system at once what it takes of it.

    A transport's own `write` has the socket watched, sends in the next turn of the reactor, and
    has it watched no more: two system calls and a turn that a short message has no need of. What
    the system does not take goes to `write`, and so does everything where that would not be the
    same: where something is waiting to be sent already, the connection is being closed, there is
    TLS, or a producer waits to be asked for more.

    A connection that turns out to be lost ends as after any `write`: from the reactor, later. It
    meets the error again there, since a socket that has failed does not recover.
    """
    if _is_clear(transport):
        sent = transport.writeSomeData(data)
        if isinstance(sent, int) and sent > 0:
            if sent == len(data):
                return
            data = data[sent:]
    transport.write(data)


def _is_clear(transport: Any) -> bool:
    """Tell whether what is sent at once comes in its turn, and leaves nothing undone.

    These are the states of `twisted.internet.abstract.FileDescriptor`. A producer that is not
    streaming writes again only when the reactor has found the buffer empty after a `write`.
    """
    return (
        isinstance(transport, Connection)
        and not transport._tempDataBuffer  # noqa: SLF001
        and not transport.dataBuffer
        and bool(transport.connected)
        and not transport.disconnecting
        and not transport._writeDisconnecting  # noqa: SLF001
        and not transport._aborting  # noqa: SLF001
        and not transport.TLS
        and (transport.producer is None or bool(transport.streamingProducer))
    )


@define(eq=False)
class Outbox:
    """Sends short messages at the end of a turn of the reactor, one right after the other.

    Whoever waits for a message has to be woken when it comes, and what that takes is the sender's
    time: several times what the rest of sending does. Between two messages of one turn others are
    read and answered, and who was woken by the first has gone to sleep by the second. Sent in a
    row, they find him awake.

    A message waits in the transport's own buffer, so whatever is done with the transport in the
    meantime meets it there, as after any `write`.
    """

    _waiting: list[tuple[Any, bytes]] = field(factory=list, init=False)
    _called: bool = field(default=False, init=False)

    def send(self, transport: Any, data: bytes, among: int) -> None:
        """Send *data* at the end of this turn.

        It is sent at once, by `send_now`, where it is large, or where it is one of so few answers
        or questions under way, *among* which it is, that hardly two come in one turn.
        """
        if among < SEVERAL or len(data) >= LARGE_BYTES or not (data and _is_clear(transport)):
            send_now(transport, data)
            return
        transport._tempDataBuffer.append(data)  # noqa: SLF001
        transport._tempDataLen += len(data)  # noqa: SLF001
        self._waiting.append((transport, data))
        if len(self._waiting) >= MAX_QUEUED:
            self._send_all()
        elif not self._called:
            self._called = True
            transport.reactor.callLater(0, self._at_the_end)

    def holds(self, transport: Any) -> bool:
        """Tell whether there is something for *transport* that is still to be sent."""
        return any(each is transport for each, _ in self._waiting)

    def _at_the_end(self) -> None:
        self._called = False
        self._send_all()

    def _send_all(self) -> None:
        waiting = self._waiting
        while waiting:
            transport, data = waiting.pop(0)
            buffer = transport._tempDataBuffer  # noqa: SLF001
            # Else something was written behind it, for which the socket is watched, or all is sent.
            if len(buffer) != 1 or buffer[0] is not data:
                continue
            if transport.TLS:
                transport.startWriting()  # it is from before TLS, and not to be sealed
            else:
                buffer.clear()
                transport._tempDataLen = 0  # noqa: SLF001
                send_now(transport, data)
