"""What is looked into again and again: seldom while all is well, soon and patiently if not."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ghmirror_tw.redis.server_breaker import grown, jittered

#: Rounds that follow each other closer than this get farther and farther apart.
_CALM_S: Final = 10.0


@define(eq=False, kw_only=True)
class Rounds:
    """Calls *act* again and again, never twice at a time.

    While it returns True, all is well, and it is called every *seldom_s* (25 % more or less);
    otherwise after pauses that grow from a tenth of a second to a few seconds, with jitter, so
    that many who are in the same trouble don't make it worse. *random* gives numbers from 0 to 1.
    """

    reactor: Any
    act: Callable[[], Coroutine[Deferred[Any], Any, bool]]
    seldom_s: float
    random: Callable[[], float]
    _under_way: Deferred[bool] | None = field(default=None, init=False)
    _timer: Any = field(default=None, init=False)
    _ended_at: float = field(default=float("-inf"), init=False)
    _delay_s: float = field(default=0.0, init=False)
    _closed: bool = field(default=False, init=False)
    _log: Logger = field(factory=lambda: Logger(namespace="ghmirror.store"), init=False)

    def hurry(self) -> None:
        """See to it that there is a round soon: at once, if there was none lately."""
        if self._closed or self._under_way is not None:
            return  # the round that is under way sees itself whether all is well
        if self.reactor.seconds() - self._ended_at >= _CALM_S:
            self._delay_s = 0.0
        self._begin_at(self._ended_at + jittered(self._delay_s, self.random))

    def close(self) -> None:
        """Stop; a round that is under way is cancelled."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._under_way is not None:
            self._under_way.cancel()

    def _begin_at(self, due: float) -> None:
        if self._timer is not None:
            if self._timer.getTime() <= due:
                return
            self._timer.cancel()
        wait_s = max(0.0, due - self.reactor.seconds())
        self._timer = self.reactor.callLater(wait_s, self._begin)

    def _begin(self) -> None:
        self._timer = None
        self._delay_s = grown(self._delay_s)
        self._under_way = under_way = Deferred.fromCoroutine(self.act())
        under_way.addBoth(self._ended)

    def _ended(self, result: Failure | bool) -> None:
        self._under_way = None
        self._ended_at = self.reactor.seconds()
        if self._closed:
            return
        if result is True:
            self._begin_at(self._ended_at + self.seldom_s * (0.75 + self.random() / 2))
            return
        if isinstance(result, Failure):
            self._log.failure("Looking after Redis failed", failure=result)
        self.hurry()
