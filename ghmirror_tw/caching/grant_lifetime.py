"""The lifetime of a grant in the store."""

from __future__ import annotations

from typing import Final

from ghmirror_tw.github.credentials import _EXPIRATION, _LIFETIMES_S, _time_of, token_in
from ghmirror_tw.http.fields import Fields

#: A grant is kept for a day at least, whatever stale answers need.
SHORTEST_LIFETIME_S: Final = 86_400.0


def grant_expires_at(
    authorization: bytes | None, fields: Fields, asked_at: float, stale_limit_s: float
) -> float:
    """Return until when a grant is worth keeping, unless it is confirmed again.

    As long as stale answers may need it, and a day at least; but not beyond the life of the
    token, which is known by how it begins, and which GitHub tells of others, since tokens that
    rotate must not pile up.
    """
    life_s = max(stale_limit_s, SHORTEST_LIFETIME_S)
    if authorization is None:
        return asked_at + life_s
    token = token_in(authorization)
    life_s = min([life_s, *(life for start, life in _LIFETIMES_S if token.startswith(start))])
    told = fields.get(_EXPIRATION)
    if told is None:
        return asked_at + life_s
    # A token that has ended, by a clock that differs, was good for this very question.
    return min(asked_at + life_s, max(_time_of(told), asked_at + 60.0))
