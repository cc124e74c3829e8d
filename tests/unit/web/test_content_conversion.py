"""Content converted in steps equals content converted as a whole."""

from __future__ import annotations

import gzip

from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.github.url_rewriting import BaseUrls, Rewriter
from ghmirror_tw.http.content_codings import GzipDecompressor, compress
from ghmirror_tw.web.content_conversion import (
    STEP_BYTES,
    Conversion,
    compressor,
    converted,
    is_changed_by,
)

API = b"http://api.test"
REWRITER = Rewriter(API)
BASE = BaseUrls(b"http://m", b"http://m/api/uploads")
#: JSON with URLs in it or not, some of it longer than a step.
CONTENTS = st.lists(
    st.sampled_from((b'{"url":"%s/x"}' % API, b'"text"', b'"%s"' % (b"x" * 40_000))), max_size=8
).map(lambda items: b"[%s]" % b",".join(items))


@given(CONTENTS, st.booleans(), st.booleans(), st.booleans())
def test_steps_equal_the_whole(content: bytes, packed: bool, rewrites: bool, packs: bool) -> None:
    """For each combination of unpacking, rewriting and packing."""
    conversion = Conversion(
        GzipDecompressor() if packed else None,
        (REWRITER.stream(BASE),) if rewrites else (),
        compressor() if packs else None,
    )
    steps = list(converted(compress(content) if packed else content, conversion))
    made = b"".join(steps)
    expected = content.replace(API, b"http://m") if rewrites else content
    assert (gzip.decompress(made) if packs else made) == expected
    assert packs or max(map(len, steps)) <= 3 * STEP_BYTES


@given(CONTENTS)
def test_changes_detects_urls(content: bytes) -> None:
    """Wherever in the content they are."""
    assert is_changed_by(compress(content), (REWRITER.stream(BASE),)) is (API in content)
    assert not is_changed_by(compress(content), (REWRITER.stream(BaseUrls(API, b"")),))
