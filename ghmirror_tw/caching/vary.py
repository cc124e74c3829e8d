"""`Vary` beyond the cache key (RFC 9111, section 4.1).

GitHub's `Vary` names fields of the key, the credential, and fields that are not forwarded. A load
balancer before an Enterprise server may add others. Of those, only `User-Agent` can differ between
forwarded requests (see `forwarded_fields`). If `Vary` names it, the grant has a hash of its value,
and is used only for requests with the same value. A response with `Vary: *` is validated each time.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Final

from attrs import evolve

from ghmirror_tw.caching.key import length_prefixed
from ghmirror_tw.caching.records import Known, Representation
from ghmirror_tw.http.fields import Fields, tokens

#: Forwarded fields beyond the key and the credential whose values clients choose.
_CLIENT_CHOSEN: Final = (b"user-agent",)


@lru_cache(256)
def _named(vary: bytes) -> tuple[bytes, ...]:
    listed = tokens(vary)
    return tuple([name for name in _CLIENT_CHOSEN if name in listed])


def fields_beyond_key(response: Fields) -> tuple[bytes, ...]:
    """Return the request fields that `Vary` of a *response* names and the cache key lacks."""
    vary = response.combined(b"vary")
    return () if vary is None else _named(vary)


def variant_id(sent: Fields, *responses: Fields) -> bytes | None:
    """Return names and hash of the fields in *sent* by which a response varies; None: no field.

    *sent* are the fields of the forwarded request. *responses* are the fields of the stored
    response, and of the 304 that confirms it. The result is stored in the grant.
    """
    names: set[bytes] = set()
    for each in responses:
        names.update(fields_beyond_key(each))
    return _hashed(tuple(sorted(names)), sent) if names else None


def _hashed(names: tuple[bytes, ...], sent: Fields) -> bytes:
    hashed = hashlib.sha256()
    for name in names:
        hashed.update(length_prefixed(sent.combined(name)))
    return b",".join(names) + b"=" + hashed.hexdigest()[:32].encode("ascii")


def without_other_variant(sent: Fields, known: Known) -> Known:
    """Return *known* without its grant, if its variant differs from the one that *sent* selects."""
    grant = known.grant
    if grant is None or grant.varied is None:
        return known
    names = tuple(grant.varied.partition(b"=")[0].split(b","))
    return known if _hashed(names, sent) == grant.varied else evolve(known, grant=None)


def may_be_reused(stored: Representation) -> bool:
    """Return whether a representation may be sent without validation: not with `Vary: *`."""
    return b"*" not in stored.fields.listed(b"vary")
