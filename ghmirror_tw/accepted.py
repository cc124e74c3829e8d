"""The credentials that GitHub has accepted, as far as this replica knows.

A client can make up credentials. All that GitHub has not accepted yet share one small part of what
the mirror has (see `policy.bounded`, `pacing`), so that they take nothing from the others.
"""

from __future__ import annotations

from typing import Final

from attrs import define, field

#: How many recently used ones are known at least. Others need one good response again.
CAPACITY: Final = 20_000


@define(eq=False)
class AcceptedCredentials:
    """Names of tokens that had a good response, in two generations of at most *capacity*.

    When the recent generation is full, it becomes the older one; a token of the older one that is
    used again becomes recent.
    """

    capacity: int = CAPACITY
    _recent: set[str] = field(init=False, factory=set)
    _older: set[str] = field(init=False, factory=set)

    def knows(self, token: str) -> bool:
        """Tell whether GitHub has accepted a token."""
        if token in self._recent:
            return True
        if token not in self._older:
            return False
        self.accept(token)
        return True

    def accept(self, token: str) -> None:
        """Note that GitHub has accepted a token."""
        if len(self._recent) >= self.capacity:
            self._recent, self._older = set(), self._recent
        self._recent.add(token)

    def forget(self, token: str) -> bool:
        """Note that GitHub does not accept a token; return whether it did before."""
        known = token in self._recent or token in self._older
        self._recent.discard(token)
        self._older.discard(token)
        return known
