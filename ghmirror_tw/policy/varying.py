"""What a stored response depends on besides the cache key (RFC 9111, section 4.1).

`Vary` of GitHub's names fields of the key, the credential, and fields that no storable request is
forwarded with. A balancer before an Enterprise server adds others. Of those only `User-Agent` can
differ between requests that GitHub gets (see `forwarding`): a grant carries a hash of its value
where `Vary` names it, and counts only for requests with the same one.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Final

from attrs import evolve

from ghmirror_tw.policy.fields import Fields, tokens
from ghmirror_tw.policy.records import Known

#: Fields of requests as GitHub gets them, beyond the key and the credential, that clients choose.
_CHOSEN: Final = (b"user-agent",)


@lru_cache(256)
def _named(vary: bytes) -> tuple[bytes, ...]:
    listed = tokens(vary)
    return tuple([name for name in _CHOSEN if name in listed])


def beyond_key(response: Fields) -> tuple[bytes, ...]:
    """Return the fields that a *response* depends on though they are not in the cache key."""
    vary = response.combined(b"vary")
    return () if vary is None else _named(vary)


def varied(sent: Fields, *responses: Fields) -> bytes | None:
    """Return what a grant carries of the fields that were *sent*; None: nothing that differs.

    *responses* are the fields of the stored response and of the one that has confirmed it.
    """
    names = sorted({name for each in responses for name in beyond_key(each)})
    return _hashed(tuple(names), sent) if names else None


def _hashed(names: tuple[bytes, ...], sent: Fields) -> bytes:
    hashed = hashlib.sha256()
    for name in names:
        value = sent.combined(name)
        hashed.update(b"-" if value is None else b"%d:%s" % (len(value), value))
    return b",".join(names) + b"=" + hashed.hexdigest()[:32].encode("ascii")


def known_for(sent: Fields, known: Known) -> Known:
    """Return what is *known* for a request with the fields *sent*: without another one's grant."""
    grant = known.grant
    if grant is None or grant.varied is None:
        return known
    names = tuple(grant.varied.partition(b"=")[0].split(b","))
    return known if _hashed(names, sent) == grant.varied else evolve(known, grant=None)
