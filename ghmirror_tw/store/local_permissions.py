"""What a credential may see of a key: grants, refusals and negative responses in this process."""

from __future__ import annotations

from math import inf
from typing import Final

from attrs import define

from ghmirror_tw.caching.key import CacheKey
from ghmirror_tw.caching.records import Grant, NegativeResponse
from ghmirror_tw.store.compact_records import first_time, grant_of, negative_of, short
from ghmirror_tw.store.lru_records import LruRecords
from ghmirror_tw.store.record_kinds import GRANT, NEGATIVE, REFUSAL

#: Records that may permit a response without GitHub's confirmation (see `caching.epochs`).
_PERMITTING: Final = (GRANT, NEGATIVE)


@define(eq=False)
class LocalPermissions:
    """Records of a key and a credential among the *records* of a memory store.

    Of two of them, the one with the later request counts. What it outweighs is removed, since it
    may be evicted first.
    """

    records: LruRecords

    def grant(self, key: CacheKey, credential: str, since: float = -inf) -> Grant | None:
        """Return the grant, if its request was sent after *since*."""
        grant = self.records.use(short(GRANT, key.name, credential))
        return None if grant is None or first_time(grant) <= since else grant_of(grant)

    def refused_at(self, key: CacheKey, credential: str) -> float:
        """Return the time of the refused request; 0: there is no refusal."""
        if not self.records.refusals:
            return 0.0
        refusal = self.records.use(short(REFUSAL, key.name, credential))
        return 0.0 if refusal is None else first_time(refusal)

    def negative(self, key: CacheKey, credential: str) -> NegativeResponse | None:
        """Return the negative response."""
        negative = self.records.use(short(NEGATIVE, key.name, credential))
        return None if negative is None else negative_of(negative)

    def has_grant(self, key: CacheKey, credential: str) -> bool:
        """Return whether a grant is stored, without using it."""
        return short(GRANT, key.name, credential) in self.records

    def has_any(self, key: CacheKey, credential: str) -> bool:
        """Return whether a grant or a negative response is stored, without using it."""
        return any(short(kind, key.name, credential) in self.records for kind in _PERMITTING)

    def store_grant(self, key: CacheKey, credential: str, grant: Grant) -> None:
        """Store a grant, over older ones only."""
        name = short(GRANT, key.name, credential)
        old = self.records.peek(name)
        latest = 0.0 if old is None else first_time(old)
        # A grant that a refusal outweighs must not outlive it: it would be the one used last.
        if grant.requested_at > max(latest, self.refused_at(key, credential)):
            self.records.put(name, grant)
        self._end_negative(key, credential, grant.requested_at)

    def deny(self, key: CacheKey, credential: str, requested_at: float) -> None:
        """Store a refusal, and remove what it outweighs."""
        refused_at = max(requested_at, self.refused_at(key, credential))
        self.records.put(short(REFUSAL, key.name, credential), refused_at)
        name = short(GRANT, key.name, credential)
        grant = self.records.peek(name)
        if grant is not None and first_time(grant) <= requested_at:
            self.records.remove(name)
        self._end_negative(key, credential, requested_at)

    def _end_negative(self, key: CacheKey, credential: str, requested_at: float) -> None:
        """Remove an older negative response; what outweighs it may be evicted before it."""
        if not self.records.negatives:
            return
        name = short(NEGATIVE, key.name, credential)
        negative = self.records.peek(name)
        if negative is not None and first_time(negative) < requested_at:
            self.records.remove(name)

    def store_negative(self, key: CacheKey, credential: str, negative: NegativeResponse) -> None:
        """Store a negative response, if no record is of a later request."""
        kinds = NEGATIVE, REFUSAL, GRANT
        name, *others = [short(kind, key.name, credential) for kind in kinds]
        old, *later = map(self.records.peek, (name, *others))
        at = negative.requested_at
        if any(record is not None and first_time(record) > at for record in later):
            return
        if old is None or first_time(old) < at:
            self.records.put(name, negative)
