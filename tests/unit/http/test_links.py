"""`Link`: members, relations, and pages at other servers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.http.links import Links, has_foreign_page, parse_links

API = b"https://api.github.com"


def link(**pages: bytes | int) -> bytes:
    """Return a `Link` value, as GitHub writes it, with these relations."""
    return b", ".join(
        b'<%s/repositories/1/issues?%s>; rel="%s"'
        % (API, b"page=%d" % page if isinstance(page, int) else page, rel.encode())
        for rel, page in pages.items()
    )


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
    assert has_foreign_page(b'<%s>; rel="next"' % target, API) is elsewhere
    assert has_foreign_page(link(first=1) + b", <%s>; REL=last" % target, API) is elsewhere
    assert not has_foreign_page(b'<%s>; rel="deprecation"' % target, API)


def test_links_of_an_enterprise_server() -> None:
    """Only the server counts, not the path; its name may have any case."""
    api_url = b"https://GitHub.example.org:8443/api/v3"
    assert not has_foreign_page(b"<https://github.example.org:8443/api/v3/x>; rel=next", api_url)
    assert not has_foreign_page(b"<https://github.example.org:8443/x>; rel=next", api_url)
    assert has_foreign_page(b"<https://github.example.org/api/v3/x>; rel=next", api_url)
    assert not has_foreign_page(None, api_url)


def test_links_of_recorded_responses() -> None:
    """The relations of a real value lead to their targets."""
    value = (
        b'<https://api.github.com/repositories/1/issues?per_page=1&page=2>; rel="next", '
        b'<https://api.github.com/repositories/1/issues?per_page=1&page=9>; rel="last"'
    )
    assert parse_links(value).target(b"next") == API + b"/repositories/1/issues?per_page=1&page=2"
    assert parse_links(value).target(b"last") == API + b"/repositories/1/issues?per_page=1&page=9"
    assert parse_links(value).target(b"prev") is None


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
def test_malformed_links_are_ignored(value: bytes | None, target: bytes | None) -> None:
    """Targets with commas, quoted parameters, several relations, and what is no link at all."""
    assert parse_links(value).target(b"next") == target


@given(st.binary())
def test_any_bytes_are_links_or_none(value: bytes) -> None:
    """No value makes the parser fail."""
    assert isinstance(parse_links(value), Links)


def test_links_with_other_relations_are_no_pages() -> None:
    """A link to the documentation of a deprecation is one."""
    value = b'<https://docs>; rel="deprecation", ' + link(prev=1, last=4)
    assert parse_links(value).page_targets() == tuple(
        API + b"/repositories/1/issues?page=%d" % page for page in (1, 4)
    )
