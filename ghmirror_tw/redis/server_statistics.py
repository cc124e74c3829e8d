"""Statistics of Redis servers (INFO): the memory that they use, and the keys that they evicted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ghmirror_tw.redis.servers_interface import Command, Purpose, RedisUnavailableError, Reply
from ghmirror_tw.runtime.restartable_timer import RestartableTimer
from ghmirror_tw.runtime.whole_numbers import whole_number

#: How often the statistics are read, in seconds; metrics are rarely scraped more often.
INTERVAL_S: Final = 15.0
_TIMEOUT_S: Final = 5.0
_INFO: Final = (Command((b"INFO", b"memory")), Command((b"INFO", b"stats")))


def total(name: str, replies: Sequence[Reply]) -> int | None:
    """Return the sum of the field *name* over *replies* to INFO; None if no reply has it."""
    pattern = re.compile(rb"^%s:([0-9]+)\r?$" % name.encode("ascii"), re.MULTILINE)
    found = [
        match for reply in replies if isinstance(reply, bytes) and (match := pattern.search(reply))
    ]
    numbers = [number for match in found if (number := whole_number(match[1])) is not None]
    return sum(numbers) if numbers else None


@define(eq=False)
class ServerStatistics:
    """Reads the statistics of all primaries every `INTERVAL_S`. An attribute is None if unknown."""

    reactor: Any
    servers: Any
    used_bytes: int | None = field(init=False, default=None)
    evictions: int | None = field(init=False, default=None)
    _timer: RestartableTimer = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._timer = RestartableTimer(self.reactor, self.open)

    def open(self) -> None:
        """Read the statistics now, and then periodically."""
        self._timer.restart(INTERVAL_S)
        reading = Deferred.fromCoroutine(self.read())
        reading.addErrback(Failure.trap, RedisUnavailableError)

    async def read(self) -> None:
        """Read the statistics once. Raises `RedisUnavailableError`, which leaves them unknown."""
        self.used_bytes = self.evictions = None
        replies: list[Reply] = []
        for node in self.servers.primaries():
            replies += await node.send(_INFO, Purpose.READ, _TIMEOUT_S)
        self.used_bytes = total("used_memory", replies)
        self.evictions = total("evicted_keys", replies)

    def close(self) -> None:
        """Stop the periodic reads."""
        self._timer.stop()
