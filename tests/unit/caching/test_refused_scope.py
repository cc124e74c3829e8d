"""Statuses that refuse a credential or a key."""

from __future__ import annotations

import pytest

from ghmirror_tw.caching.refused_scope import RefusedScope, refused_scope


@pytest.mark.parametrize(
    ("status", "refused"),
    [
        (401, RefusedScope.EVERYTHING),
        *[(status, RefusedScope.KEY) for status in (403, 404, 410, 451)],
        *((200, None), (304, None), (429, None), (500, None)),
    ],
)
def test_statuses_that_refuse(status: int, refused: RefusedScope | None) -> None:
    """A 401 refuses everything to the credential, others the key."""
    assert refused_scope(status) is refused
