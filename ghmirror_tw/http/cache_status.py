"""Fields for how the mirror made a response: `Cache-Status` (RFC 9211) and older ones."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final


class Outcome(StrEnum):
    """How a request ended; the values are those of metrics and logs.

    REVALIDATED, SHARED, EMPTY: GitHub answered 304, to the credential's own validator, to a
    computed entity-tag, to that of `[]`. MISS, CHANGED: 200, of what was unknown, or other than
    what was known. FRESH, STALE: from the store without GitHub's word, because it is recent, or
    because GitHub could not or would not say. PASS: forwarded and not stored. ERROR: our own.
    """

    REVALIDATED = "revalidated"
    SHARED = "shared"
    EMPTY = "empty"
    MISS = "miss"
    CHANGED = "changed"
    FRESH = "fresh"
    STALE = "stale"
    PASS = "pass"  # noqa: S105 - no password
    ERROR = "error"


#: What is always the same.
_FIXED: Final = {
    Outcome.REVALIDATED: b"ghmirror; fwd=stale; fwd-status=304; detail=revalidated",
    Outcome.SHARED: b"ghmirror; fwd=vary-miss; fwd-status=304; detail=shared",
    Outcome.EMPTY: b"ghmirror; fwd=uri-miss; fwd-status=304; detail=empty",
    Outcome.MISS: b"ghmirror; fwd=uri-miss; fwd-status=200; stored",
    Outcome.CHANGED: b"ghmirror; fwd=stale; fwd-status=200; stored; detail=changed",
    Outcome.FRESH: b"ghmirror; hit; detail=fresh",
}

#: Why a request went forward, where nobody says it and there is a status to report.
_FORWARD: Final = {Outcome.STALE: "stale", Outcome.PASS: "uri-miss", Outcome.ERROR: "uri-miss"}


_FROM_STORE: Final = frozenset(
    {Outcome.REVALIDATED, Outcome.SHARED, Outcome.EMPTY, Outcome.FRESH, Outcome.STALE}
)


#: Modes of responses that were stored.
_STORED_MODES: Final = {Outcome.MISS: b"MISS", Outcome.CHANGED: b"CHANGED"}

#: `sf-token` (RFC 8941, section 3.3.4), and what an `sf-string` can't hold (section 3.3.3).
_TOKEN: Final = re.compile(r"[A-Za-z*][A-Za-z0-9!#$%&'*+\-.^_`|~:/]*")
_UNPRINTABLE: Final = re.compile(r"[^ -~]")


def _bare_item(text: str) -> str:
    if _TOKEN.fullmatch(text):
        return text
    printable = _UNPRINTABLE.sub("?", text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{printable}"'


def cache_status(
    outcome: Outcome,
    *,
    status: int | None = None,
    detail: str | None = None,
    collapsed: bool = False,
    forward: str | None = None,
) -> bytes:
    """Return the `Cache-Status` value for *outcome* (RFC 9211, section 2).

    STALE, PASS and ERROR say more: *status* is GitHub's, None where it gave none; *detail* is the
    reason. *forward* is why GitHub was asked: `method`, `bypass` or `uri-miss` for PASS. STALE
    and ERROR without *status* and *forward* mean that GitHub was not asked at all. *collapsed*:
    the answer was to another request's question.
    """
    value = _FIXED.get(outcome) or _varying(outcome, status, detail, forward)
    return value + b"; collapsed" if collapsed else value


def _varying(
    outcome: Outcome, status: int | None, detail: str | None, forward: str | None
) -> bytes:
    parts = ["ghmirror"]
    if forward is not None or status is not None or outcome is Outcome.PASS:
        forward = forward or _FORWARD[outcome]
        parts.append(f"fwd={forward}")
        # What passes by on purpose says nothing of its status, which anybody can see.
        if status is not None and forward not in {"method", "bypass"}:
            parts.append(f"fwd-status={status}")
    elif outcome is Outcome.STALE:
        parts.append("hit")
    if detail is not None:
        parts.append(f"detail={_bare_item(detail)}")
    return "; ".join(parts).encode()


def x_cache(outcome: Outcome) -> bytes:
    """Return the `X-Cache` value: `HIT` for content that GitHub did not have to send."""
    return b"HIT" if outcome in _FROM_STORE else b"MISS"


def x_cache_mode(outcome: Outcome, *, forward: str | None = None, collapsed: bool = False) -> bytes:
    """Return the `X-Cache-Mode` value, in the words of ghproxy (kubernetes/test-infra, ghcache).

    Its clients count a response as free of charge for `COALESCED` and `REVALIDATED` alone.
    *forward* and *collapsed* are those of `cache_status`.
    """
    if collapsed:
        return b"COALESCED"
    if outcome in _FROM_STORE:
        return b"REVALIDATED"
    if forward in {"method", "bypass"}:
        return b"SKIP"
    return _STORED_MODES.get(outcome, b"NO-STORE")


def cache_status_fields(
    outcome: Outcome,
    *,
    status: int | None = None,
    detail: str | None = None,
    collapsed: bool = False,
    forward: str | None = None,
) -> tuple[tuple[bytes, bytes], ...]:
    """Return the fields for how the mirror made a response; see `cache_status`."""
    value = cache_status(
        outcome, status=status, detail=detail, collapsed=collapsed, forward=forward
    )
    return (
        (b"cache-status", value),
        (b"x-cache", x_cache(outcome)),
        (b"x-cache-mode", x_cache_mode(outcome, forward=forward, collapsed=collapsed)),
    )
