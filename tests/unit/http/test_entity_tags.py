"""Entity-tags: syntax, lists and weak comparison."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.http import entity_tags as tags
from ghmirror_tw.http.fields import Fields


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
def test_an_invalid_etag_is_removed(values: tuple[bytes, ...], kept: bool) -> None:
    """All else that the response has stays."""
    other = (b"x", b"1")
    sent = Fields((other, *((b"etag", value) for value in values)))
    assert tags.without_invalid_etag(sent) == (sent if kept else Fields((other,)))


etagc = st.sampled_from([bytes([c]) for c in range(0x21, 0x100) if c not in {0x22, 0x7F}])


opaque_tags = st.lists(etagc, max_size=8).map(lambda found: b'"' + b"".join(found) + b'"')


entity_tags = st.builds(bytes.__add__, st.sampled_from([b"", b"W/"]), opaque_tags)


@given(entity_tags)
def test_weakness_does_not_matter_to_weak_comparison(tag: bytes) -> None:
    """A tag and its weak form have the same opaque-tag and are weakly equal."""
    assert tags.as_weak(tag) == b"W/" + tags.opaque_tag(tag)
    assert tags.as_weak(tags.as_weak(tag)) == tags.as_weak(tag)
    assert tags.weakly_equal(tag, tags.as_weak(tag))


def test_weak_comparison_table() -> None:
    """The examples of RFC 9110, section 8.8.3.2."""
    assert tags.weakly_equal(b'W/"1"', b'W/"1"')
    assert not tags.weakly_equal(b'W/"1"', b'W/"2"')
    assert tags.weakly_equal(b'W/"1"', b'"1"')
    assert tags.weakly_equal(b'"1"', b'"1"')


@pytest.mark.parametrize(
    "value", [b"", b"abc", b'"', b'"a', b'"a b"', b'"a"b"', b'w/"a"', b'W/ "a"', b'"a"\n', b"*"]
)
def test_invalid_entity_tags(value: bytes) -> None:
    """Quotation marks, no space, and an upper-case W make a tag; nothing else does."""
    assert not tags.is_entity_tag(value)


@given(st.lists(entity_tags), st.sampled_from([b",", b", ", b" ,\t", b",,", b" , , "]))
def test_a_list_is_parsed(members: list[bytes], comma: bytes) -> None:
    """Tags survive in a list, with commas inside them, and empty members don't count."""
    assert tags.parse_entity_tags(comma.join(members)) == tuple(members)
    assert tags.parse_entity_tags(comma + comma.join(members) + comma) == tuple(members)


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
    """Later members are still parsed."""
    assert tags.parse_entity_tags(value) == members


@given(st.binary())
def test_any_bytes_are_parsed_to_well_formed_members(value: bytes) -> None:
    """No value makes the parser fail or return an invalid tag."""
    assert all(map(tags.is_entity_tag, tags.parse_entity_tags(value)))


@given(st.lists(entity_tags), entity_tags)
def test_a_list_matches_its_members(members: list[bytes], tag: bytes) -> None:
    """A list matches a tag exactly if a member is weakly equal to it."""
    held = any(tags.opaque_tag(member) == tags.opaque_tag(tag) for member in members)
    assert tags.if_none_match_matches(b", ".join(members), tag) is held
    assert tags.if_none_match_matches(b", ".join([*members, tags.as_weak(tag)]), tag)


def test_a_star_matches_any_representation() -> None:
    """`*` matches a representation without a tag too; a list does not."""
    assert tags.if_none_match_matches(b" * ", b'"a"')
    assert tags.if_none_match_matches(b"*", None)
    assert not tags.if_none_match_matches(b'"a"', None)
    assert not tags.if_none_match_matches(b'*, "b"', b'"a"')
