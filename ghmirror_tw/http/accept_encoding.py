"""Negotiation of the gzip coding with a client (RFC 9110, section 12.5.3)."""

from __future__ import annotations

from functools import lru_cache

from ghmirror_tw.http.fields import Fields, tokens


def _weight(parameters: list[bytes]) -> float:
    for parameter in parameters:
        name, _, value = parameter.strip().partition(b"=")
        if name.strip() == b"q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def accepts_gzip(fields: Fields) -> bool:
    """Tell whether gzip is acceptable, with a weight of at least that of no coding."""
    return fields.memoised(_accepts_gzip)


def _accepts_gzip(fields: Fields) -> bool:
    value = fields.combined(b"accept-encoding")
    if value is None:
        return False
    weights: dict[bytes, float] = {}
    for member in tokens(value):
        coding, *parameters = member.split(b";")
        weights[coding.strip()] = _weight(parameters)
    gzip = weights.get(b"gzip", weights.get(b"x-gzip", weights.get(b"*", 0.0)))
    return gzip > 0.0 and gzip >= weights.get(b"identity", 0.0)


@lru_cache(256)
def vary_with_accept_encoding(vary: bytes | None) -> bytes:
    """Return *vary* with `Accept-Encoding` in it."""
    if vary is None:
        return b"Accept-Encoding"
    if {b"*", b"accept-encoding"} & set(tokens(vary)):
        return vary
    return vary + b", Accept-Encoding"
