"""Bounded tables that evict the least recently used entry (LRU).

In those by credential, made-up credentials evict only entries of each other.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from itertools import chain
from typing import Final, Generic, TypeVar

from attrs import define, field

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

#: The largest number of entries, and of those of credentials that GitHub has not accepted yet.
MAX_KNOWN: Final = 10_000
MAX_UNKNOWN: Final = 200


def store_recent(table: OrderedDict[K, V], key: K, value: V, most: int) -> tuple[K, V] | None:
    """Store a value as the most recent one of *most*; return the entry that it evicts, or None."""
    table[key] = value
    table.move_to_end(key)
    return table.popitem(last=False) if len(table) > most else None


@define(eq=False)
class CredentialTable(Generic[K, V]):
    """A table with two bounded parts, each of which evicts its own least recently stored entry.

    The small part is for unknown credentials, those that GitHub has not accepted yet: a client can
    make up any number of them.
    """

    most: int = MAX_KNOWN
    most_unknown: int = MAX_UNKNOWN
    _known: OrderedDict[K, V] = field(init=False, factory=OrderedDict)
    _unknown: OrderedDict[K, V] = field(init=False, factory=OrderedDict)

    def get(self, key: K) -> V | None:
        """Return the value of a key, or None."""
        value = self._known.get(key)
        return self._unknown.get(key) if value is None and self._unknown else value

    def put(self, key: K, value: V, *, known: bool) -> tuple[K, V] | None:
        """Store a value; return the entry that it evicts, or None.

        *known*: GitHub has accepted the credential. An entry in the part of known ones stays there.
        """
        if known or key in self._known:
            self._unknown.pop(key, None)
            return store_recent(self._known, key, value, self.most)
        return store_recent(self._unknown, key, value, self.most_unknown)

    def touch(self, key: K) -> None:
        """Make an entry the most recent one of its part."""
        for part in (self._known, self._unknown):
            if key in part:
                part.move_to_end(key)

    def pop(self, key: K) -> V | None:
        """Remove a key; return its value, or None."""
        value, other = self._known.pop(key, None), self._unknown.pop(key, None)
        return other if value is None else value

    def items(self) -> Iterator[tuple[K, V]]:
        """Return all entries."""
        return chain(self._known.items(), self._unknown.items())

    def __contains__(self, key: object) -> bool:
        return key in self._known or key in self._unknown

    def __iter__(self) -> Iterator[K]:
        return chain(self._known, self._unknown)

    def __len__(self) -> int:
        return len(self._known) + len(self._unknown)
