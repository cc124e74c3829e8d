"""Entity-tags as GitHub computes them."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.github import entity_tag_rule
from ghmirror_tw.http import entity_tags as tags

VARY = b"Accept, Authorization, Cookie, X-GitHub-OTP,Accept-Encoding, Accept, X-Requested-With"


def quoted_sha256(hashed: bytes) -> bytes:
    return b'"' + hashlib.sha256(hashed).hexdigest().encode() + b'"'


@pytest.mark.parametrize(
    ("vary", "hashed"),
    [
        (VARY, b"text/x:token s3:[1]"),
        (None, b"text/x:token s3:[1]"),
        (b"", b"text/x:token s3:[1]"),
        (b"*", b"text/x:token s3:[1]"),
        (b"Origin, *", b"text/x:token s3:[1]"),
        (b"ACCEPT", b"text/x:[1]"),
        (b"authorization", b"token s3:[1]"),
        (b"Accept-Encoding", b"[1]"),
    ],
)
def test_only_fields_named_by_vary_count(vary: bytes | None, hashed: bytes) -> None:
    """The tag covers the values that `Vary` names, in a fixed order, and then the content."""
    tag = entity_tag_rule.compute_entity_tag(
        b"[1]", vary, accept=b"text/x", authorization=b"token s3"
    )
    assert tag == quoted_sha256(hashed)


def test_absent_fields_do_not_count() -> None:
    """A field that the request did not have leaves no trace, not even its colon."""
    tag = entity_tag_rule.compute_entity_tag(
        entity_tag_rule.EMPTY_LIST, VARY, accept=None, authorization=None
    )
    assert tag == quoted_sha256(b"[]")


def test_the_literal_credential_counts() -> None:
    """The same token under two schemes gets two tags."""
    made = {
        entity_tag_rule.compute_entity_tag(b"", VARY, accept=None, authorization=scheme + b" t")
        for scheme in (b"token", b"Bearer", b"bearer")
    }
    assert len(made) == 3


@given(st.binary(), st.none() | st.binary(), st.none() | st.binary(), st.none() | st.binary())
def test_computed_tags_are_strong_and_well_formed(
    content: bytes, vary: bytes | None, accept: bytes | None, authorization: bytes | None
) -> None:
    """For any request the tag can be sent, and is a strong one."""
    tag = entity_tag_rule.compute_entity_tag(
        content, vary, accept=accept, authorization=authorization
    )
    assert tags.is_entity_tag(tag)
    assert tags.opaque_tag(tag) == tag
    assert len(tag) == 66
