"""What shows that GitHub has accepted a credential.

A client can make up credentials; those that GitHub has not accepted get less (see `pacing`).
"""

from __future__ import annotations

from typing import Final

from ghmirror_tw.caching.key import SCHEMES_OF_TOKENS
from ghmirror_tw.caching.order import shows_acceptance
from ghmirror_tw.caching.records import Known

_NOT_MODIFIED: Final = 304


def accepts(status: int, authorization: bytes | None) -> bool:
    """Tell whether a response with *status* shows that GitHub has accepted a credential.

    GitHub responds with 401 to a credential that is not valid, whatever the target is. It ignores
    `Authorization` with a scheme that it does not know: the response shows nothing then.
    """
    if not (200 <= status < 300 or status == _NOT_MODIFIED):  # noqa: PLR2004
        return False
    return authorization is not None and is_checkable(authorization)


def is_checkable(authorization: bytes) -> bool:
    """Tell whether GitHub validates a credential with the scheme of *authorization*."""
    return authorization.partition(b" ")[0].lower() in SCHEMES_OF_TOKENS


def fleet_knows(known: Known) -> bool | None:
    """Tell by a look-up whether the fleet knows the credential: it has an epoch.

    None where the look-up cannot tell: the primary did not respond to it, or there is a grant of
    another epoch than the current one, as after a restore or a 401. An epoch shows it only where
    it began after a good response: not after a 401, or a write of which it is not known whether
    GitHub accepted the credential.
    """
    if known.grant is not None:
        return True if known.permits else None
    if known.epoch is not None and shows_acceptance(known.epoch):
        return True
    return False if known.current else None
