"""The credentials that GitHub has accepted, as far as this replica knows.

A client can make up credentials. Those that GitHub has not accepted share a few entries in tables
(`policy.bounded`) and a few slots for requests (`pacing`), so that they take none from the others.
"""

from __future__ import annotations

from typing import Final

from attrs import define, field

from ghmirror_tw.runtime.recent_cache import Lately

#: How many recently used ones are known at least. Any other needs one good response again.
CAPACITY: Final = 20_000


@define(eq=False)
class AcceptedCredentials:
    """Names of tokens that GitHub has accepted, those that were used last."""

    _tokens: Lately[str, bool] = field(init=False, factory=lambda: Lately(CAPACITY))

    def knows(self, token: str) -> bool:
        """Tell whether GitHub has accepted a token."""
        known = self._tokens.get(token) is not None
        if known:
            self.accept(token)  # it was used again
        return known

    def accept(self, token: str) -> None:
        """Note that GitHub has accepted a token."""
        self._tokens.put(token, value=True)

    def forget(self, token: str) -> bool:
        """Note that GitHub does not accept a token; return whether it did before."""
        return self._tokens.pop(token) is not None
