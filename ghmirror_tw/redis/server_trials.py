"""Whether a server may be asked: two breakers, and the trials that close them again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from txredisapi import ResponseError

from ghmirror_tw.redis.error_replies import ErrorReplyKind, code_of, trouble
from ghmirror_tw.redis.pipeline import exchange
from ghmirror_tw.redis.redis_connection import RedisConnection, plain
from ghmirror_tw.redis.server_breaker import Breaker
from ghmirror_tw.redis.servers_interface import Command, Purpose, RedisUnavailableError, Reply

#: How long what a trial writes is kept, in milliseconds.
_KEPT_MS = b"1000"


@define(eq=False, kw_only=True)
class Trials:
    """The breakers of one server; what is open is tried when it is due, one trial at a time.

    *pick* gives a connection, or None. *primary*: whether writing is tried at all. *turned* is
    called after a breaker opened or closed, *not_primary* whenever the server says READONLY.
    """

    reactor: Any
    pick: Callable[[], RedisConnection | None]
    timeout_s: float
    key: bytes
    primary: bool
    random: Callable[[], float]
    turned: Callable[[], object]
    not_primary: Callable[[], object]
    reading: Breaker = field(init=False)
    writing: Breaker = field(init=False)
    #: It said READONLY, and has not been written to since: somebody else is the primary.
    demoted: bool = field(default=False, init=False)
    #: Those of which nothing is known yet, or since the server could be reached again.
    untried: set[Breaker] = field(init=False)
    _under_way: Deferred[Any] | None = field(default=None, init=False)
    _timer: Any = field(default=None, init=False)
    _closed: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.reading, self.writing = Breaker(self.random), Breaker(self.random)
        self.untried = set(self._tried_ones)

    @property
    def _tried_ones(self) -> tuple[Breaker, ...]:
        return (self.reading, self.writing) if self.primary else (self.reading,)

    def of(self, purpose: Purpose) -> Breaker:
        """Return the breaker that *purpose* depends on."""
        return self.writing if purpose is Purpose.WRITE else self.reading

    def bad(self, what: ErrorReplyKind, code: str, why: str) -> None:
        """Note that the server failed, with the *code* of its error if it gave one."""
        if self._closed or what is ErrorReplyKind.PASSING:
            return
        now = self.reactor.seconds()
        if code == "READONLY":
            opened = self.writing.trip(now, why)  # it will be no better next time
            self._demote()
        else:
            opened = self.writing.bad(now, why)
        if what is ErrorReplyKind.BOTH:
            opened = self.reading.bad(now, why) or opened
        if opened:
            self._turn()

    def unreachable(self, why: str) -> None:
        """Note that there is no connection."""
        now = self.reactor.seconds()
        opened = [breaker.trip(now, why) for breaker in (self.reading, self.writing)]
        self.untried.update(self._tried_ones)
        if any(opened) and not self._closed:
            self._turn()

    def reached(self) -> None:
        """Note that there is a connection, so that a trial is worth while."""
        now = self.reactor.seconds()
        for breaker in self._tried_ones:
            breaker.reached(now)
        self._try_later()

    def close(self) -> None:
        """Open both for good."""
        self._closed = True
        self.unreachable("closed")
        self._stop_timer()
        if self._under_way is not None:
            self._under_way.cancel()

    def _turn(self) -> None:
        self._try_later()
        self.turned()

    def _try_later(self) -> None:
        self._stop_timer()
        # who can't be read is not written to either
        breaker = next((one for one in self._tried_ones if not one.closed), None)
        if breaker is None or self._under_way is not None or self._closed or self.pick() is None:
            return
        wait_s = max(0.0, breaker.trial_at - self.reactor.seconds())
        self._timer = self.reactor.callLater(wait_s, self._try, breaker)

    def _try(self, breaker: Breaker) -> None:
        self._timer = None
        connection = self.pick()
        if connection is None:
            return
        parts: tuple[tuple[bytes, ...], ...] = ((b"PING",), (b"GET", self.key))
        if breaker is self.writing:
            parts = ((b"SET", self.key, b"1", b"PX", _KEPT_MS),)
        commands = [Command(each) for each in parts]
        self._under_way = trial = exchange(connection, commands, self.timeout_s)
        trial.addBoth(self._tried, breaker)

    def _tried(self, result: list[Reply] | Failure, breaker: Breaker) -> None:
        self._under_way = None
        if self._closed:
            return
        why = self._fault(result, breaker)
        breaker.tried(self.reactor.seconds(), why)
        self.untried.discard(breaker)
        if why is not None:
            # who can't be read is not written to either, so nothing else is tried before long
            self.untried.clear()
        self._try_later()
        self.turned()

    def _fault(self, result: list[Reply] | Failure, breaker: Breaker) -> str | None:
        """Return what was wrong with a trial."""
        if isinstance(result, Failure):
            error = result.value
            return (
                error.why if isinstance(error, RedisUnavailableError) else result.getErrorMessage()
            )
        purpose = Purpose.WRITE if breaker is self.writing else Purpose.READ
        for reply in result:
            if isinstance(reply, ResponseError):
                code = code_of(str(reply))
                if trouble(code, purpose) in {ErrorReplyKind.WRITING, ErrorReplyKind.BOTH}:
                    if code == "READONLY":
                        self._demote()
                    return plain(reply)
        if breaker is self.writing:
            self.demoted = False
        return None

    def _demote(self) -> None:
        self.demoted = True
        self.not_primary()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
