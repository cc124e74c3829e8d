"""Detects that Redis may have lost records: a random id of its content, renewed by heartbeats.

A Redis server loses records when it restarts from an earlier copy or from none, when it is emptied,
and when a replica becomes its primary that had not received everything. The *history* is a random
number for the content of the servers, and is stored with the content. Every `BEAT_S` each mirror
runs one script on each primary, a heartbeat. The script begins a new history in five cases:

- The stored run id is not the server's: it was restarted, or another server is the primary. The
  script itself reads the run id, so the reply is that of the server whose content it concerns.
- The last beat of this mirror was on another server. Its writes there may be later than the history
  that another mirror has begun here, and they are lost.
- The stored number of beats is less than this mirror has seen: the content is an earlier copy.
- No history is stored, since there was no beat for `_UNWATCHED_S`.
- A mirror has dropped a refusal or an epoch, since its queue is full.

A server that was emptied while it was watched keeps its history: it has lost all epochs as well.
Epochs belong to a history (see ``caching.epochs``), so no grant of an earlier one permits anything.

The script also notes which mirrors are members of the fleet, and which of them still have refusals
or epochs to write. After an interruption nothing is permitted until all members from before it have
sent a beat, and have written them. If a member has not within `SETTLING_S`, its writes count as
lost, and a new history begins. The script uses the server's clock.

While Redis is unavailable, the fleet's limits are divided by the number of members (see
``redis_semaphores``).
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from secrets import token_hex
from typing import Any, Final

from attrs import define, evolve, field, frozen
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from txredisapi import ResponseError

from ghmirror_tw.caching.epochs import SETTLING_S
from ghmirror_tw.redis import Command, IServers, Purpose, RedisNode, RedisUnavailableError
from ghmirror_tw.redis_store.redis_records import RedisRecords
from ghmirror_tw.redis_store.scripts import BEAT
from ghmirror_tw.runtime.deferreds import add_waiter, wake
from ghmirror_tw.runtime.restartable_timer import RestartableTimer
from ghmirror_tw.store.remote_interface import MakeHistory

#: How often each mirror sends a beat, in seconds.
BEAT_S: Final = 2.0
#: A mirror without a beat for so long is no longer a member, in seconds.
_LIVE_S: Final = 10.0
#: How long a number of members counts, in seconds before the last response.
_COUNTED_S: Final = 15.0
#: Without a beat of any mirror for so long, a new history begins, in seconds.
_UNWATCHED_S: Final = 30.0
#: The interval of beats after a failure, and while other members are waited for, in seconds.
_AGAIN_S: Final = 0.25
_TIMEOUT_S: Final = 2.0
_KEY: Final = b"history"
#: More beats than any history has: a mirror that has seen so many begins a new history.
_BEYOND: Final = 1 << 53


@frozen
class _Beat:
    """The reply of one primary to a beat."""

    history: bytes
    count: int
    at_ms: int
    #: How far the server's clock is ahead at most, in seconds.
    ahead_s: float
    members: int
    #: How many other members have writes that must not be lost.
    owing: int
    #: How many members have sent a beat since the time in this one.
    back: int
    #: The run id of the server; empty without the permission for INFO.
    run_id: bytes


def history_of(reactor: Any, records: RedisRecords) -> MakeHistory:
    """Return a factory of the history of *records*, for a new instance of this mirror."""
    instance = token_hex(8).encode()
    return partial(
        History,
        reactor,
        records.servers,
        instance,
        changed=records.change_history,
        clock_read=records.note_server_clock,
    )


@define(eq=False)
class History:
    """Finds out the history of *servers*, as the member *instance* of the fleet.

    *owes* returns whether this mirror has refusals or epochs that it could not write yet. *changed*
    is called with the history when it has changed; None: it is not known. *clock_read* is called
    after each beat with how far the servers' clocks are ahead, in seconds: the largest of them, or
    more by the time that the beat took to a server.
    """

    reactor: Any
    servers: IServers
    instance: bytes
    owes: Callable[[], bool]
    changed: Callable[[bytes | None], object]
    clock_read: Callable[[float], object]
    current: bytes | None = field(init=False, default=None)
    #: When all servers last responded.
    looked_at: float = field(init=False, default=-inf)
    #: A connection was opened after the last beat, and may lead to another server.
    _may_be_another: bool = field(init=False, default=False)
    #: Until when other members are waited for; None: they are not.
    _waits_until: float | None = field(init=False, default=None)
    #: Members are missing, so the next beat begins a new history.
    _renews: bool = field(init=False, default=False)
    #: The number of members before the interruption, and when it ended, by each server's clock.
    _before: int = field(init=False, default=0)
    _since_ms: dict[bytes, int] = field(init=False, factory=dict)
    #: The user has no permission for INFO; the server would log each error.
    _without_info: bool = field(init=False, default=False)
    _members: int = field(init=False, default=0)
    #: The numbers of members within the last `_COUNTED_S`, and when each was counted.
    _counts: deque[tuple[float, int]] = field(init=False, factory=deque)
    _seen: dict[bytes, _Beat] = field(init=False, factory=dict)
    #: The history before an interruption.
    _last: bytes | None = field(init=False, default=None)
    _timer: RestartableTimer = field(init=False)
    beating: bool = field(init=False, default=False)
    #: Another beat was requested during a beat, and follows at once.
    _again: bool = field(init=False, default=False)
    _closed: bool = field(init=False, default=False)
    _waiters: list[Deferred[None]] = field(init=False, factory=list)
    _log: Logger = field(factory=lambda: Logger(namespace="ghmirror.store"), init=False)

    def __attrs_post_init__(self) -> None:
        self._timer = RestartableTimer(self.reactor, self.look)

    @property
    def is_known(self) -> bool:
        """Whether the history is known by a recent beat."""
        if self.current is None or self._may_be_another:
            return False
        now: float = self.reactor.seconds()
        return now - self.looked_at < _LIVE_S

    @property
    def members(self) -> int:
        """The largest number of members before the last response; 0: unknown.

        A server that has lost records counts too few at first, until all mirrors have sent a beat.
        """
        return max([self._before, *(number for _, number in self._counts)])

    @property
    def is_settled(self) -> bool:
        """Whether no other member can still have writes from before an interruption."""
        return self._waits_until is None

    def note_interruption(self) -> None:
        """Note that the servers were unavailable, and may have lost records."""
        self._waits_until = self.reactor.seconds() + SETTLING_S
        self._since_ms.clear()
        self._before = max(self._before, self._members)
        self._set(None)
        self.look()

    def note_connection(self) -> None:
        """Note a new connection, which may lead to another server; a beat shows whether it does."""
        self._may_be_another = True
        self.look()

    def renew(self) -> None:
        """Begin a new history with the next beat: a refusal or an epoch is lost for good."""
        self._renews = True

    def look(self) -> None:
        """Send a beat at once."""
        if self._closed:
            return
        if self.beating:
            self._again = True
            return
        self._timer.stop()
        self.beating = True
        Deferred.fromCoroutine(self._beat()).addBoth(self._ended)

    def looked_up(self, timeout_s: float) -> Deferred[None]:
        """Fire when the history is known, or when *timeout_s* has passed."""
        return (
            succeed(None) if self.is_known else add_waiter(self.reactor, self._waiters, timeout_s)
        )

    async def close(self) -> None:
        """Leave the fleet."""
        self._closed = True
        self._timer.stop()
        wake(self._waiters)
        try:
            for node in self.servers.primaries():
                leave = Command((b"HDEL", node.own_key(_KEY), b"member " + self.instance))
                await node.send((leave,), Purpose.WRITE, _TIMEOUT_S)
        except RedisUnavailableError:
            return

    def _ended(self, result: bool | Failure) -> None:
        self.beating = False
        if self._closed:
            return
        again, self._again = self._again, False
        if isinstance(result, Failure):
            self._log.failure("Redis history: beat failed", failure=result)
        if again:
            self.look()
        else:
            self._timer.restart(BEAT_S if result is True and self.is_settled else _AGAIN_S)

    async def _beat(self) -> bool:
        """Send a beat to all servers; return whether all have replied."""
        renews = self._renews
        try:
            nodes = self.servers.primaries()
            beats = {node.own_key(_KEY): await self._beat_on(node) for node in nodes}
        except (RedisUnavailableError, ValueError):
            return False
        if self._again:
            # There was an interruption meanwhile; these replies may be from before it.
            return True
        first = not self._seen
        self._seen = beats
        self.looked_at = self.reactor.seconds()
        self._may_be_another = False
        self.clock_read(max(beat.ahead_s for beat in beats.values()))
        self._renews = False
        self._count(list(beats.values()), renewed=renews)
        joined = b"".join(key + beat.history for key, beat in sorted(beats.items()))
        history = hashlib.sha256(joined).hexdigest()[:16].encode()
        if not first and self._last not in {None, history}:
            self._log.warn(
                "Redis may have lost records (restart or failover): stored responses are"
                " sent stale only after GitHub has confirmed them again"
            )
        self._last = history
        self._set(history)
        wake(self._waiters)
        return True

    async def _beat_on(self, node: RedisNode) -> _Beat:
        key = node.own_key(_KEY)
        seen, since_ms = self._seen.get(key), self._since_ms.get(key)
        watched = seen is not None and self.is_known and not self._renews
        command = BEAT.call(
            (key,),
            token_hex(8).encode(),
            b"%d" % (not self._without_info),
            b"" if seen is None else seen.history,
            b"%d" % (_BEYOND if self._renews else 0 if seen is None else seen.count),
            b"%d" % round(_UNWATCHED_S * 1000),
            self.instance,
            b"%d" % self.owes(),
            b"%d" % (since_ms or 0),
            b"%d" % round(_LIVE_S * 1000),
            # A command that empties the server deletes the epochs as well.
            seen.history if watched and seen is not None else b"",
            b"" if seen is None else seen.run_id,
        )
        sent_at = self.reactor.seconds()
        (reply,) = await node.send((command,), Purpose.WRITE, _TIMEOUT_S)
        if isinstance(reply, ResponseError):
            raise RedisUnavailableError("refused", str(reply))
        history, *numbers, run_id = reply
        count, at_ms, members, owing, back = map(int, numbers)
        if run_id is None:
            self._note_without_info()
        ahead_s = at_ms / 1000 - sent_at
        beat = _Beat(bytes(history), count, at_ms, ahead_s, members, owing, back, run_id or b"")
        if since_ms is None:
            # Beats before this one may be from before the interruption.
            beat = evolve(beat, back=0)
        if not self._again:
            self._since_ms.setdefault(key, beat.at_ms)
        return beat

    def _note_without_info(self) -> None:
        self._without_info = True
        self._log.warn(
            "The Redis user may not use INFO (ACL: +info): the mirror may miss that Redis was"
            " restarted or has failed over"
        )

    def _count(self, beats: Sequence[_Beat], *, renewed: bool) -> None:
        """Count the members, and decide whether other members have to be waited for."""
        self._members = max(beat.members for beat in beats)
        now, owing = self.reactor.seconds(), any(beat.owing for beat in beats)
        self._before = max(self._before, self._members)
        self._counts.append((now, self._members))
        while self._counts[0][0] < now - _COUNTED_S:
            self._counts.popleft()
        if self._waits_until is None:
            if owing:
                self._waits_until = now + SETTLING_S
        elif renewed or (not owing and all(beat.back >= self._before for beat in beats)):
            self._waits_until = None
        elif now >= self._waits_until:
            self._renews = True
        if self._waits_until is None:
            self._before = self._members

    def _set(self, history: bytes | None) -> None:
        if history != self.current:
            self.current = history
            self.changed(history)
