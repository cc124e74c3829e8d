"""What the servers of a store tell of themselves: how much they hold, and what they pushed out."""

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

#: How often the servers are asked, in seconds; metrics are seldom looked at more often.
EVERY_S: Final = 15.0
_TIMEOUT_S: Final = 5.0
_INFO: Final = (Command((b"INFO", b"memory")), Command((b"INFO", b"stats")))


def total(name: str, told: Sequence[Reply]) -> int | None:
    """Return the sum of a figure over what servers have told (INFO); None where nobody did."""
    pattern = re.compile(rb"^%s:([0-9]+)\r?$" % name.encode("ascii"), re.MULTILINE)
    found = [match for each in told if isinstance(each, bytes) and (match := pattern.search(each))]
    figures = [figure for match in found if (figure := whole_number(match[1])) is not None]
    return sum(figures) if figures else None


@define(eq=False)
class Figures:
    """Asks now and then; what can't be asked for is not known."""

    reactor: Any
    servers: Any
    used_bytes: int | None = field(init=False, default=None)
    evictions: int | None = field(init=False, default=None)
    _timer: IDelayedCall | None = field(init=False, default=None)

    def open(self) -> None:
        """Begin to ask."""
        self._timer = self.reactor.callLater(EVERY_S, self.open)
        asked = Deferred.fromCoroutine(self.ask())
        asked.addErrback(Failure.trap, RedisUnavailableError)

    async def ask(self) -> None:
        """Ask all servers that are written to once."""
        self.used_bytes = self.evictions = None
        told: list[Reply] = []
        for node in self.servers.primaries():
            told += await node.ask(_INFO, Purpose.READ, _TIMEOUT_S)
        self.used_bytes = total("used_memory", told)
        self.evictions = total("evicted_keys", told)

    def close(self) -> None:
        """Ask no more."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
