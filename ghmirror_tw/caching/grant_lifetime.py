"""The lifetime of a grant in the store."""

from __future__ import annotations

from typing import Final

from ghmirror_tw.github.credentials import lifetime_s, token_expires_at, token_in
from ghmirror_tw.http.fields import Fields

#: A grant is stored for a day at least, even if stale responses need it for less, in seconds.
SHORTEST_LIFETIME_S: Final = 86_400.0


def grant_expires_at(
    sent: Fields, fields: Fields, requested_at: float, stale_limit_s: float
) -> float:
    """Return the time until which a grant is stored, unless it is validated again.

    *sent* are the fields of the request, *fields* those of the response.

    Stale responses may need it for *stale_limit_s*. It does not outlive its token, so that grants
    of rotated tokens do not accumulate.
    """
    life_s = max(stale_limit_s, SHORTEST_LIFETIME_S)
    token_life_s = sent.memoised(_token_lifetime_s)
    if token_life_s is None:
        return requested_at + life_s
    life_s = min(life_s, token_life_s)
    # The token was valid for this request, even if it has expired by the clock of this machine.
    return min(requested_at + life_s, max(token_expires_at(fields), requested_at + 60.0))


def _token_lifetime_s(sent: Fields) -> float | None:
    """Return the longest lifetime of the token in *sent*; None: there is no token."""
    authorization = sent.get(b"authorization")
    return None if authorization is None else lifetime_s(token_in(authorization))
