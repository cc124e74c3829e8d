"""The outcome of a request: how the mirror made its response, in fields, metrics and logs."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """The outcome of a request; the values are those of metrics and logs.

    REVALIDATED, SHARED, EMPTY: a 304 of GitHub to the credential's own validator, to a computed
    entity-tag, to that of `[]`. MISS, CHANGED: a 200, without or with an earlier stored response.
    FRESH, STALE: from the store without validation, since the response is recent, or since GitHub
    is unavailable or limits the credential. NEGATIVE: a recent 404, 410 or 301, repeated. PASS:
    forwarded and not stored. ERROR: the mirror's.
    """

    REVALIDATED = "revalidated"
    SHARED = "shared"
    EMPTY = "empty"
    MISS = "miss"
    CHANGED = "changed"
    FRESH = "fresh"
    NEGATIVE = "negative"
    STALE = "stale"
    PASS = "pass"  # noqa: S105 - no password
    ERROR = "error"
