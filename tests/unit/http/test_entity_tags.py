"""Entity-tags are made as GitHub makes them, and compared as RFC 9110 says."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.http import entity_tags as tags
from ghmirror_tw.http.fields import Fields

VARY = b"Accept, Authorization, Cookie, X-GitHub-OTP,Accept-Encoding, Accept, X-Requested-With"


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ((), True),
        ((b'"a"',), True),
        ((b'W/""',), True),
        ((b"*",), False),
        ((b"",), False),
        ((b"bare",), False),
        ((b'w/"a"',), False),
        ((b'"a", "b"',), False),
        ((b'"a" ',), False),
        ((b'"a"', b'"a"'), False),
    ],
)
def test_what_is_no_entity_tag_goes(values: tuple[bytes, ...], kept: bool) -> None:
    """All else that the response has stays."""
    other = (b"x", b"1")
    sent = Fields((other, *((b"etag", value) for value in values)))
    assert tags.with_valid_tag(sent) == (sent if kept else Fields((other,)))


etagc = st.sampled_from([bytes([c]) for c in range(0x21, 0x100) if c not in {0x22, 0x7F}])
opaque_tags = st.lists(etagc, max_size=8).map(lambda found: b'"' + b"".join(found) + b'"')
entity_tags = st.builds(bytes.__add__, st.sampled_from([b"", b"W/"]), opaque_tags)


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
    tag = tags.compute(b"[1]", vary, accept=b"text/x", authorization=b"token s3")
    assert tag == quoted_sha256(hashed)


def test_absent_fields_do_not_count() -> None:
    """A field that the request did not have leaves no trace, not even its colon."""
    tag = tags.compute(tags.EMPTY_LIST, VARY, accept=None, authorization=None)
    assert tag == quoted_sha256(b"[]")


def test_the_literal_credential_counts() -> None:
    """The same token under two schemes gets two tags."""
    made = {
        tags.compute(b"", VARY, accept=None, authorization=scheme + b" t")
        for scheme in (b"token", b"Bearer", b"bearer")
    }
    assert len(made) == 3


@given(st.binary(), st.none() | st.binary(), st.none() | st.binary(), st.none() | st.binary())
def test_computed_tags_are_strong_and_well_formed(
    content: bytes, vary: bytes | None, accept: bytes | None, authorization: bytes | None
) -> None:
    """Whatever a request holds, the tag can be sent, and is a strong one."""
    tag = tags.compute(content, vary, accept=accept, authorization=authorization)
    assert tags.well_formed(tag)
    assert tags.opaque(tag) == tag
    assert len(tag) == 66


@given(entity_tags)
def test_weakness_does_not_matter_to_weak_comparison(tag: bytes) -> None:
    """A tag and its weak form have the same opaque-tag and are weakly equal."""
    assert tags.weak(tag) == b"W/" + tags.opaque(tag)
    assert tags.weak(tags.weak(tag)) == tags.weak(tag)
    assert tags.weakly_equal(tag, tags.weak(tag))


def test_weak_comparison_table() -> None:
    """The examples of RFC 9110, section 8.8.3.2."""
    assert tags.weakly_equal(b'W/"1"', b'W/"1"')
    assert not tags.weakly_equal(b'W/"1"', b'W/"2"')
    assert tags.weakly_equal(b'W/"1"', b'"1"')
    assert tags.weakly_equal(b'"1"', b'"1"')


@pytest.mark.parametrize(
    "value", [b"", b"abc", b'"', b'"a', b'"a b"', b'"a"b"', b'w/"a"', b'W/ "a"', b'"a"\n', b"*"]
)
def test_what_is_no_entity_tag(value: bytes) -> None:
    """Quotation marks, no space, and an upper-case W make a tag; nothing else does."""
    assert not tags.well_formed(value)


@given(st.lists(entity_tags), st.sampled_from([b",", b", ", b" ,\t", b",,", b" , , "]))
def test_a_list_is_read_as_it_was_written(members: list[bytes], comma: bytes) -> None:
    """Tags survive in a list, with commas inside them, and empty members don't count."""
    assert tags.parse_list(comma.join(members)) == tuple(members)
    assert tags.parse_list(comma + comma.join(members) + comma) == tuple(members)


@pytest.mark.parametrize(
    ("value", "members"),
    [
        (b'"a,b", W/"c"', (b'"a,b"', b'W/"c"')),
        (b'abc, "d"', (b'"d"',)),
        (b'"a" x, "b"', (b'"b"',)),
        (b'"a b", "c"', (b'"c"',)),
        (b'"a" "b"', ()),
        (b'"a, "b"', (b'"b"',)),
        (b'w/"a"', ()),
        (b"*", ()),
        (b" , ,", ()),
    ],
)
def test_malformed_members_are_skipped(value: bytes, members: tuple[bytes, ...]) -> None:
    """What is no tag is left out, and what comes after it is still read."""
    assert tags.parse_list(value) == members


@given(st.binary())
def test_any_bytes_give_well_formed_members(value: bytes) -> None:
    """No value makes the parser fail or give what is no tag."""
    assert all(map(tags.well_formed, tags.parse_list(value)))


@given(st.lists(entity_tags), entity_tags)
def test_a_list_matches_what_it_holds(members: list[bytes], tag: bytes) -> None:
    """A list matches a tag exactly if a member is weakly equal to it."""
    held = any(tags.opaque(member) == tags.opaque(tag) for member in members)
    assert tags.matches(b", ".join(members), tag) is held
    assert tags.matches(b", ".join([*members, tags.weak(tag)]), tag)


def test_a_star_matches_whatever_is_current() -> None:
    """`*` matches a representation without a tag too; a list does not."""
    assert tags.matches(b" * ", b'"a"')
    assert tags.matches(b"*", None)
    assert not tags.matches(b'"a"', None)
    assert not tags.matches(b'*, "b"', b'"a"')
