"""RESP2 as txredisapi reads and writes it, but quicker, and not taking anything for it."""

from __future__ import annotations

from typing import Any, Final

from txredisapi import BaseRedisProtocol

#: The largest content that Redis holds, in bytes; arrays here have far fewer elements.
_BIGGEST: Final = 1 << 29


class StrictProtocol(BaseRedisProtocol):  # type: ignore[misc]
    """Aborts the connection for what RESP2 does not know, where txredisapi guesses or waits.

    Never its hiredis protocol, whichever of the two txredisapi would choose.
    """

    _rest = b""

    def abort(self, why: str) -> None:  # noqa: ARG002 - who extends this may tell
        """Close at once."""
        self.transport.abortConnection()

    def _build_command(self, *args: Any, **_kwargs: Any) -> bytes:
        """Write a command as txredisapi does, in a third of the time."""
        parts = [part if type(part) is bytes else self._encode_value(part) for part in args]
        pieces = [b"*%d\r\n" % len(parts)]
        for part in parts:
            pieces += (b"$%d\r\n" % len(part), part, b"\r\n")
        return b"".join(pieces)

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:  # noqa: ARG002
        """Take all that came in one go.

        txredisapi waits for a turn of the reactor after each bulk reply, and pauses the
        transport meanwhile; `setLineMode` keeps the rest for this loop instead.
        """
        self._rest = data
        try:
            while self._rest and not self.transport.disconnecting:
                now, self._rest = self._rest, b""
                super().dataReceived(now)
        except Exception:  # noqa: BLE001 - whatever it was, the rest makes no sense any more
            self.abort("it does not speak RESP2")

    def setLineMode(self, extra: bytes = b"") -> None:
        """Expect a line after what was not one."""
        self.line_mode = 1
        self._rest = extra

    def lineReceived(self, line: str) -> bool:
        """Take a line that RESP2 knows; nothing else is passed on, or guessed at."""
        kind = line[:1]
        if kind in {"$", "*", ":"}:
            number = int(line[1:])
            if kind != ":" and not -1 <= number <= _BIGGEST:
                raise ValueError(line)
        elif kind not in {"+", "-"}:
            raise ValueError(line)
        super().lineReceived(line)
        return bool(self.transport.disconnecting)

    def lineLengthExceeded(self, line: bytes) -> bool:  # noqa: ARG002
        """Refuse what has no end."""
        self.abort("it does not speak RESP2")
        return True
