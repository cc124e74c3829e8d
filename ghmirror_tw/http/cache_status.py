"""The fields that show the outcome of a request: `Cache-Status` (RFC 9211) and older ones."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from ghmirror_tw.http.outcomes import Outcome

#: The whole values of outcomes whose parameters are always the same.
_FIXED: Final = {
    Outcome.REVALIDATED: b"ghmirror; fwd=stale; fwd-status=304; detail=revalidated",
    Outcome.SHARED: b"ghmirror; fwd=vary-miss; fwd-status=304; detail=shared",
    Outcome.EMPTY: b"ghmirror; fwd=uri-miss; fwd-status=304; detail=empty",
    Outcome.MISS: b"ghmirror; fwd=uri-miss; fwd-status=200; stored",
    Outcome.CHANGED: b"ghmirror; fwd=stale; fwd-status=200; stored; detail=changed",
    Outcome.FRESH: b"ghmirror; hit; detail=fresh",
    Outcome.NEGATIVE: b"ghmirror; hit; detail=negative",
}

#: The value of REVALIDATED where GitHub confirmed a date.
_DATED: Final = b"ghmirror; fwd=stale; fwd-status=304; detail=dated"

#: The reason of `fwd` where the caller has none and there is a status.
_FORWARD: Final = {Outcome.STALE: "stale", Outcome.PASS: "uri-miss", Outcome.ERROR: "uri-miss"}


_FROM_STORE: Final = frozenset(
    {
        *(Outcome.REVALIDATED, Outcome.SHARED, Outcome.EMPTY),
        *(Outcome.FRESH, Outcome.NEGATIVE, Outcome.STALE),
    }
)


#: Modes of responses that were stored.
_STORED_MODES: Final = {Outcome.MISS: b"MISS", Outcome.CHANGED: b"CHANGED"}

#: `sf-token` (RFC 8941, section 3.3.4), and bytes that `sf-string` excludes (section 3.3.3).
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

    The *detail* of REVALIDATED is ``dated`` where GitHub confirmed a date instead of an entity-tag.
    STALE, PASS and ERROR have more parameters: *status* of GitHub's response, *detail* for the
    reason, and *forward* for the reason of forwarding (`method`, `bypass` or `uri-miss`). STALE and
    ERROR with neither *status* nor *forward* were not forwarded. *collapsed*: the request shared
    the response to another request.
    """
    fixed = _DATED if detail == "dated" else _FIXED.get(outcome)
    value = fixed or _varying(outcome, status, detail, forward)
    return value + b"; collapsed" if collapsed else value


def _varying(
    outcome: Outcome, status: int | None, detail: str | None, forward: str | None
) -> bytes:
    parts = ["ghmirror"]
    if forward is not None or status is not None or outcome is Outcome.PASS:
        forward = forward or _FORWARD[outcome]
        parts.append(f"fwd={forward}")
        # The status of a request that bypassed the cache is that of the response itself.
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
    """Return the `X-Cache-Mode` value of ghproxy (kubernetes/test-infra, ghcache).

    Its clients count only `COALESCED` and `REVALIDATED` responses as free of charge.
    *forward* and *collapsed* are those of `cache_status`.
    """
    if collapsed:
        return b"COALESCED"
    if outcome in _FROM_STORE:
        return b"REVALIDATED"
    if forward in {"method", "bypass"}:
        return b"SKIP"
    return _STORED_MODES.get(outcome, b"NO-STORE")


@lru_cache(256)
def cache_status_fields(
    outcome: Outcome,
    *,
    status: int | None = None,
    detail: str | None = None,
    collapsed: bool = False,
    forward: str | None = None,
) -> tuple[tuple[bytes, bytes], ...]:
    """Return all three fields; see `cache_status`."""
    value = cache_status(
        outcome, status=status, detail=detail, collapsed=collapsed, forward=forward
    )
    return (
        (b"cache-status", value),
        (b"x-cache", x_cache(outcome)),
        (b"x-cache-mode", x_cache_mode(outcome, forward=forward, collapsed=collapsed)),
    )
