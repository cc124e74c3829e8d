"""A cache of recent values in two generations: an approximate LRU for the price of a dict."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

from attrs import define, field

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@define(eq=False)
class RecentCache(Generic[K, V]):
    """Stores the last *max_recent* values at least, and twice as many at most.

    Evicted values can be computed again. None is no value.
    """

    max_recent: int
    _recent: dict[K, V] = field(init=False, factory=dict)
    _older: dict[K, V] = field(init=False, factory=dict)

    def put(self, key: K, value: V) -> None:
        """Store a value."""
        if key not in self._recent and len(self._recent) >= self.max_recent:
            self._recent, self._older = {}, self._recent
        self._recent[key] = value

    def get(self, key: K) -> V | None:
        """Return the value of a key, or None."""
        value = self._recent.get(key)
        return self._older.get(key) if value is None else value

    def use(self, key: K) -> V | None:
        """Return the value of a key, or None; it counts as stored now."""
        value = self._recent.get(key)
        if value is None and (value := self._older.get(key)) is not None:
            self.put(key, value)
        return value

    def pop(self, key: K) -> V | None:
        """Remove a key; return its value, or None."""
        value, older = self._recent.pop(key, None), self._older.pop(key, None)
        return older if value is None else value
