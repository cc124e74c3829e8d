"""Responses that refuse a credential or a key."""

from __future__ import annotations

import pytest

from ghmirror_tw.caching.refused_scope import RefusedScope, refused_scope
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.request import Request

ALICE = Fields(((b"authorization", b"token alice"),))
NONE = Fields()


@pytest.mark.parametrize(
    ("method", "fields", "status", "refused"),
    [
        *[(method, ALICE, 401, RefusedScope.EVERYTHING) for method in (b"GET", b"HEAD", b"POST")],
        *[(method, NONE, 401, RefusedScope.KEY) for method in (b"GET", b"HEAD")],
        (b"POST", NONE, 401, None),
        *[(b"GET", ALICE, status, RefusedScope.KEY) for status in (403, 404, 410, 451)],
        *[(b"DELETE", ALICE, status, None) for status in (403, 404, 410, 451)],
        *[(b"GET", ALICE, status, None) for status in (200, 304, 429, 500)],
    ],
)
def test_responses_that_refuse(
    method: bytes, fields: Fields, status: int, refused: RefusedScope | None
) -> None:
    """A 401 refuses everything to a credential, others the key; a write shows nothing of it."""
    assert refused_scope(Request(method, b"/x", fields), status) is refused
