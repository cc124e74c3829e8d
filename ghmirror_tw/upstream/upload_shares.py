"""Fair shares of the connections to GitHub for requests whose content is still being received.

A client can send content as slowly as it likes, and its request holds a connection until the end.
Max-min fairness with dynamic thresholds (Choudhury and Hahne, 1998): a credential may hold as many
connections for such requests as remain for those of other credentials. So *n* greedy credentials
hold n/(n+1) of them, and a newcomer is not delayed. A fifth of all connections remains for requests
without content, or whose content was received.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Final, Self

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall

from ghmirror_tw.http import error_responses

#: The longest wait for a share, in seconds.
LONGEST_WAIT_S: Final = 10.0
#: How many uploads of one credential may wait.
MOST_WAITING: Final = 1000
_RETRY_AFTER_S: Final = 10


@define(eq=False)
class UploadShare:
    """Permission to send one upload, until the end of the `with` block."""

    shares: UploadShares
    credential: str

    def __enter__(self) -> Self:
        """Return the share."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Release it."""
        self.shares.release(self.credential)

    def is_wanted(self) -> bool:
        """Tell whether an upload of this credential, or of one that holds no more, waits."""
        held = self.shares.held
        return any(held[each] <= held[self.credential] for each in self.shares.waiting)


@define(eq=False)
class _Waiter:
    """A waiting upload."""

    acquired: Deferred[UploadShare]
    timer: IDelayedCall | None = None


@define(eq=False)
class UploadShares:
    """The shares of all credentials, in this process."""

    max_connections: int
    call_later: Callable[[float, Callable[[], object]], IDelayedCall]
    #: How many uploads each credential has under way.
    held: Counter[str] = field(init=False, factory=Counter)
    #: The waiting uploads of each credential, in order of arrival.
    waiting: dict[str, deque[_Waiter]] = field(init=False, factory=dict)
    _limit: int = field(init=False)
    _total: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self._limit = max(self.max_connections * 4 // 5, 1)

    def acquire(self, credential: str) -> Deferred[UploadShare]:
        """Return a share, at once or when it is free.

        Fails with a `MirrorError` (503) after `LONGEST_WAIT_S`, or where too many uploads of the
        credential wait. Cancelling ends the wait.
        """
        queue = self.waiting.setdefault(credential, deque())
        if not queue and self._is_free(credential):
            del self.waiting[credential]
            return succeed(self._share(credential))
        waiter = _Waiter(Deferred(lambda _: self._remove(credential, waiter)))
        queue.append(waiter)
        if len(queue) > MOST_WAITING:
            self._refuse(credential, waiter)
        else:
            waiter.timer = self.call_later(LONGEST_WAIT_S, lambda: self._refuse(credential, waiter))
        return waiter.acquired

    def release(self, credential: str) -> None:
        """Release a share; waiting uploads get it, those of the smallest holder first."""
        self._total -= 1
        self.held[credential] -= 1
        if not self.held[credential]:
            del self.held[credential]
        while self.waiting:
            next_one = min(self.waiting, key=self.held.__getitem__)
            if not self._is_free(next_one):
                break
            waiter = self.waiting[next_one][0]
            self._remove(next_one, waiter)
            waiter.acquired.callback(self._share(next_one))

    def _is_free(self, credential: str) -> bool:
        return self.held[credential] < self._limit - self._total

    def _share(self, credential: str) -> UploadShare:
        self._total += 1
        self.held[credential] += 1
        return UploadShare(self, credential)

    def _remove(self, credential: str, waiter: _Waiter) -> None:
        queue = self.waiting[credential]
        queue.remove(waiter)
        if not queue:
            del self.waiting[credential]
        if waiter.timer is not None and waiter.timer.active():
            waiter.timer.cancel()

    def _refuse(self, credential: str, waiter: _Waiter) -> None:
        self._remove(credential, waiter)
        limit = f"[github] max_connections = {self.max_connections}"
        waiter.acquired.errback(error_responses.overloaded(limit, _RETRY_AFTER_S))
