"""Which of the keys that were read have not changed since, as the servers tell.

A server remembers what was asked for, and tells once when that changes (Redis: client-side caching
with ``CLIENT TRACKING``, https://redis.io/docs/latest/develop/reference/client-side-caching).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from attrs import define, field

#: So many answers are watched at a time; before there are more, all are let go of.
MOST: Final = 8192


@define(eq=False)
class Tracked:
    """A question, and whether the answer to it still *holds*: nothing that it read has changed."""

    keys: tuple[bytes, ...]
    holds: bool = True


@define(eq=False)
class Tracking:
    """Takes what servers tell, for whoever has asked them.

    A question is put under watch before it is sent, so that nothing is missed that is told before
    the answer is whole.
    """

    most: int = MOST
    _watched: set[Tracked] = field(init=False, factory=set)
    _by_key: dict[bytes, set[Tracked]] = field(init=False, factory=dict)

    def begin(self, keys: tuple[bytes, ...]) -> Tracked:
        """Put a question about *keys* under watch."""
        if len(self._watched) >= self.most:
            self.changed(None)
        tracked = Tracked(keys)
        self._watched.add(tracked)
        for key in keys:
            self._by_key.setdefault(key, set()).add(tracked)
        return tracked

    def end(self, tracked: Tracked) -> None:
        """Watch it no more: its answer does not hold."""
        tracked.holds = False
        if tracked not in self._watched:
            return
        self._watched.remove(tracked)
        for key in tracked.keys:
            of_key = self._by_key[key]
            of_key.remove(tracked)
            if not of_key:
                del self._by_key[key]

    def changed(self, keys: Iterable[bytes] | None) -> None:
        """Take note that *keys* have changed, or that anything may have: None."""
        by_key = self._by_key
        if not by_key:
            return
        for key in list(by_key) if keys is None else keys:
            for tracked in tuple(by_key.get(key, ())):
                self.end(tracked)
