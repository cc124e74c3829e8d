"""Bounded tables that evict the least recently used entry (LRU).

In `CredentialTable`, made-up credentials evict only entries of each other.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from itertools import chain
from typing import Final, Generic, TypeVar

from attrs import define, field

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

#: The largest number of entries, and of those of unaccepted credentials.
MAX_ACCEPTED: Final = 10_000
MAX_UNACCEPTED: Final = 200


def store_recent(table: OrderedDict[K, V], key: K, value: V, most: int) -> tuple[K, V] | None:
    """Store a value as the most recent one of *most*; return the entry that it evicts, or None."""
    table[key] = value
    table.move_to_end(key)
    return table.popitem(last=False) if len(table) > most else None


@define(eq=False)
class CredentialTable(Generic[K, V]):
    """A table with two bounded parts, each of which evicts its own least recently stored entry.

    The small part is for unaccepted credentials, to which GitHub has sent no successful response: a
    client can make up any number of them.
    """

    most: int = MAX_ACCEPTED
    most_unaccepted: int = MAX_UNACCEPTED
    accepted: OrderedDict[K, V] = field(init=False, factory=OrderedDict)
    _unaccepted: OrderedDict[K, V] = field(init=False, factory=OrderedDict)

    def get(self, key: K) -> V | None:
        """Return the value of a key, or None."""
        value = self.accepted.get(key)
        return self._unaccepted.get(key) if value is None and self._unaccepted else value

    def put(self, key: K, value: V, *, accepted: bool) -> tuple[K, V] | None:
        """Store a value; return the entry that it evicts, or None.

        *accepted*: GitHub has accepted the credential. An entry of an accepted one stays accepted.
        """
        if accepted or key in self.accepted:
            self._unaccepted.pop(key, None)
            return store_recent(self.accepted, key, value, self.most)
        return store_recent(self._unaccepted, key, value, self.most_unaccepted)

    def touch(self, key: K) -> None:
        """Make an entry the most recent one of its part."""
        for part in (self.accepted, self._unaccepted):
            if key in part:
                part.move_to_end(key)

    def pop(self, key: K) -> V | None:
        """Remove a key; return its value, or None."""
        value, other = self.accepted.pop(key, None), self._unaccepted.pop(key, None)
        return other if value is None else value

    def items(self) -> Iterator[tuple[K, V]]:
        """Return all entries."""
        return chain(self.accepted.items(), self._unaccepted.items())

    def __contains__(self, key: object) -> bool:
        return key in self.accepted or key in self._unaccepted

    def __iter__(self) -> Iterator[K]:
        return chain(self.accepted, self._unaccepted)

    def __len__(self) -> int:
        return len(self.accepted) + len(self._unaccepted)
