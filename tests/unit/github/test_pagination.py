"""`Link` is read as it is written, and what of it must be proved is demanded."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.github import pagination
from ghmirror_tw.github.pagination import (
    Demand,
    Links,
    Operation,
    Paging,
    asks_for_page,
    count_items,
    leads_elsewhere,
    links,
    list_identity,
    most_items,
    next_page,
    operation_of,
    page_number,
    page_of,
    page_size,
    uses_cursor,
    what_must_hold,
    with_page,
)

API = b"https://api.github.com"
NOTHING = Demand(None, None, False)
UNPROVABLE = Demand(None, None, True)

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


def demand(target: bytes, items: int | None, value: bytes | None, **given_: bool) -> Demand:
    """Return what must hold in the commonest case, but for what is given."""
    switches = {"shared": False, "verify_last": True, "authorised": True}
    return what_must_hold(target, items, value, api_url=API, **(switches | given_))


@pytest.mark.parametrize(
    ("target", "elsewhere"),
    [
        (b"https://api.github.com/x?page=2", False),
        (b"https://api.github.com?page=2", False),
        (b"HTTPS://API.GitHub.com:443/x", False),
        (b"/x?page=2", False),
        (b"?page=2", False),
        (b"http://api.github.com/x", True),
        (b"https://api.github.com:80/x", True),
        (b"https://api.github.com:8443/x", True),
        (b"https://api.github.com.evil/x", True),
        (b"https://api.github.com@evil/x", True),
        (b"https://api.github.com\\@evil/x", True),
        (b"https://user@api.github.com/x", True),
        (b"https://evil/https://api.github.com/x", True),
        (b"//api.github.com/x", True),
        (b"/\\evil/x", True),
        (b"javascript:next", True),
        (b"", True),
    ],
)
def test_links_to_other_servers(target: bytes, elsewhere: bool) -> None:
    """Scheme, host and port are those of the API's URL, or are left out."""
    assert leads_elsewhere(b'<%s>; rel="next"' % target, API) is elsewhere
    assert leads_elsewhere(link(first=1) + b", <%s>; REL=last" % target, API) is elsewhere
    assert not leads_elsewhere(b'<%s>; rel="deprecation"' % target, API)


def test_links_of_an_enterprise_server() -> None:
    """Only the server counts, not the path; its name may have any case."""
    api_url = b"https://GitHub.example.org:8443/api/v3"
    assert not leads_elsewhere(b"<https://github.example.org:8443/api/v3/x>; rel=next", api_url)
    assert not leads_elsewhere(b"<https://github.example.org:8443/x>; rel=next", api_url)
    assert leads_elsewhere(b"<https://github.example.org/api/v3/x>; rel=next", api_url)
    assert not leads_elsewhere(None, api_url)


def test_link_as_github_sends_it() -> None:
    """The relations of a real value lead to their targets."""
    value = (
        b'<https://api.github.com/repositories/1/issues?per_page=1&page=2>; rel="next", '
        b'<https://api.github.com/repositories/1/issues?per_page=1&page=9>; rel="last"'
    )
    assert links(value).target(b"next") == API + b"/repositories/1/issues?per_page=1&page=2"
    assert links(value).target(b"last") == API + b"/repositories/1/issues?per_page=1&page=9"
    assert links(value).target(b"prev") is None


@pytest.mark.parametrize(
    ("value", "target"),
    [
        (b"<u>;rel=next", b"u"),
        (b"<u> ; REL = Next", b"u"),
        (b'<a,b;c="d">; rel="next"', b'a,b;c="d"'),
        (b'<u>; rel="prev next"', b"u"),
        (b'<u>; title="<v>; rel=next"; rel="prev", <w>; rel=next', b"w"),
        (b'<u>; title="a\\", <v>"; rel=next', b"u"),
        (b"<u>; rel=prev; rel=next", None),
        (b"<u>;; nothing; rel=next", b"u"),
        (b"<u>, <w>; rel=next", b"w"),
        (b"<u>; rel, <w>; rel=next", b"w"),
        (b'<u>; rel="next', None),
        (b"<u; rel=next", None),
        (b"<u<w>; rel=next", b"w"),
        (b"u; rel=next", None),
        (b"", None),
        (None, None),
    ],
)
def test_links_are_read_robustly(value: bytes | None, target: bytes | None) -> None:
    """Targets with commas, quoted parameters, several relations, and what is no link at all."""
    assert links(value).target(b"next") == target


@given(st.binary())
def test_any_bytes_are_links_or_none(value: bytes) -> None:
    """No value makes the parser fail."""
    assert isinstance(links(value), Links)


def test_links_to_other_things_are_no_pages() -> None:
    """A link to documentation of a deprecation says nothing about pages."""
    value = b'<https://docs>; rel="deprecation", ' + link(prev=1, last=4)
    assert links(value).paging() == tuple(
        API + b"/repositories/1/issues?page=%d" % page for page in (1, 4)
    )


@pytest.mark.parametrize(
    ("target", "named", "asked"),
    [
        (b"/x", None, 1),
        (b"/x?per_page=3", None, 1),
        (b"/x?page=7", 7, 7),
        (b"/x?page=007", 7, 7),
        (b"/x?q=1&page=%37", 7, 7),
        (b"/x?%70age=7", 7, 7),
        (b"/x?page=1&page=2", 2, 2),
        (b"/x?page=0", None, None),
        (b"/x?page=", None, None),
        (b"/x?page", None, None),
        (b"/x?page=-1", None, None),
        (b"/x?page=1e3", None, None),
        (b"/x?page=Y3Vyc29y", None, None),
        (b"/x?page=" + b"9" * 5000, None, None),
        (b"/x/page=4", None, 1),
    ],
)
def test_the_page_of_a_target(target: bytes, named: int | None, asked: int | None) -> None:
    """A page is a positive number; without the parameter it is the first one that is asked for."""
    assert page_of(target) == named
    assert page_number(target) == asked


@pytest.mark.parametrize(
    ("target", "changed"),
    [
        (b"/x", b"/x?page=5"),
        (b"/x?", b"/x?page=5"),
        (b"/x?q=a%2Fb&page=2&sort", b"/x?q=a%2Fb&page=5&sort"),
        (b"/x?per_page=2&", b"/x?per_page=2&page=5"),
        (b"/x?page=1&page=2", b"/x?page=5&page=5"),
        (b"/x?page=5", b"/x?page=5"),
    ],
)
def test_another_page_leaves_all_else_alone(target: bytes, changed: bytes) -> None:
    """Only the page changes, in its place, or it is added at the end."""
    assert with_page(target, 5) == changed


@given(targets, st.integers(1, 10**9 - 1))
def test_with_page_round_trip(target: bytes, page: int) -> None:
    """The page that was put in is the page that is read, and it is still the same list."""
    changed = with_page(target, page)
    assert page_of(changed) == page_number(changed) == page
    assert with_page(changed, page) == changed
    assert page_size(changed) == page_size(target)
    assert asks_for_page(changed)
    ours, theirs = (list_identity(t).rstrip(b"?&") for t in (changed, target))
    assert ours == theirs


@given(targets)
def test_pages_of_a_list_have_one_identity(target: bytes) -> None:
    """The identity names no page, and is its own identity."""
    identity = list_identity(target)
    assert page_number(identity) == 1
    assert list_identity(identity) == identity
    assert list_identity(with_page(target, 2)) == list_identity(with_page(target, 3))


@pytest.mark.parametrize(
    ("query", "size"),
    [
        (b"", 30),
        (b"?page=2", 30),
        (b"?per_page=1", 1),
        (b"?per_page=99", 99),
        (b"?per_page=100", 100),
        (b"?per_page=101", 100),
        (b"?per_page=" + b"9" * 5000, 100),
        (b"?per_page=" + b"0" * 5000, 30),
        (b"?per_page=0", 30),
        (b"?per_page=-5", 1),
        (b"?per_page=", 30),
        (b"?per_page=ten", 1),
        (b"?per_page=5x", 1),
        (b"?per_page=5&per_page=6", 6),
    ],
)
def test_page_sizes(query: bytes, size: int) -> None:
    """A page is at most 100 long, and 30 where no size is given; what is no number may be any."""
    assert page_size(b"/x" + query) == size


@pytest.mark.parametrize(
    ("query", "asks"),
    [
        (b"", False),
        (b"?q=page", False),
        (b"?page=1", True),
        (b"?x&per_page=2", True),
        (b"?pages=1", False),
    ],
)
def test_asking_for_a_page(query: bytes, asks: bool) -> None:
    """Either parameter says that the client thinks of pages."""
    assert asks_for_page(b"/x" + query) is asks


@pytest.mark.parametrize(
    ("query", "cursor"),
    [
        (b"", False),
        (b"?page=2&per_page=3", False),
        (b"?page=abc", True),
        (b"?page=", True),
        (b"?after=Y3Vyc29yOjI%3D", True),
        (b"?before=", True),
        (b"?after=12", True),
        (b"?before=2024-01-31T00:00:00Z", False),
        (b"?since=2024-01-31T00%3A00%3A00Z", False),
        (b"?since=135", True),
        (b"?since=", False),
        (b"?cursor=v1_1", True),
        (b"?starting_after=1", True),
        (b"?ending_before=1", True),
        (b"?q=after", False),
    ],
)
def test_cursors(query: bytes, cursor: bool) -> None:
    """A place that can't be computed is a cursor; a date is a filter."""
    assert uses_cursor(b"/x" + query) is cursor


@given(
    st.recursive(st.none() | st.integers(-9, 9) | st.text(), st.lists, max_leaves=9),
    st.integers(0, 2),
)
def test_items_are_counted(value: object, spaces: int) -> None:
    """The elements of an array are counted; anything else has none."""
    content = b"\n" * spaces + json.dumps(value).encode()
    assert count_items(content, 100) == (len(value) if isinstance(value, list) else None)


@given(
    st.lists(
        st.recursive(
            st.text() | st.floats(allow_nan=False),
            lambda each: st.lists(each) | st.dictionaries(st.text(), each),
        )
    ),
    st.none() | st.integers(0, 2),
)
def test_items_are_counted_without_decoding(value: list[object], indent: int | None) -> None:
    """Brackets, commas, quotation marks and backslashes in strings are not structure."""
    content = json.dumps(value, indent=indent, ensure_ascii=False).encode()
    assert count_items(content, 1000) == len(value)


def test_more_than_a_page_has_no_number_of_items() -> None:
    """The scan ends there; 0 means that there are no pages."""
    assert count_items(b"[1,2,3]", 3) == 3
    assert count_items(b"[1,2,3,4]", 3) is None
    assert count_items(b"[1,2,3,4" + b'"', 3) is None
    assert count_items(b"[]", 0) is None


@pytest.mark.parametrize(
    ("target", "most"),
    [
        (b"/repos/o/r/issues", 100),
        (b"/notifications?per_page=5", 50),
        (b"/repos/o/r/dependabot/alerts", 100),
        (b"/repos/o/r", 0),
        (b"/repos/o/r/contents/a/b.json", 0),
        (b"/unknown", 100),
    ],
)
def test_the_most_items_of_a_page(target: bytes, most: int) -> None:
    """They are those of the table; an operation without pages has none."""
    assert most_items(target) == most


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" ",
        b"[",
        b"[1,2",
        b'["]',
        b'[["]',
        b"[1] x",
        b'{"a":[1]}',
        b'"["',
        b"[1]\0",
        b"[" * 200_000,
        b"[[" + b"[[]]," * 250_000 + b"1]]",
    ],
)
def test_what_is_no_array(content: bytes) -> None:
    """Truncated, deeply nested or other content has no number of items."""
    assert count_items(content, 100) is None


def test_what_is_no_list_needs_no_proof() -> None:
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
LAST = Demand(None, b"/repositories/1/issues?page=9")


def test_a_full_page_with_a_next_one_needs_no_proof() -> None:
    """That there is a next page does not change while this one is full."""
    assert demand(LISTS + b"?per_page=2", 2, link(next=2)) == NOTHING
    assert demand(CURSORS + b"?per_page=2", 2, link(next=b"after=zz")) == NOTHING


def test_the_next_page_of_another_credential_must_have_items() -> None:
    """This credential may see fewer; a link to the last page proves more."""
    value = link(next=2)
    linked = Demand(linked_page=b"/repositories/1/issues?page=2")
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
    assert demand(LISTS + query, items, value) == Demand(with_page(LISTS + query, next_page))


@pytest.mark.parametrize("target", [NO_PAGES, NO_PAGES + b"?per_page=30", b"/versions"])
def test_an_operation_without_pages_needs_no_proof(target: bytes) -> None:
    """However many items it has, these are all."""
    assert demand(target, 30, None) == NOTHING
    assert demand(target, 30, None, authorised=False) == NOTHING


def test_links_outweigh_the_table() -> None:
    """Where the table is behind GitHub, what GitHub links to is how a list is paginated."""
    assert demand(NO_PAGES, 30, link(prev=1)) == Demand(NO_PAGES + b"?page=2")
    assert demand(CURSORS + b"?page=2", 30, link(prev=1)) == Demand(CURSORS + b"?page=3")
    assert demand(LISTS, 30, link(prev=b"before=zz")) == UNPROVABLE
    assert demand(b"/unknown?page=4", 30, link(prev=3)) == Demand(b"/unknown?page=5")


@pytest.mark.parametrize("target", [CURSORS, b"/unknown"])
def test_a_full_end_of_what_has_no_numbers_is_unprovable(target: bytes) -> None:
    """With cursors, and where the table does not know, GitHub is asked without validators."""
    assert demand(target, 30, None) == UNPROVABLE
    assert demand(target + b"?per_page=3", 3, None) == UNPROVABLE
    assert demand(target, 29, None) == NOTHING


def test_a_page_of_unknown_size_is_no_full_one() -> None:
    """Of an unknown operation: 31 items that no request for pages has led to are all."""
    assert demand(b"/unknown", 31, None) == NOTHING
    assert demand(b"/unknown", 31, b'<https://docs>; rel="deprecation"') == NOTHING
    assert demand(CURSORS, 31, None) == UNPROVABLE


def test_an_object_of_a_list_with_cursors_is_unprovable() -> None:
    """It may hold a full page, and does not tell how many items there are in all."""
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
        assert demand(LISTS + b"?q=1", 1, value) == Demand(None, LISTS + b"?q=1&page=9")


@pytest.mark.parametrize(
    "path",
    [b"/a b", b"/a\tb", b"/\xc3\xa4", b"/a/../b", b"/a/%2e%2e/b", b"/a#b", b"//a", b"/api/v3/a"],
)
def test_a_link_that_is_no_request_target_is_not_requested(path: bytes) -> None:
    """What stands in a `Link` gets into a request with the credential of a client."""
    value = b'<%s%s?page=9>; rel="last"' % (API, path)
    assert demand(LISTS + b"?q=1", 1, value) == Demand(None, LISTS + b"?q=1&page=9")
    value = b'<%s%s?page=2>; rel="next"' % (API, path)
    assert demand(LISTS, 30, value, shared=True) == UNPROVABLE


def test_the_own_last_page_is_replayed_on_demand() -> None:
    """With `verify_last` off; that of another credential is proved none the less."""
    target = LISTS + b"?per_page=2"
    sent = link(next=2, last=9)
    assert demand(target, 2, sent, verify_last=False) == NOTHING
    assert demand(target, 2, sent, verify_last=False, shared=True) == LAST
    assert demand(target, 2, None, verify_last=False) == Demand(target + b"&page=2")


def test_a_last_page_without_a_number_is_unprovable() -> None:
    """Where the last page has no number, nothing can be asked about the page after it."""
    assert demand(LISTS, 5, link(last=b"q=1")) == UNPROVABLE
    assert demand(LISTS, 5, link(last=b"page=zz")) == UNPROVABLE
    assert demand(LISTS, 5, link(last=b"after=zz")) == UNPROVABLE


def test_cursors_are_unprovable() -> None:
    """Where a full list ends at a cursor, of the question or its links, there is no proof."""
    assert demand(LISTS + b"?after=zz&per_page=3", 3, None) == UNPROVABLE
    assert demand(LISTS + b"?per_page=3", 3, link(prev=b"before=zz")) == UNPROVABLE
    assert demand(LISTS + b"?page=zz", 30, None) == UNPROVABLE
    assert demand(LISTS + b"?page=0", 30, None) == UNPROVABLE
    assert demand(LISTS + b"?after=zz&per_page=3", 2, None) == NOTHING


def test_nothing_is_free_without_a_credential() -> None:
    """Who asks without a credential pays for a proof, so there is none."""
    assert demand(LISTS, 30, None, authorised=False) == UNPROVABLE
    assert demand(LISTS, 1, link(next=2, last=9), authorised=False) == UNPROVABLE


def test_two_ends_of_one_list_are_one_or_unprovable() -> None:
    """A full page without a next one, and a last page elsewhere, can't both be right."""
    assert demand(LISTS + b"?page=9", 30, link(last=9)) == Demand(LISTS + b"?page=10")
    assert demand(LISTS + b"?page=9", 29, link(last=9)) == NOTHING
    assert demand(LISTS + b"?page=8", 30, link(last=9)) == UNPROVABLE


@given(
    targets,
    st.none() | st.integers(0, 120),
    st.none() | st.builds(lambda page: link(prev=1, last=page), st.integers(1, 9)),
    st.booleans(),
    st.booleans(),
)
def test_a_demand_is_for_one_page_or_unprovable(
    target: bytes, items: int | None, value: bytes | None, shared: bool, authorised: bool
) -> None:
    """What is unprovable names no page; else there is one page to begin with."""
    found = demand(target, items, value, shared=shared, authorised=authorised)
    if found.unprovable:
        assert found == UNPROVABLE
    assert None in {found.next_page, found.last_page}
    if not authorised:
        assert found in {NOTHING, UNPROVABLE}


@pytest.mark.parametrize("padding", [0, 2000])
def test_a_long_link_is_judged_as_a_short_one(padding: int) -> None:
    """Only the short one is remembered."""
    link = b'<https://api.github.com/x?per_page=1&page=9&q=%s>; rel="last"' % (b"y" * padding)
    for _ in range(2):
        assert demand(b"/x?per_page=1", 1, link) == UNPROVABLE
        assert demand(b"/x?per_page=2", 1, link) == Demand(None, link[23 : link.index(b">")])


@pytest.mark.parametrize(
    ("target", "operation"),
    [
        (b"/repos/o/r/issues", Operation(Paging.NUMBERED)),
        (b"/repos/o/r/issues?state=all", Operation(Paging.NUMBERED)),
        (b"/events", Operation(Paging.NUMBERED, 15, 100)),
        (b"/notifications?all=true", Operation(Paging.NUMBERED, 50, 50)),
        (b"/repos/o/r/dependabot/alerts", Operation(Paging.CURSORS)),
        (b"/users", Operation(Paging.CURSORS)),
        (b"/app/hook/deliveries", Operation(Paging.CURSORS)),
        (b"/repos/o/r/contents", Operation(Paging.NONE)),
        (b"/repos/o/r/contents/a/b/c", Operation(Paging.NONE)),
        (b"/repos/o/r", Operation(Paging.NONE)),
        (b"/orgs/teams/teams/teams/repos", Operation(Paging.NUMBERED)),
        (b"/repositories", Operation(Paging.CURSORS)),
        (b"/repositories/1", Operation(Paging.NONE)),
        (b"/repositories/1/issues?page=2", Operation(Paging.NUMBERED)),
        (b"/repositories/1/dependabot/alerts", Operation(Paging.CURSORS)),
        (b"/organizations/1/repos", Operation(Paging.NUMBERED)),
        (b"/organizations/1/team/2/repos", Operation(Paging.NUMBERED)),
        (b"/user/1/repos", Operation(Paging.NUMBERED)),
        (b"/user/repos", Operation(Paging.NUMBERED)),
        (b"/user/o/repos", Operation(Paging.UNKNOWN)),
        (b"/issues/1/comments", Operation(Paging.UNKNOWN)),
        (b"/repos/o/r/git/matching-refs/heads/x", Operation(Paging.UNKNOWN)),
        (b"/users/o/packages/npm/p/versions", Operation(Paging.UNKNOWN)),
        (b"/nowhere", Operation(Paging.UNKNOWN)),
        (b"/", Operation(Paging.NONE)),
        (b"", Operation(Paging.UNKNOWN)),
        (b"/" * 100_000, Operation(Paging.UNKNOWN)),
        (b"/repos" * 100_000, Operation(Paging.UNKNOWN)),
    ],
)
def test_operations_are_found_by_their_path(target: bytes, operation: Operation) -> None:
    """By the table, and under the numbers by which GitHub's links name owners."""
    assert operation_of(target) == operation


@pytest.mark.parametrize(
    ("target", "size"),
    [
        (b"/notifications", 50),
        (b"/notifications?per_page=100", 50),
        (b"/notifications?per_page=10", 10),
        (b"/notifications?per_page=" + b"9" * 50, 50),
        (b"/events?per_page=0", 15),
    ],
)
def test_page_sizes_are_those_of_the_operation(target: bytes, size: int) -> None:
    """Some have other pages than 30 items, or 100 at most."""
    assert page_size(target) == size


def test_usual_pages_are_decoded() -> None:
    """With the same result, but that malformed content has no items."""
    assert count_items(b'[1, {"a": [2]}]', 100) == 2
    assert count_items(b"[1, 2]", 1) is None
    assert count_items(b"[1, 2", 100) is None
    assert count_items(b"[" * 100_000, 100) is None


@pytest.fixture(autouse=True)
def _scanned(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "decoded" not in request.node.name:
        monkeypatch.setattr(pagination, "_DECODED_BYTES", 0)
