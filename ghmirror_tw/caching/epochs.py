"""The order of grants and refusals, and what permits a response that GitHub does not confirm now.

Such a response (``fresh``, ``stale``) needs permission. A permission has to be found; it never
follows from the absence of a refusal:

- **Epoch.** A random number for each credential, in the store that all replicas share. A grant
  carries the epoch that was current when its request was sent. It permits a response while that
  epoch is the current one. A write by the credential and a 401 replace the epoch, so they end the
  permission of all earlier grants at once, whatever any clock shows. A lost epoch ends it as well.
  An epoch is written at once or never. If that fails, another one takes its place later, since
  other replicas may have replaced the epoch meanwhile.
- **History.** A random number for the content of the shared store (see ``store.redis.history``).
  An epoch belongs to one history. If the store restarts, is emptied, is restored from an earlier
  copy or gets another primary, refusals may be lost. So a new history begins, and all epochs end.
- **Refusal.** A 403, 404, 410 or 451 for one key is stored, and the same step removes the grant.
  A refusal also outweighs a grant that is stored later, if the grant's request was sent earlier.
- **Settled.** After an interruption another replica may hold refusals that it could not store. No
  such response is sent until all replicas have stored theirs. If one has not within `SETTLING_S`,
  a new history begins.

Without permission a grant still has validators, and GitHub decides whether they match.

Grants and refusals of one key are ordered by the times at which their requests were sent, on a
hybrid logical clock (Kulkarni and others: Logical Physical Clocks, 2014): the time of this machine,
but later than all times that were read. Before a request is sent, the records of its key and
credential are read. So the times of one key and credential rise in the whole fleet, however its
clocks differ. A time more than `MOST_AHEAD_S` in the future is wrong: it counts as now, and does
not advance the clock.
"""

from __future__ import annotations

from secrets import token_bytes
from typing import Final

#: How long after an interruption other replicas may still store refusals, in seconds.
SETTLING_S: Final = 10.0
_EPOCH_BYTES: Final = 8

#: Begins the epochs of credentials that GitHub had not accepted.
_UNACCEPTED: Final = b"?"


def new_epoch(*, accepted: bool = True) -> bytes:
    """Return a new random epoch.

    *accepted*: GitHub has accepted the credential, as far as is known (see `acceptance`).
    """
    return token_bytes(_EPOCH_BYTES) if accepted else _UNACCEPTED + token_bytes(_EPOCH_BYTES)


def epoch_shows_acceptance(epoch: bytes) -> bool:
    """Tell whether GitHub had accepted the credential when its epoch began.

    A write with a made-up credential begins an epoch, too, where no response shows that it is one.
    """
    return len(epoch) <= _EPOCH_BYTES
