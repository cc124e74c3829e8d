"""Statistics of Redis servers (INFO): the memory that they use, and the keys that they evicted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from ghmirror_tw.redis.servers_interface import Command, Purpose, RedisUnavailableError, Reply
from ghmirror_tw.runtime.numbers import whole_number

#: How often the statistics are read, in seconds; metrics are rarely scraped more often.
INTERVAL_S: Final = 15.0
_TIMEOUT_S: Final = 5.0
_INFO: Final = (Command((b"INFO", b"memory")), Command((b"INFO", b"stats")))


def total(name: str, replies: Sequence[Reply]) -> int | None:
    """Return the sum of a number over *replies* to INFO; None if no reply has it."""
    pattern = re.compile(rb"^%s:([0-9]+)\r?$" % name.encode("ascii"), re.MULTILINE)
    found = [
        match for reply in replies if isinstance(reply, bytes) and (match := pattern.search(reply))
    ]
    numbers = [number for match in found if (number := whole_number(match[1])) is not None]
    return sum(numbers) if numbers else None


@define(eq=False)
class ServerStatistics:
    """Reads the statistics of all primaries periodically; None: unknown."""

    reactor: Any
    servers: Any
    used_bytes: int | None = field(init=False, default=None)
    evictions: int | None = field(init=False, default=None)
    _timer: IDelayedCall | None = field(init=False, default=None)

    def open(self) -> None:
        """Begin to read them."""
        self._timer = self.reactor.callLater(INTERVAL_S, self.open)
        reading = Deferred.fromCoroutine(self.read())
        reading.addErrback(Failure.trap, RedisUnavailableError)

    async def read(self) -> None:
        """Read them once."""
        self.used_bytes = self.evictions = None
        replies: list[Reply] = []
        for node in self.servers.primaries():
            replies += await node.send(_INFO, Purpose.READ, _TIMEOUT_S)
        self.used_bytes = total("used_memory", replies)
        self.evictions = total("evicted_keys", replies)

    def close(self) -> None:
        """Read them no more."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
