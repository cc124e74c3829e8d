"""What a 304 cost, as seen from what remains of the quota (GitHub: conditional requests are free).

`X-RateLimit-Remaining` proves a charge only where nothing else can have taken it: no other request
of the same token was under way since the response before, and exactly one is missing.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from attrs import define, field

_MOST: Final = 10_000
#: GitHub has some twenty resources; a token with more of them is forgotten.
_MOST_RESOURCES: Final = 64
#: Where other replicas may send requests of the same token, what remained is known for so long
#: only, in seconds.
_SHARED_S: Final = 5.0


@define(eq=False)
class _Token:
    """What is known of one token.

    *mixed*: requests have overlapped, so that nobody knows which response came of which state.
    *remaining*: what was left of each resource, until which reset, and when that was received.
    """

    under_way: int = 0
    mixed: bool = False
    remaining: dict[str, tuple[int, int, float]] = field(factory=dict)


@define(eq=False)
class Charges:
    """Follows what remains of each token's quotas.

    Each request is `sent` and `ended`; in between its response may be `received`.
    """

    _tokens: OrderedDict[str, _Token] = field(init=False, factory=OrderedDict)

    def sent(self, token: str) -> None:
        """Take note that a request is sent."""
        known = self._tokens.get(token)
        if known is None:
            known = self._tokens[token] = _Token()
            if len(self._tokens) > _MOST:
                self._tokens.popitem(last=False)
        else:
            self._tokens.move_to_end(token)
        known.under_way += 1
        known.mixed = known.mixed or known.under_way > 1

    def received(  # noqa: PLR0913 - what the response says, and when
        self, token: str, resource: str, remaining: int, reset: int, now: float, *, alone: bool
    ) -> bool:
        """Take note of what remains; return whether exactly this response has cost one.

        *alone*: no other replica sends requests of this token.
        """
        known = self._tokens.get(token)
        if known is None or known.mixed:
            return False
        before = known.remaining.get(resource)
        if before is None and len(known.remaining) >= _MOST_RESOURCES:
            known.remaining.clear()
        known.remaining[resource] = remaining, reset, now
        if before is None or not (alone or now - before[2] < _SHARED_S):
            return False
        return before[:2] == (remaining + 1, reset)

    def ended(self, token: str, *, answered: bool) -> None:
        """Take note that a request has ended; without an answer, it may have cost something."""
        known = self._tokens.get(token)
        if known is None:
            return
        known.under_way -= 1
        if known.mixed or not answered:
            known.remaining.clear()
        if not known.under_way:
            known.mixed = False
