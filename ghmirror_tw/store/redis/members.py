"""The replicas that share a Redis: how many there are, for the time in which it is lost.

Each replica writes a heartbeat into one hash, by the server's clock. While Redis cannot be
reached, each uses its part of a limit of the fleet: the limit divided by the number of members.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from math import inf
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from ghmirror_tw.store import names
from ghmirror_tw.store.redis.interfaces import Command, Purpose, Unavailable
from ghmirror_tw.store.redis.records import RedisRecords
from ghmirror_tw.store.redis.scripts import Script

#: How often a replica writes its heartbeat, and how long one counts, in seconds.
BEAT_S: Final = 5.0
LIFE_S: Final = 15.0

#: KEYS: the members. ARGV: owner, life in ms. Returns how many there are.
_BEAT: Final = Script(
    b"""
local time = redis.call('TIME')
local now, life = time[1] * 1000 + math.floor(time[2] / 1000), tonumber(ARGV[2])
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now + life))
local rows = redis.call('HGETALL', KEYS[1])
for i = 1, #rows, 2 do
  if (tonumber(rows[i + 1]) or 0) <= now then redis.call('HDEL', KEYS[1], rows[i]) end
end
redis.call('PEXPIRE', KEYS[1], life)
return redis.call('HLEN', KEYS[1])
"""
)


@define(eq=False)
class Members:
    """Counts the replicas that share a Redis; *owner* is the name of this one."""

    reactor: Any
    records: RedisRecords
    timeout_s: float
    owner: str
    #: When Redis last responded to this replica.
    heard_at: float = field(init=False, default=-inf)
    #: What was counted within `LIFE_S` before the last response, and when.
    _counts: deque[tuple[float, int]] = field(init=False, factory=deque)
    _timer: IDelayedCall | None = field(init=False, default=None)
    _closed: bool = field(init=False, default=False)
    _log: Logger = field(factory=lambda: Logger(namespace="ghmirror.store"))

    @property
    def count(self) -> int:
        """How many there were when Redis last responded; 0: it never has.

        A Redis that was emptied counts too few at first, so it is the largest number of late.
        """
        return max([count for _, count in self._counts], default=0)

    def open(self) -> None:
        """Begin to write heartbeats, as soon as it is known whether Redis can be reached."""
        self.records.servers.settled().addCallback(lambda _: self._beat_now())

    def heard(self) -> None:
        """Note that Redis has responded."""
        self.heard_at = self.reactor.seconds()

    def _beat_now(self) -> None:
        self._timer = None
        if self._closed:
            return
        beating = Deferred.fromCoroutine(self.beat())
        beating.addErrback(self._failed)
        beating.addCallback(lambda _: self._beat_later())

    def _beat_later(self) -> None:
        if not self._closed:
            pause_s = BEAT_S * (0.75 + 0.5 * self.records.chance())
            self._timer = self.reactor.callLater(pause_s, self._beat_now)

    def _failed(self, failure: Failure) -> None:
        if not failure.check(Unavailable):
            self._log.failure("Writing a heartbeat to Redis failed", failure=failure)

    async def beat(self) -> None:
        """Write a heartbeat, and count the members."""
        life = b"%d" % round(LIFE_S * 1000)
        keys = self.records.keys(names.MEMBERS)
        count = await self._ask(_BEAT.call(keys, self.owner.encode("ascii"), life))
        self.heard()
        self._counts.append((self.heard_at, int(count)))
        while self._counts[0][0] < self.heard_at - LIFE_S:
            self._counts.popleft()

    async def _ask(self, command: Command) -> Any:
        servers = self.records.servers
        (reply,) = await servers.ask(
            names.SLOT_OF_MEMBERS, (command,), Purpose.WRITE, self.timeout_s
        )
        if isinstance(reply, Exception):
            raise Unavailable("refused", str(reply))
        return reply

    def close(self) -> Deferred[None]:
        """Leave."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return Deferred.fromCoroutine(self._leave())

    async def _leave(self) -> None:
        key = self.records.key(names.MEMBERS)
        with suppress(Unavailable):
            await self._ask(Command((b"HDEL", key, self.owner.encode("ascii"))))
