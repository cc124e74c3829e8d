"""Which of the keys that were read have not changed since, as the servers tell.

A server remembers what was asked for, and tells once when that changes (Redis: client-side caching
with ``CLIENT TRACKING``, https://redis.io/docs/latest/develop/reference/client-side-caching).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred

from ghmirror_tw.redis.together import together

#: So many answers are watched at a time.
MOST: Final = 4096


@define(eq=False)
class Tracked:
    """A question, and whether the answer to it still *holds*: nothing has changed that matters.

    *sources* tell of that: each of them is called with a time in seconds, and fires when all has
    been heard that was told up to now.
    """

    keys: tuple[bytes, ...]
    holds: bool = True
    sources: list[Callable[[float], Deferred[Any]]] = field(factory=list)

    def heard(self, timeout_s: float) -> Deferred[Any]:
        """Fire when what has changed up to now has been heard of; it fails as questions do."""
        if len(self.sources) == 1:
            return self.sources[0](timeout_s)
        return Deferred.fromCoroutine(together([hear(timeout_s) for hear in self.sources]))


@define(eq=False)
class Tracking:
    """Takes what servers tell, for whoever has asked them.

    A question is put under watch before it is sent, so that nothing is missed that is told before
    the answer is whole. Of more than *most*, the oldest are let go of.
    """

    most: int = MOST
    _watched: dict[Tracked, None] = field(init=False, factory=dict)
    _by_key: dict[bytes, set[Tracked]] = field(init=False, factory=dict)

    def begin(self, keys: tuple[bytes, ...]) -> Tracked:
        """Put a question about *keys* under watch."""
        if len(self._watched) >= self.most:
            self.end(next(iter(self._watched)))
        tracked = Tracked(keys)
        self._watched[tracked] = None
        for key in keys:
            self._by_key.setdefault(key, set()).add(tracked)
        return tracked

    def end(self, tracked: Tracked) -> None:
        """Watch it no more: its answer does not hold."""
        tracked.holds = False
        if tracked not in self._watched:
            return
        del self._watched[tracked]
        for key in tracked.keys:
            of_key = self._by_key[key]
            of_key.remove(tracked)
            if not of_key:
                del self._by_key[key]

    def changed(self, keys: Iterable[bytes] | None) -> None:
        """Take note that *keys* have changed, or that anything may have: None."""
        if not self._watched:
            return
        for key in tuple(self._by_key) if keys is None else keys:
            for tracked in tuple(self._by_key.get(key, ())):
                self.end(tracked)
