"""The conditions under which a stored `Link` is used."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.github.link_conditions import LinkConditions, conditions_of_link, next_page
from ghmirror_tw.github.page_parameters import (
    with_page,
)

API = b"https://api.github.com"


NOTHING = LinkConditions(None, None, False)


UNPROVABLE = LinkConditions(None, None, True)


names = st.sampled_from([b"page", b"per_page", b"q", b"page%5B%5D", b"%70age", b"sort", b""])


values = st.sampled_from([b"=1", b"=22", b"=", b"", b"=a%20b", b"=a=b", b"=-1", b"=x?y"])


queries = st.lists(st.builds(bytes.__add__, names, values), max_size=4).map(b"&".join)


targets = st.builds(
    bytes.__add__,
    st.sampled_from([b"/", b"/repos/o/r/issues"]),
    st.just(b"") | queries.map(b"?".__add__),
)


def link(**pages: bytes | int) -> bytes:
    """Return a `Link` value, as GitHub writes it, with these relations."""
    return b", ".join(
        b'<%s/repositories/1/issues?%s>; rel="%s"'
        % (API, b"page=%d" % page if isinstance(page, int) else page, rel.encode())
        for rel, page in pages.items()
    )


def demand(target: bytes, items: int | None, value: bytes | None, **given_: bool) -> LinkConditions:
    """Return the conditions of the commonest case, with changes."""
    switches = {"shared": False, "verify_last": True, "authorised": True}
    return conditions_of_link(target, items, value, api_url=API, **(switches | given_))


def test_other_content_than_lists_needs_no_proof() -> None:
    """Objects and files have no pages."""
    assert demand(b"/x?per_page=1", None, link(last=3), shared=True) == NOTHING


def test_the_next_page_of_a_link() -> None:
    """It is a target below the API's URL, as a client requests it."""
    assert next_page(link(last=3, next=2), API) == b"/repositories/1/issues?page=2"
    assert next_page(link(prev=2), API) is None
    assert next_page(b"<https://elsewhere/x>; rel=next", API) is None
    assert next_page(None, API) is None


def test_a_page_that_is_not_full_needs_no_proof() -> None:
    """A page with room left would show a new item in its content."""
    assert demand(b"/x?page=3", 29, link(prev=2, first=1)) == NOTHING
    assert demand(b"/x", 0, None) == NOTHING
    assert demand(b"/x", 5, None, authorised=False) == NOTHING


LISTS = b"/repos/o/r/issues"


CURSORS = b"/repos/o/r/dependabot/alerts"


NO_PAGES = b"/repos/o/r/contents/src"


#: Page 9 is to be the last, where GitHub links to it.
LAST = LinkConditions(None, b"/repositories/1/issues?page=9")


def test_a_full_page_with_a_next_page_needs_no_proof() -> None:
    """That there is a next page does not change while this one is full."""
    assert demand(LISTS + b"?per_page=2", 2, link(next=2)) == NOTHING
    assert demand(CURSORS + b"?per_page=2", 2, link(next=b"after=zz")) == NOTHING


def test_the_next_page_of_another_credential_must_have_items() -> None:
    """This credential may see fewer; a link to the last page proves more."""
    value = link(next=2)
    linked = LinkConditions(linked_page=b"/repositories/1/issues?page=2")
    assert demand(LISTS + b"?per_page=2", 2, value, shared=True) == linked
    assert demand(LISTS + b"?per_page=2", 1, value, shared=True) == linked
    assert demand(LISTS, 30, value, shared=True, authorised=False) == UNPROVABLE
    elsewhere = b'<https://example.com/x?page=2>; rel="next"'
    assert demand(LISTS, 30, elsewhere, shared=True) == UNPROVABLE


@pytest.mark.parametrize(
    ("query", "items", "value", "next_page"),
    [
        (b"", 30, None, 2),
        (b"?per_page=2", 2, None, 2),
        (b"?page=4", 30, None, 5),
        (b"?page=4", 30, link(prev=3, first=1), 5),
        (b"", 31, link(prev=3), 2),
        (b"?per_page=500", 100, None, 2),
    ],
)
def test_a_full_last_page_must_still_be_the_last(
    query: bytes, items: int, value: bytes | None, next_page: int
) -> None:
    """Where a page is full and has no next one, the page after it must be empty."""
    assert demand(LISTS + query, items, value) == LinkConditions(
        with_page(LISTS + query, next_page)
    )


@pytest.mark.parametrize("target", [NO_PAGES, NO_PAGES + b"?per_page=30", b"/versions"])
def test_an_operation_without_pages_needs_no_proof(target: bytes) -> None:
    """However many items it has, these are all."""
    assert demand(target, 30, None) == NOTHING
    assert demand(target, 30, None, authorised=False) == NOTHING


def test_links_take_precedence_over_the_table() -> None:
    """Where the table is behind GitHub, what GitHub links to is how a list is paginated."""
    assert demand(NO_PAGES, 30, link(prev=1)) == LinkConditions(NO_PAGES + b"?page=2")
    assert demand(CURSORS + b"?page=2", 30, link(prev=1)) == LinkConditions(CURSORS + b"?page=3")
    assert demand(LISTS, 30, link(prev=b"before=zz")) == UNPROVABLE
    assert demand(b"/unknown?page=4", 30, link(prev=3)) == LinkConditions(b"/unknown?page=5")


@pytest.mark.parametrize("target", [CURSORS, b"/unknown"])
def test_a_full_last_page_without_a_number_is_unprovable(target: bytes) -> None:
    """With cursors, and for unknown operations."""
    assert demand(target, 30, None) == UNPROVABLE
    assert demand(target + b"?per_page=3", 3, None) == UNPROVABLE
    assert demand(target, 29, None) == NOTHING


def test_a_page_of_unknown_size_is_not_full() -> None:
    """Of an unknown operation: 31 items that no request for pages has led to are all."""
    assert demand(b"/unknown", 31, None) == NOTHING
    assert demand(b"/unknown", 31, b'<https://docs>; rel="deprecation"') == NOTHING
    assert demand(CURSORS, 31, None) == UNPROVABLE


def test_an_object_of_a_list_with_cursors_is_unprovable() -> None:
    """It may be a full page, and has no total number of items."""
    target = b"/repos/o/r/attestations/sha256:00"
    assert demand(target, None, None) == UNPROVABLE
    assert demand(target, None, link(next=b"after=zz")) == NOTHING
    assert demand(target, None, link(next=b"after=zz"), shared=True) == UNPROVABLE


@pytest.mark.parametrize(("items", "switch"), [(1, True), (2, True), (0, True)])
def test_the_last_page_must_be_the_last(items: int, switch: bool) -> None:
    """Page 9 has items and page 10 has none, wherever page 9 is named as the last."""
    target = LISTS + b"?per_page=2"
    assert demand(target, items, link(next=2, last=9), verify_last=switch) == LAST
    assert demand(b"/unknown", items, link(next=2, last=9)) == LAST
    assert demand(LISTS + b"?page=12", 0, link(prev=9, last=9)) == LAST


def test_the_last_page_is_requested_where_github_links_to_it() -> None:
    """As clients do that follow links; what is not below the API's URL is not requested."""
    assert demand(LISTS, 1, link(last=9)) == LAST
    for other in (b"https://other/x", API + b".example/x", API):
        value = b'<%s?page=9>; rel="last"' % other
        assert demand(LISTS + b"?q=1", 1, value) == LinkConditions(None, LISTS + b"?q=1&page=9")


@pytest.mark.parametrize(
    "path",
    [b"/a b", b"/a\tb", b"/\xc3\xa4", b"/a/../b", b"/a/%2e%2e/b", b"/a#b", b"//a", b"/api/v3/a"],
)
def test_a_link_that_is_no_request_target_is_not_requested(path: bytes) -> None:
    """A part of a `Link` is used in a request with the credential of a client."""
    value = b'<%s%s?page=9>; rel="last"' % (API, path)
    assert demand(LISTS + b"?q=1", 1, value) == LinkConditions(None, LISTS + b"?q=1&page=9")
    value = b'<%s%s?page=2>; rel="next"' % (API, path)
    assert demand(LISTS, 30, value, shared=True) == UNPROVABLE


def test_the_last_page_of_the_own_link_is_proved_if_configured() -> None:
    """With `verify_last` off; that of another credential is proved none the less."""
    target = LISTS + b"?per_page=2"
    sent = link(next=2, last=9)
    assert demand(target, 2, sent, verify_last=False) == NOTHING
    assert demand(target, 2, sent, verify_last=False, shared=True) == LAST
    assert demand(target, 2, None, verify_last=False) == LinkConditions(target + b"&page=2")


def test_a_last_page_without_a_number_is_unprovable() -> None:
    """The page after it has no known target."""
    assert demand(LISTS, 5, link(last=b"q=1")) == UNPROVABLE
    assert demand(LISTS, 5, link(last=b"page=zz")) == UNPROVABLE
    assert demand(LISTS, 5, link(last=b"after=zz")) == UNPROVABLE


def test_cursors_are_unprovable() -> None:
    """Where a full list ends at a cursor, of the request or its links, there is no proof."""
    assert demand(LISTS + b"?after=zz&per_page=3", 3, None) == UNPROVABLE
    assert demand(LISTS + b"?per_page=3", 3, link(prev=b"before=zz")) == UNPROVABLE
    assert demand(LISTS + b"?page=zz", 30, None) == UNPROVABLE
    assert demand(LISTS + b"?page=0", 30, None) == UNPROVABLE
    assert demand(LISTS + b"?after=zz&per_page=3", 2, None) == NOTHING


def test_no_proof_is_free_without_a_credential() -> None:
    """A proof without a credential costs quota, so there is none."""
    assert demand(LISTS, 30, None, authorised=False) == UNPROVABLE
    assert demand(LISTS, 1, link(next=2, last=9), authorised=False) == UNPROVABLE


def test_two_ends_of_one_list_are_one_or_unprovable() -> None:
    """A full page without a next one, and a last page elsewhere, can't both be right."""
    assert demand(LISTS + b"?page=9", 30, link(last=9)) == LinkConditions(LISTS + b"?page=10")
    assert demand(LISTS + b"?page=9", 29, link(last=9)) == NOTHING
    assert demand(LISTS + b"?page=8", 30, link(last=9)) == UNPROVABLE


@given(
    targets,
    st.none() | st.integers(0, 120),
    st.none() | st.builds(lambda page: link(prev=1, last=page), st.integers(1, 9)),
    st.booleans(),
    st.booleans(),
)
def test_conditions_are_of_one_page_or_unprovable(
    target: bytes, items: int | None, value: bytes | None, shared: bool, authorised: bool
) -> None:
    """An unprovable one names no page; any other names at most one to begin with."""
    found = demand(target, items, value, shared=shared, authorised=authorised)
    if found.unprovable:
        assert found == UNPROVABLE
    assert None in {found.next_page, found.last_page}
    if not authorised:
        assert found in {NOTHING, UNPROVABLE}


@pytest.mark.parametrize("padding", [0, 2000])
def test_a_long_link_has_the_same_conditions_as_a_short_one(padding: int) -> None:
    """Only the short one is remembered."""
    link = b'<https://api.github.com/x?per_page=1&page=9&q=%s>; rel="last"' % (b"y" * padding)
    for _ in range(2):
        assert demand(b"/x?per_page=1", 1, link) == UNPROVABLE
        assert demand(b"/x?per_page=2", 1, link) == LinkConditions(
            None, link[23 : link.index(b">")]
        )
