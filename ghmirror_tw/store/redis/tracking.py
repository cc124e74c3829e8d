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
    _by_key: dict[bytes, set[Tracked]] = field(init=False, factory=dict)
    _count: int = field(init=False, default=0)

    def begin(self, keys: tuple[bytes, ...]) -> Tracked:
        """Put a question about *keys* under watch."""
        if self._count >= self.most:
            self.changed(None)
        tracked = Tracked(keys)
        for key in keys:
            self._by_key.setdefault(key, set()).add(tracked)
        self._count += 1
        return tracked

    def end(self, tracked: Tracked) -> None:
        """Watch it no more: its answer does not hold."""
        tracked.holds = False
        for key in tracked.keys:
            of_key = self._by_key.get(key)
            if of_key is None or tracked not in of_key:
                return
            of_key.remove(tracked)
            if not of_key:
                del self._by_key[key]
        self._count -= 1

    def changed(self, keys: Iterable[bytes] | None) -> None:
        """Take note that *keys* have changed, or that anything may have: None."""
        by_key = self._by_key
        if not by_key:
            return
        for key in list(by_key) if keys is None else keys:
            for tracked in tuple(by_key.get(key, ())):
                self.end(tracked)
