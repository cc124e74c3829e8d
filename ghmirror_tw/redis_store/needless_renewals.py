"""Decides which confirmations need no write to Redis: those that would change only times.

A resource that is polled all the time is confirmed all the time. Its records in Redis are renewed
only after an interval, which saves Redis a script for each request.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any, Final

from attrs import fields

from ghmirror_tw.caching.records import Entry, Grant, Known


def _all_attributes_but(record: type, *names: str) -> attrgetter[tuple[Any, ...]]:
    return attrgetter(*[each.name for each in fields(record) if each.name not in names])


_lasting_of_grant: Final = _all_attributes_but(Grant, "requested_at", "validated_at", "expires_at")
_lasting_of_entry: Final = _all_attributes_but(Entry, "validated_at", "principal")


def is_listed(known: Known, entry: Entry) -> bool:
    """Return whether *known* lists *entry*, whenever and for whichever principal it was confirmed.

    *known* is the result of a look-up in Redis.
    """
    listed = known.entry_of(entry.digest)
    return listed is not None and _lasting_of_entry(entry) == _lasting_of_entry(listed)


def is_recent(known: Known, grant: Grant, entry: Entry, interval_s: float) -> bool:
    """Return whether *known* has this grant and this entry, older by less than *interval_s*."""
    stored, listed = known.grant, known.entry_of(entry.digest)
    if stored is None or listed is None:
        return False
    expires_alike = grant.expires_at == stored.expires_at or (
        abs(grant.expires_at - stored.expires_at) < interval_s
    )
    return (
        expires_alike
        and grant.validated_at - stored.validated_at < interval_s
        and entry.validated_at - listed.validated_at < interval_s
        and _lasting_of_grant(grant) == _lasting_of_grant(stored)
        and _lasting_of_entry(entry) == _lasting_of_entry(listed)
    )
