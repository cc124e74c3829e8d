"""Evidence that GitHub has accepted a credential.

A client can invent credentials. The rate limiter gives fewer permits to a credential without such
evidence.
"""

from __future__ import annotations

from typing import Final

from ghmirror_tw.caching.epochs import epoch_shows_acceptance
from ghmirror_tw.caching.records import Known
from ghmirror_tw.github.credentials import is_validated

_NOT_MODIFIED: Final = 304


def response_shows_acceptance(status: int, authorization: bytes | None) -> bool:
    """Return whether a response with *status* shows that GitHub has accepted a credential.

    GitHub responds with 401 to an invalid credential, for every target. It ignores `Authorization`
    with an unknown scheme, and such a response shows nothing.
    """
    if not (200 <= status < 300 or status == _NOT_MODIFIED):  # noqa: PLR2004
        return False
    return authorization is not None and is_validated(authorization)


def lookup_shows_acceptance(known: Known) -> bool | None:
    """Return whether a look-up shows that GitHub has accepted the credential; None: undecided.

    A grant of the current epoch shows it, and so does an epoch that began after a successful
    response. It is undecided if the primary did not respond, or if the grant has another epoch,
    as after a restore or a 401.
    """
    if known.grant is not None:
        return True if known.permits else None
    if known.epoch is not None and epoch_shows_acceptance(known.epoch):
        return True
    return False if known.current else None
