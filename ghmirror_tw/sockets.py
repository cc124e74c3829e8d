"""Sending on a socket at once, instead of in the reactor's next turn."""

from __future__ import annotations

from typing import Any

from twisted.internet.tcp import Connection


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
