"""Fair shares of the connections to GitHub for requests sent before their content was complete.

A client can send content as slowly as it likes, and its request holds a connection until the end.
Max-min fairness with dynamic thresholds (Choudhury and Hahne, 1998): a credential may hold as many
connections for such requests as remain for those of other credentials. A fifth of all connections
remains for requests without content, or whose content was received. Many credentials can hold all
the others. Then slow uploads of those with more than an equal share are aborted while others
wait.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Any, Final, Protocol, Self

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall

from ghmirror_tw.http import error_responses

#: The longest wait for a share, in seconds.
LONGEST_WAIT_S: Final = 10.0
#: How many uploads of one credential may wait.
MOST_WAITING: Final = 1000
#: An upload is slow below this, in bytes a second, once it has lasted for so many seconds.
SLOW_BYTES_PER_S: Final = 64 * 1024
SLOW_AFTER_S: Final = 5.0
_RETRY_AFTER_S: Final = 10


class IncomingUpload(Protocol):
    """The content of a request: how many bytes of it were received, and whether all were."""

    @property
    def size(self) -> int:
        """The number of received bytes."""

    @property
    def complete(self) -> bool:
        """Whether all of it was received."""


@define(eq=False)
class UploadShare:
    """Permission to send one upload, until the end of the `with` block."""

    shares: UploadShares
    credential: str
    upload: IncomingUpload
    #: When its request was sent.
    began: float = inf

    def __enter__(self) -> Self:
        """Return the share."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Release it."""
        self.shares.release(self)

    def begin(self) -> None:
        """Note that the request is sent: its speed counts from now on."""
        self.began = self.shares.reactor.seconds()

    def is_wanted(self) -> bool:
        """Return whether an upload of this credential, or of one that holds no more, waits."""
        held = self.shares.held
        return any(held(each) <= held(self.credential) for each in self.shares.waiting)

    def is_unfair(self) -> bool:
        """Return whether it is slow, and its credential has more than an equal share in demand.

        Then the upload is to be aborted.
        """
        lasted_s = self.shares.reactor.seconds() - self.began
        return (
            self.shares.held(self.credential) > self.shares.equal_share
            and not self.upload.complete
            and lasted_s >= SLOW_AFTER_S
            and self.upload.size < lasted_s * SLOW_BYTES_PER_S
        )


@define(eq=False)
class _WaitingUpload:
    """A waiting upload."""

    acquired: Deferred[UploadShare]
    upload: IncomingUpload
    timer: IDelayedCall | None = None


@define(eq=False)
class UploadShares:
    """The shares of all credentials, in this process."""

    max_connections: int
    reactor: Any
    #: The uploads of each credential that are under way.
    under_way: dict[str, set[UploadShare]] = field(init=False, factory=dict)
    #: The waiting uploads of each credential, in order of arrival.
    waiting: dict[str, deque[_WaitingUpload]] = field(init=False, factory=dict)
    _limit: int = field(init=False)
    _total: int = field(init=False, default=0)
    _serving: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._limit = max(self.max_connections * 4 // 5, 1)

    def held(self, credential: str) -> int:
        """Return how many uploads of a credential are under way."""
        return len(self.under_way.get(credential, ()))

    @property
    def equal_share(self) -> float:
        """How many uploads each credential may have while some wait; infinite while none does."""
        if not self.waiting:
            return inf
        equal = self._limit // len({*self.under_way, *self.waiting})
        # With the one that it waits for, a waiting credential may hold as many.
        return max(equal, min(map(self.held, self.waiting)) + 1)

    def acquire(self, credential: str, upload: IncomingUpload) -> Deferred[UploadShare]:
        """Return a share, at once or when it is free.

        Fails with a `MirrorError` (503) after `LONGEST_WAIT_S`, or where too many uploads of the
        credential wait. Cancelling ends the wait.
        """
        if credential not in self.waiting and self._is_free(credential):
            return succeed(self._share(credential, upload))
        queue = self.waiting.setdefault(credential, deque())
        waiter = _WaitingUpload(Deferred(lambda _: self._remove(credential, waiter)), upload)
        queue.append(waiter)
        if len(queue) > MOST_WAITING:
            self._refuse(credential, waiter)
            return waiter.acquired
        waiter.timer = self.reactor.callLater(
            LONGEST_WAIT_S, lambda: self._refuse(credential, waiter)
        )
        return waiter.acquired

    def release(self, share: UploadShare) -> None:
        """Release a share; waiting uploads get it, those of the smallest holder first."""
        self._total -= 1
        uploads = self.under_way[share.credential]
        uploads.remove(share)
        if not uploads:
            del self.under_way[share.credential]
        # An upload may fail as soon as it gets a share, which it releases before the next turn.
        if not self._serving:
            self._serving = True
            try:
                self._serve()
            finally:
                self._serving = False

    def _serve(self) -> None:
        while self.waiting:
            following = min(self.waiting, key=self.held)
            if not self._is_free(following):
                break
            waiter = self.waiting[following][0]
            self._remove(following, waiter)
            waiter.acquired.callback(self._share(following, waiter.upload))

    def _is_free(self, credential: str) -> bool:
        return self.held(credential) < self._limit - self._total

    def _share(self, credential: str, upload: IncomingUpload) -> UploadShare:
        self._total += 1
        share = UploadShare(self, credential, upload)
        self.under_way.setdefault(credential, set()).add(share)
        return share

    def _remove(self, credential: str, waiter: _WaitingUpload) -> None:
        queue = self.waiting[credential]
        queue.remove(waiter)
        if not queue:
            del self.waiting[credential]
        if waiter.timer is not None and waiter.timer.active():
            waiter.timer.cancel()

    def _refuse(self, credential: str, waiter: _WaitingUpload) -> None:
        self._remove(credential, waiter)
        limit = f"[github] max_connections = {self.max_connections}"
        waiter.acquired.errback(error_responses.overloaded(limit, _RETRY_AFTER_S))
