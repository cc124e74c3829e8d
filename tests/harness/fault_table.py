"""The client's response for each fault of GitHub: the table that `test_fault_matrix` tests.

A cell is the status and the part of `Cache-Status` after the cache's name; `BROKEN` where all that
can be done is to close the connection.
"""

from __future__ import annotations

from itertools import product
from typing import Final

from attrs import evolve, frozen

from tests.fakes.github import FAULTS

#: The client detects the truncation of the response.
BROKEN: Final = "broken"
#: No connection can be made at all.
AWAY: Final = "away"

#: The stored records: a grant of this credential; another credential's representation; none.
HOLDINGS: Final = ("own", "other", "nothing")
METHODS: Final = ("GET", "HEAD", "PATCH")

Cell = tuple[str, str, str]


@frozen
class Row:
    """The outcomes of one fault, with and without an own grant of the credential."""

    own_get: str
    own_head: str
    bare_get: str
    bare_head: str
    write: str

    def cell(self, holding: str, method: str) -> str:
        """Return the expected outcome."""
        if method == "PATCH":
            return self.write
        own, head = holding == "own", method == "HEAD"
        if own:
            return self.own_head if head else self.own_get
        return self.bare_head if head else self.bare_get


def _both(own: str, bare: str, write: str) -> Row:
    return Row(own, own, bare, bare, write)


def _server_error(status: int) -> Row:
    stale = f"200 fwd=stale; fwd-status={status}; detail=server-error"
    own = f"{status} fwd=uri-miss; fwd-status={status}"
    return _both(stale, own, f"{status} fwd=method")


def _limit(status: int, reason: str) -> Row:
    return _both(
        f"200 fwd=stale; fwd-status={status}; detail={reason}",
        f"{status} fwd=uri-miss; fwd-status={status}",
        f"{status} fwd=method",
    )


_NO_RESPONSE: Final = _both(
    "200 fwd=stale; detail=broken-answer", "502 detail=broken-answer", "502 detail=broken-answer"
)
#: To HEAD there is no content that could be broken.
_HALF: Final = Row(
    own_get="200 fwd=stale; fwd-status=200; detail=broken-answer",
    own_head="200 fwd=uri-miss; fwd-status=200",
    bare_get="502 detail=broken-answer",
    bare_head="200 fwd=uri-miss; fwd-status=200",
    write=BROKEN,
)

#: Faults by name; that of a limit ends with its status.
ROWS: Final[dict[str, Row]] = {
    **{str(status): _server_error(status) for status in (500, 502, 503, 504)},
    "timeout": _both("200 fwd=stale; detail=timeout", "504 detail=timeout", "504 detail=timeout"),
    AWAY: _both(
        "200 fwd=stale; detail=connect-error",
        "502 detail=connect-error",
        "502 detail=connect-error",
    ),
    "refuse": _NO_RESPONSE,
    "reset": _NO_RESPONSE,
    "malformed": _NO_RESPONSE,
    "huge-field": _NO_RESPONSE,
    "reset-in-content": _HALF,
    "truncated": _HALF,
    # The first piece cannot be unpacked, and nothing of the response has been sent.
    "bad-gzip": evolve(_HALF, write="502 detail=broken-answer"),
    "idle-in-content": Row(
        # After `stale_after`, while the end of the response is still open.
        own_get="200 fwd=stale; detail=timeout",
        own_head="200 fwd=uri-miss; fwd-status=200",
        bare_get="504 detail=timeout",
        bare_head="200 fwd=uri-miss; fwd-status=200",
        write=BROKEN,
    ),
    **{
        f"{kind}-limit-{status}": _limit(
            status, "primary-limit" if kind == "primary" else "secondary-limit"
        )
        for kind, status in product(("primary", "secondary", "abuse"), (403, 429))
    },
}

#: Faults of the stand-in that are none of GitHub's, and why they are not in the table.
NO_TROUBLE: Final = {
    "slow": "a response in time; a late one is `timeout`",
    "no-etag": "a complete response that is not storable: see `tests/rules/test_storable.py`",
    "no-store": "a complete response that is not storable: see `tests/rules/test_storable.py`",
    "creation-limit": "it stops only what creates content: see `test_rules_limited`",
    "login-limit": "a limit with other words: see `tests/rules/test_limited_responses.py`",
    "unmetered-limit": "a limit by its words only: see `tests/rules/test_limited_responses.py`",
}

#: Cells that make no sense, and why.
LEFT_OUT: Final[dict[Cell, str]] = {}

CELLS: Final[dict[Cell, str]] = {
    (fault, holding, method): row.cell(holding, method)
    for (fault, row), holding, method in product(ROWS.items(), HOLDINGS, METHODS)
    if (fault, holding, method) not in LEFT_OUT
}


def kind_of(fault: str) -> tuple[str, int | None]:
    """Return the stand-in's name of a fault, and the status of a rate limit."""
    name, _, status = fault.rpartition("-")
    return (name, int(status)) if name.endswith("-limit") else (fault, None)


def missing() -> set[str]:
    """Return the faults that have no row in the table."""
    return (set(FAULTS) | {AWAY}) - {kind_of(fault)[0] for fault in ROWS} - set(NO_TROUBLE)
