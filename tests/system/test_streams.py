"""Uploads and unread downloads in numbers cost a real mirror little memory, and no file."""

from __future__ import annotations

import pytest

from tests.harness.bulk_streams import FarEnd, Readers, upload, watched
from tests.harness.running import BlockingMirror

#: By how much memory may grow, in bytes. Held whole, the uploads would be 200 MB and what is not
#: read 320 MB.
MOST = 64 << 20


@pytest.mark.parametrize(("uploads", "readers"), [(10, 0), (0, 8), (10, 8)])
def test_streaming_has_bounded_memory_and_file_descriptors(uploads: int, readers: int) -> None:
    """Uploads of 20 MB and clients that do not read 40 MB stay within their budgets."""
    with FarEnd() as github, BlockingMirror({"github": {"api_url": github.url}}) as mirror:
        assert upload(mirror.url, count=1, size=100) == []
        with watched(mirror.pid) as seen, Readers(mirror.url, readers):
            assert upload(mirror.url, count=uploads, size=20_000_000) == []
        assert github.taken == uploads + 1
        assert seen.grown < MOST
        assert not seen.files
