"""What was made lately and may be wanted again, so that it need not be made anew."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

from attrs import define, field

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@define(eq=False)
class Lately(Generic[K, V]):
    """Holds the last *most* values that were put, and up to so many before them.

    What went is made again by who wants it. None stands for nothing.
    """

    most: int
    _recent: dict[K, V] = field(init=False, factory=dict)
    _older: dict[K, V] = field(init=False, factory=dict)

    def put(self, key: K, value: V) -> None:
        """Hold *value*."""
        if key not in self._recent and len(self._recent) >= self.most:
            self._recent, self._older = {}, self._recent
        self._recent[key] = value

    def get(self, key: K) -> V | None:
        """Return what was put lately, or None."""
        value = self._recent.get(key)
        return self._older.get(key) if value is None else value

    def pop(self, key: K) -> V | None:
        """Remove a key; return what was put lately, or None."""
        value, older = self._recent.pop(key, None), self._older.pop(key, None)
        return older if value is None else value
