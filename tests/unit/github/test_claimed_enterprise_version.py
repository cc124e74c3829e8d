"""The version of an Enterprise Server: its place, and nothing else changes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.github.claimed_enterprise_version import (
    holds_version,
    versioned_fields,
    with_installed_version,
)
from ghmirror_tw.http import entity_tags
from ghmirror_tw.http.fields import Fields

VERSION = b"3.17.0"

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), values, max_size=4), st.booleans())
def test_an_object_receives_the_version(meta: dict[str, object], ascii_only: bool) -> None:
    """It has all that it had, and the version once, also where it had another."""
    for had in (meta, {"installed_version": "2.0.0", **meta}):
        content = json.dumps(had, ensure_ascii=ascii_only).encode(errors="surrogatepass")
        output = with_installed_version(content, VERSION)
        assert json.loads(output) == {**had, "installed_version": "3.17.0"}
        assert output.count(b'"3.17.0"') >= 1


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"[{}]", b'"x"', b"null", b"{", b"{} x", b"\xff{}", b"[" * 100_000]
)
def test_other_content_is_unchanged(content: bytes) -> None:
    """Lists, scalars and what is no JSON are left alone, byte for byte."""
    assert with_installed_version(content, VERSION) == content


def test_each_version_has_an_entity_tag() -> None:
    """It is weak and well-formed, and matches neither GitHub's nor that of another version."""
    seen = []
    for tag in (b'"abc"', b'W/"abc"'):
        fields = Fields(((b"etag", tag), (b"last-modified", b"x"), (b"vary", b"Accept")))
        for version in (b"3.17.0", b"3.17.1"):
            changed = versioned_fields(fields, version)
            etag = changed.get(b"etag")
            assert etag is not None
            assert entity_tags.is_entity_tag(etag)
            assert etag.startswith(b'W/"')
            assert not entity_tags.weakly_equal(etag, tag)
            assert changed.get(b"vary") == b"Accept"
            assert changed.get(b"last-modified") is None
            seen.append(etag)
    assert len(set(seen)) == 2
    assert versioned_fields(Fields(), VERSION) == Fields()


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        (b"GET", b"/meta", True),
        (b"HEAD", b"/meta", True),
        (b"POST", b"/meta", False),
        (b"GET", b"/meta/root", False),
        (b"GET", b"/", False),
    ],
)
def test_targets_with_the_version(method: bytes, path: bytes, expected: bool) -> None:
    """In what is read at /meta, and nowhere else."""
    assert holds_version(method, path) is expected
