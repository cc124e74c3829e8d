"""Fair shares of the connections to GitHub for content that is still incoming.

A client can send content as slowly as it likes, and its request holds a connection until the end.
So small content is received before its request is sent. Larger content is streamed, and needs a
share. Max-min fairness with dynamic thresholds (Choudhury and Hahne, 1998): a credential may hold
as many shares as are free for others. A fifth of all connections is never used for such content.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Any, Final, Self

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall

from ghmirror_tw.http import error_responses
from ghmirror_tw.upstream.request_queues import UNACCEPTED, permits_for_unaccepted

#: Content of at most so many bytes is received before its request is sent.
SMALL_CONTENT_BYTES: Final = 16 * 1024
#: The longest wait for a share, in seconds: large content of others may take long as well.
LONGEST_WAIT_S: Final = 60.0
_RETRY_AFTER_S: Final = 10


@define(eq=False)
class ConnectionShare:
    """Permission to send one request with incoming content, until the end of the `with` block."""

    shares: ConnectionShares
    credential: str

    def __enter__(self) -> Self:
        """Return the share."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Release it."""
        self.shares.release(self)

    def is_wanted(self) -> bool:
        """Return whether this credential waits for another one, or one that holds fewer."""
        held, own = self.shares.held, self.credential
        return any(each == own or held[each] < held[own] for each in self.shares.waiting)


@define(eq=False)
class _WaitingUpload:
    """A request that waits for its share."""

    acquired: Deferred[ConnectionShare]
    timer: IDelayedCall


@define(eq=False)
class ConnectionShares:
    """The shares of all credentials, in this process.

    All credentials that GitHub has not accepted have one name, `UNACCEPTED`. They get half of the
    permits that there are for their requests, so that small content never waits for large content.
    """

    max_connections: int
    reactor: Any
    #: How many shares each credential holds.
    held: Counter[str] = field(init=False, factory=Counter)
    #: The waiting requests of each credential, in order of arrival.
    waiting: dict[str, deque[_WaitingUpload]] = field(init=False, factory=dict)
    _serving: bool = field(init=False, default=False)

    def acquire(self, credential: str) -> Deferred[ConnectionShare]:
        """Return a share, at once or when it is free.

        Fails with a `MirrorError` (503) after `LONGEST_WAIT_S`. Cancelling ends the wait.
        """
        if credential not in self.waiting and self._is_free(credential):
            return succeed(self._share(credential))
        waiting: _WaitingUpload
        acquired: Deferred[ConnectionShare] = Deferred(lambda _: self._remove(credential, waiting))
        timer = self.reactor.callLater(LONGEST_WAIT_S, lambda: self._refuse(credential, waiting))
        waiting = _WaitingUpload(acquired, timer)
        self.waiting.setdefault(credential, deque()).append(waiting)
        return acquired

    def release(self, share: ConnectionShare) -> None:
        """Release a share; waiting requests get it, those of the smallest holder first."""
        self.held[share.credential] -= 1
        if not self.held[share.credential]:
            del self.held[share.credential]
        # A request may fail as soon as it gets a share, which it releases before the next turn.
        if not self._serving:
            self._serving = True
            try:
                self._serve()
            finally:
                self._serving = False

    def _serve(self) -> None:
        while following := [each for each in self.waiting if self._is_free(each)]:
            credential = min(following, key=lambda each: self.held[each])
            waiting = self.waiting[credential][0]
            self._remove(credential, waiting)
            waiting.acquired.callback(self._share(credential))

    def _is_free(self, credential: str) -> bool:
        held = self.held[credential]
        if credential == UNACCEPTED and held >= permits_for_unaccepted(self.max_connections) // 2:
            return False
        limit = max(self.max_connections * 4 // 5, 1)
        return held < limit - self.held.total()

    def _share(self, credential: str) -> ConnectionShare:
        self.held[credential] += 1
        return ConnectionShare(self, credential)

    def _remove(self, credential: str, waiting: _WaitingUpload) -> None:
        queue = self.waiting[credential]
        queue.remove(waiting)
        if not queue:
            del self.waiting[credential]
        if waiting.timer.active():
            waiting.timer.cancel()

    def _refuse(self, credential: str, waiting: _WaitingUpload) -> None:
        self._remove(credential, waiting)
        limit = f"[github] max_connections = {self.max_connections}"
        waiting.acquired.errback(error_responses.overloaded(limit, _RETRY_AFTER_S))
