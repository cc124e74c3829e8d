"""Records and facts that decisions are made from."""

from __future__ import annotations

from typing import Final

from attrs import evolve

from ghmirror_tw.caching.decision import DecisionFacts
from ghmirror_tw.caching.records import Entry, Grant, Known

NOW: Final = 1000.0
FRESH_FOR_S: Final = 60.0
EPOCH: Final = b"12345678"


def grant(age_s: float = 0.0, **more: object) -> Grant:
    """Return a grant that was validated *age_s* seconds ago, in the current epoch."""
    values = {"etag": b'"own"', "last_modified": None, "link": None, "epoch": EPOCH, **more}
    return Grant(
        "own",
        requested_at=NOW - age_s - 1,
        validated_at=NOW - age_s,
        **values,  # type: ignore[arg-type]
    )


def entry(digest: str, **more: object) -> Entry:
    """Return an entry of the recency list, which a 200 has brought."""
    values = {"received_at": NOW, "validated_at": NOW, "shareable": True, "size": 3, **more}
    return Entry(digest, **values)  # type: ignore[arg-type]


# What is stored for the key and the credential.
NOTHING: Final = Known()
RECENT: Final = Known(grant=grant(10.0), epoch=EPOCH)
OLD: Final = Known(grant=grant(100.0), epoch=EPOCH)
FROM_THE_FUTURE: Final = Known(grant=grant(-10.0), epoch=EPOCH)
LAGGING: Final = evolve(RECENT, current=False)
WRITTEN_SINCE: Final = evolve(RECENT, epoch=b"after it")
OF_OTHERS: Final = Known(entries=(entry("theirs"),))
REFUSED: Final = Known(refused_at=NOW - 5)
UNSTORABLE: Final = Known(unstorable=True)

# The request.
GET: Final = DecisionFacts()
HEAD: Final = DecisionFacts(head=True)
NO_CACHE: Final = DecisionFacts(requires_validation=True)
INTERNAL: Final = DecisionFacts(internal=True)
UNKNOWN: Final = DecisionFacts(accepted=False)
