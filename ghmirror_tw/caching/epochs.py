"""Epochs: what permits a stored response without a request to GitHub.

Such a response (``fresh``, ``stale``) needs a permission. The store must contain it: the absence
of a refusal is no permission.

- **Epoch.** A random number for each token, in the store that all replicas share. A grant
  has the epoch that was current when its request was sent. It permits a response while that epoch
  is the current one. A write by the token and a 401 replace the epoch. So they end the
  permission of all earlier grants at once, independent of any clock. A lost epoch ends it as well.
  An epoch is written at once or never: after a failure another one is generated, since other
  replicas may have replaced the epoch meanwhile.
- **History.** A random number for the content of the shared store (see `loss_detection`). An epoch
  belongs to one history; a token has one epoch at a time, of any history. If the store restarts,
  is emptied, is restored from an earlier copy or gets another primary, refusals may be lost. So a
  new history begins, and all epochs end.
- **Refusal.** The end of a grant is stored for one key, and the same step removes the grant. A 403,
  404, 410 or 451 ends it, and so does any other response that neither confirms nor replaces the
  grant: a 200 that is not storable, a 301, a 422. A refusal also outweighs a grant that is stored
  later, if the grant's request was sent earlier (see `hybrid_clock`).
- **Settled.** After an interruption another replica may have refusals that it could not store. No
  such response is sent until all replicas have stored theirs. If one has not within `SETTLING_S`,
  a new history begins.

A grant without permission still has validators, and GitHub decides whether they match.
"""

from __future__ import annotations

from secrets import token_bytes
from typing import Final

#: The time after an interruption in which other replicas may still store refusals, in seconds.
SETTLING_S: Final = 10.0
_EPOCH_BYTES: Final = 8

#: The first byte of an epoch whose token GitHub had not accepted.
_UNACCEPTED: Final = b"?"


def new_epoch(*, accepted: bool = True) -> bytes:
    """Return a new random epoch.

    *accepted*: GitHub is known to have accepted the token (see `acceptance_evidence`).
    """
    return token_bytes(_EPOCH_BYTES) if accepted else _UNACCEPTED + token_bytes(_EPOCH_BYTES)


def epoch_shows_acceptance(epoch: bytes) -> bool:
    """Return whether GitHub had accepted the token when its epoch began.

    A write with an invented token begins an epoch, too, if its response is lost.
    """
    return len(epoch) <= _EPOCH_BYTES
