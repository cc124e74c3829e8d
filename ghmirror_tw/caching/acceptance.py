"""What shows that GitHub has accepted a credential.

A client can make up credentials; those that GitHub has not accepted get less (see `pacing`).
"""

from __future__ import annotations

from typing import Final

from ghmirror_tw.caching.epochs import epoch_shows_acceptance
from ghmirror_tw.caching.records import Known
from ghmirror_tw.github.credentials import is_validated

_NOT_MODIFIED: Final = 304


def response_shows_acceptance(status: int, authorization: bytes | None) -> bool:
    """Tell whether a response with *status* shows that GitHub has accepted a credential.

    GitHub responds with 401 to a credential that is not valid, whatever the target is. It ignores
    `Authorization` with a scheme that it does not know: the response shows nothing then.
    """
    if not (200 <= status < 300 or status == _NOT_MODIFIED):  # noqa: PLR2004
        return False
    return authorization is not None and is_validated(authorization)


def lookup_shows_acceptance(known: Known) -> bool | None:
    """Tell by a look-up whether the fleet knows the credential: it has an epoch.

    None where the look-up cannot tell: the primary did not respond to it, or there is a grant of
    another epoch than the current one, as after a restore or a 401. An epoch shows it only where
    it began after a good response: not after a 401, or a write of which it is not known whether
    GitHub accepted the credential.
    """
    if known.grant is not None:
        return True if known.permits else None
    if known.epoch is not None and epoch_shows_acceptance(known.epoch):
        return True
    return False if known.current else None
