"""How much framing chunked content may have."""

from __future__ import annotations

from ghmirror_tw.http.chunk_framing_limit import FREE_BYTES, is_mostly_framing


def test_framing_is_bounded() -> None:
    """By a number of bytes, and beyond it by a part of the content."""
    assert not is_mostly_framing(FREE_BYTES, 0)
    assert is_mostly_framing(FREE_BYTES + 1, 0)
    large = 1 << 30
    for chunk, excessive in ((1, True), (19, True), (24, False), (1000, False)):
        framing = len(b"%x\r\n\r\n" % chunk)
        wire = large // chunk * (chunk + framing)
        assert is_mostly_framing(wire, large) is excessive
