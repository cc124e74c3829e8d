"""Compression and decompression, whole or in pieces, in bounded memory."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.caching.representation_from_response import representation_of
from ghmirror_tw.http import content_codings
from ghmirror_tw.http.content_codings import (
    ContentTooLargeError,
    GzipDecompressor,
    UndecodableError,
    compress,
    decoded,
    decompress,
    estimated_size,
)
from ghmirror_tw.http.fields import Fields

#: Members of a gzip stream; contents that compress very well are among them.
MEMBERS = st.lists(st.binary(max_size=300) | st.integers(0, 3).map(lambda n: bytes(n * 50_000)))


def in_pieces(packed: bytes, size: int, most: int) -> bytes:
    """Return the content of a gzip stream that is fed in pieces of *size* bytes."""
    unpacking, unpacked = GzipDecompressor(), []
    for start in range(0, len(packed), size):
        unpacking.feed(packed[start : start + size])
        while piece := unpacking.take(most):
            assert len(piece) <= most
            unpacked.append(piece)
    unpacking.finish()
    return b"".join(unpacked)


@given(MEMBERS, st.integers(0, 20), st.integers(1, 200), st.sampled_from((1, 100, 65536)))
def test_a_stream_of_members(members: list[bytes], zeros: int, size: int, most: int) -> None:
    """Every member counts, wherever the stream is cut; zeros behind a member are padding."""
    if most == 1:
        members = [member[:300] for member in members]
    packed = b"".join(gzip.compress(member) + bytes(zeros) for member in (b"x", *members))
    content = b"x" + b"".join(members)
    assert in_pieces(packed, size, most) == content
    assert decompress(packed, len(content)) == content
    with pytest.raises(ContentTooLargeError):
        decompress(packed, len(content) - 1)


@pytest.mark.parametrize("limit", [-1, -2, -(1 << 70)])
def test_a_negative_limit(limit: int) -> None:
    """A size below nothing, as a damaged record can claim it, is no lack of a limit."""
    packed = compress(bytes(10_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(ContentTooLargeError):
            decompress(packed, limit)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("limit", [(1 << 63) - 1, 1 << 64])
def test_a_limit_beyond_all_sizes(limit: int) -> None:
    """It is as good as any that is large enough."""
    assert decompress(compress(b"abc"), limit) == b"abc"


@given(st.binary(min_size=1, max_size=300), st.data())
def test_an_incomplete_stream_is_refused(content: bytes, data: st.DataObject) -> None:
    """It does not count as complete, and neither does data after it that is no member."""
    packed = gzip.compress(content)
    second = packed + packed
    cut = data.draw(st.sampled_from([*range(len(packed)), *range(len(packed) + 1, len(second))]))
    with pytest.raises(UndecodableError):
        in_pieces(second[:cut], 50, 100)
    with pytest.raises(UndecodableError):
        decompress(second[:cut], 10_000)
    with pytest.raises(UndecodableError):
        in_pieces(packed + b"no member", 50, 100)


def test_each_step_decompresses_no_more_than_requested() -> None:
    """No more than that is in memory, though 64 kB may expand to 64 MB."""
    packed = zlib.compress(bytes(50_000_000), wbits=31)
    unpacking = GzipDecompressor()
    unpacking.feed(packed)
    size = 0
    while piece := unpacking.take(65_536):
        assert len(piece) <= 65_536
        size += len(piece)
    unpacking.finish()
    assert size == 50_000_000


def test_codings() -> None:
    """Both names of gzip are accepted, and no coding; others are refused."""
    for coding in (None, b"", b"identity"):
        assert decoded(b"content", coding, 3) == b"content"
    for coding in (b"gzip", b"x-gzip"):
        assert decoded(compress(b"content"), coding, 7) == b"content"
    with pytest.raises(UndecodableError):
        decoded(b"content", b"br", 7)


def test_the_estimated_size() -> None:
    """It is the size in the stream, but at least the usual size of text."""
    assert estimated_size(b"abc", None) == 3
    assert estimated_size(compress(bytes(1_000_000)), b"gzip") == 1_000_000
    assert estimated_size(compress(b"abc"), b"gzip") == 8 * len(compress(b"abc"))


def test_content_is_compressed_once() -> None:
    """Content that was received compressed is stored as received."""
    came = gzip.compress(b"[1,2]", 1)
    stored, plain = representation_of(Fields(), came, b"gzip", 5)
    assert (stored.packed, stored.size, plain) == (came, 5, b"[1,2]")
    stored, plain = representation_of(Fields(), b"[1,2]", None, 5)
    assert (stored.content(), stored.size, plain) == (b"[1,2]", 5, b"[1,2]")


@pytest.mark.parametrize(
    ("kind", "most", "items"),
    [
        (b"application/json; charset=utf-8", 2, 2),
        (b"application/vnd.github.raw+json", 2, None),
        (b"text/plain", 2, None),
        (b"application/json", 1, None),
        (b"application/json", 0, None),
    ],
)
def test_only_items_of_pages_are_counted(kind: bytes, most: int, items: int | None) -> None:
    """A user's file is no page of a list, and neither is a long array."""
    stored, _ = representation_of(Fields(((b"content-type", kind),)), b"[1,2]", None, 5, most)
    assert stored.items == items


def test_tiny_members_are_refused() -> None:
    """Each costs as much as kilobytes of content, so only some may be tiny."""
    empty, filled = gzip.compress(b""), gzip.compress(bytes(1000))
    assert decompress(100 * empty, 10) == b""
    assert decompress(2000 * filled + 90 * empty, 2_000_000) == bytes(2_000_000)
    for packed in (101 * empty, 200_000 * empty, 2000 * filled + 4000 * empty):
        with pytest.raises(UndecodableError, match="tiny members"):
            decompress(packed, 2_000_000)


def test_the_rest_of_the_input_is_copied_in_small_parts() -> None:
    """Otherwise the time for the members of a long stream would be quadratic."""
    packed, left = 1000 * gzip.compress(bytes(1000)), 0
    unpacking = GzipDecompressor(packed)
    while unpacking.take(65536):
        left = max(left, len(unpacking.part))
    assert 0 < left <= 16 * 1024


def test_padding_of_any_size() -> None:
    """Zeros between members may be longer than what is handed to zlib at a time."""
    padding = bytes(100_000)
    packed = gzip.compress(b"first") + padding + gzip.compress(b"second") + padding
    assert decompress(packed, 100) == b"firstsecond"


def test_the_estimate_is_at_least_the_usual_size() -> None:
    """A smaller size in the stream is ignored."""
    packed = gzip.compress(b"x" * 100_000)
    assert content_codings.estimated_size(packed, b"gzip") == 100_000
    assert content_codings.estimated_size(packed + b"\0" * 4, b"gzip") == 8 * (len(packed) + 4)
    assert content_codings.estimated_size(packed, b"") == len(packed)


def test_invalid_content_is_refused() -> None:
    """Broken, cut off, too large, or coded in another way."""
    packed = gzip.compress(b"x" * 1000)
    for bad in (b"no gzip", packed[:-9]):
        with pytest.raises(content_codings.UndecodableError):
            content_codings.decoded(bad, b"gzip", 2000)
    with pytest.raises(content_codings.ContentTooLargeError):
        content_codings.decoded(packed, b"gzip", 999)
    with pytest.raises(content_codings.UndecodableError):
        content_codings.decoded(b"x", b"br", 10)
    two = gzip.compress(b"a") + gzip.compress(b"b") + b"\0\0"
    assert content_codings.decoded(two, b"x-gzip", 10) == b"ab"
