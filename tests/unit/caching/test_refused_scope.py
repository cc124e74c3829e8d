"""Statuses that refuse a credential or a key."""

from __future__ import annotations

import pytest

from ghmirror_tw.caching import refused_scope


@pytest.mark.parametrize(
    ("status", "refused"),
    [
        *((401, "credential"), (403, "key"), (404, "key"), (410, "key"), (451, "key")),
        *((200, None), (304, None), (429, None), (500, None)),
    ],
)
def test_statuses_that_refuse(status: int, refused: str | None) -> None:
    """A 401 refuses everything to the credential, others the key."""
    assert refused_scope.refused_scope(status) == refused
