"""Detects 304s that cost quota. GitHub documents that they cost none.

`X-RateLimit-Remaining` proves a charge under two conditions. It is exactly one less than in the
response before, and no other request of the same token was under way in between.
"""

from __future__ import annotations

from typing import Final

from attrs import define, field

from ghmirror_tw.runtime.bounded_tables import CredentialTable

#: GitHub has some twenty resources; beyond this number, those of a token are dropped.
_MOST_RESOURCES: Final = 64

#: How long a value of `X-RateLimit-Remaining` is used while other replicas may send requests of
#: the same token, in seconds.
_SHARED_S: Final = 5.0


@define(eq=False)
class _Token:
    """The requests and quotas of one token.

    *under_way*: how many requests have no response yet. *mixed*: some of them overlap, so that the
    order in which GitHub counted them is unknown. *remaining*: by resource, the last
    `X-RateLimit-Remaining` and `X-RateLimit-Reset`, and when they were received.
    """

    under_way: int = 0
    mixed: bool = False
    remaining: dict[str, tuple[int, int, float]] = field(factory=dict)


@define(eq=False)
class ChargeDetector:
    """Tracks the remaining quota of each token.

    The caller notes each request when it is `sent` and has `ended`, and between them its response.
    """

    tokens: CredentialTable[str, _Token] = field(init=False, factory=CredentialTable)

    def note_sent(self, token: str, *, accepted: bool = True) -> None:
        """Note that a request is sent; *accepted*: GitHub has accepted the token."""
        state = self.tokens.get(token) or _Token()
        self.tokens.put(token, state, accepted=accepted)
        state.under_way += 1
        state.mixed = state.mixed or state.under_way > 1

    def note_response(  # noqa: PLR0913 - fields of the response, and when it was received
        self, token: str, resource: str, remaining: int, reset: int, now: float, *, alone: bool
    ) -> bool:
        """Note the remaining quota; return whether it proves that this request was charged.

        *alone*: no other replica sends requests of this token.
        """
        state = self.tokens.get(token)
        if state is None or state.mixed:
            return False
        before = state.remaining.get(resource)
        if before is None and len(state.remaining) >= _MOST_RESOURCES:
            state.remaining.clear()
        state.remaining[resource] = remaining, reset, now
        if before is None or not (alone or now - before[2] < _SHARED_S):
            return False
        return before[:2] == (remaining + 1, reset)

    def note_end(self, token: str, *, responded: bool) -> None:
        """Note that a request has ended; if not *responded*, it may have been charged."""
        state = self.tokens.get(token)
        if state is None or not state.under_way:
            return  # its record was evicted meanwhile
        state.under_way -= 1
        if state.mixed or not responded:
            state.remaining.clear()
        if not state.under_way:
            state.mixed = False
