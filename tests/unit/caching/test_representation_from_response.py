"""Representations of contents, coded or not."""

from __future__ import annotations

import gzip

from ghmirror_tw.caching import representation_from_response
from ghmirror_tw.caching.records import Representation
from ghmirror_tw.http.fields import Fields

JSON = Fields(((b"content-type", b"application/json"), (b"vary", b"Accept, Authorization")))


def test_compressed_content_is_stored_as_received() -> None:
    """A representation is the same, received compressed or not."""
    packed = gzip.compress(b"[1, 2]")
    held, plain = representation_from_response.representation_of(JSON, packed, b"gzip", 100, 2)
    assert (held.packed, plain, held.items, held.size) == (packed, b"[1, 2]", 2, 6)
    other = representation_from_response.representation_of(JSON, b"[1, 2]", b"", 100)[0]
    assert other.digest == held.digest
    assert isinstance(other, Representation)
    assert other.content() == b"[1, 2]"
