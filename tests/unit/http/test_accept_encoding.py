"""Negotiation of gzip, and its mention in `Vary`."""

from __future__ import annotations

import pytest

from ghmirror_tw.http import content_codings
from ghmirror_tw.http.content_codings import accepts_gzip
from ghmirror_tw.http.fields import Fields


def lines(*pairs: tuple[bytes, bytes]) -> Fields:
    return Fields(pairs)


def test_vary_names_accept_encoding_once() -> None:
    """It is added where neither it nor `*` is there."""
    assert content_codings.vary_with_accept_encoding(None) == b"Accept-Encoding"
    assert content_codings.vary_with_accept_encoding(b"*") == b"*"
    assert content_codings.vary_with_accept_encoding(b"Accept") == b"Accept, Accept-Encoding"
    assert content_codings.vary_with_accept_encoding(b"accept-encoding") == b"accept-encoding"


@pytest.mark.parametrize(
    ("value", "takes"),
    [
        (None, False),
        (b"", False),
        (b"gzip", True),
        (b"br;q=1, x-gzip;q=0.5", True),
        (b"*", True),
        (b"gzip;q=0", False),
        (b"gzip;q=0.1, identity;q=0.5", False),
        (b"gzip;q=often", False),
        (b"gzip;level=1", True),
        (b"deflate", False),
    ],
)
def test_gzip_is_negotiated_by_its_weight(value: bytes | None, takes: bool) -> None:
    """It must be acceptable, and no less welcome than no coding."""
    fields = lines() if value is None else lines((b"accept-encoding", value))
    assert accepts_gzip(fields) is takes
