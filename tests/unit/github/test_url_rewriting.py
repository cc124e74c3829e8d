"""GitHub's URLs in members that are URLs by name are rewritten, and nothing else."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.github.media_types import is_json
from ghmirror_tw.github.url_rewriting import BaseUrls, Rewriter
from ghmirror_tw.http.fields import Fields

URL = "https://api.github.com"
UPLOADS = "https://uploads.github.com"
API = "http://mirror:8080/api/v3"
BASE = BaseUrls(API.encode(), b"http://mirror:8080/api/uploads")
REWRITER = Rewriter(URL.encode(), UPLOADS.encode())
DELIVERY = "/repos/o/r/hooks/1/deliveries/2"
DEPLOYMENTS = "/repos/o/r/deployments"

#: Pieces that lie near the border of what is rewritten.
pieces = st.sampled_from(
    [
        *(URL, "https:", "//api.github.com", "https://api.github.co", "m", "/", "{/x}", "?a", "#"),
        *(".evil.com", "@evil", '"', "\\", "\\/", "https:\\/\\/api.github.com\\/", " ", "\n"),
        *(":", ",", "{", "}", "[", "]", '"https://api.github.com/', '":"', "x", "é", "\0", "@", ""),
        *(UPLOADS, '"url":"', '"_links":{', '"config":{', '_url":', "url"),
    ]
)
texts = st.lists(pieces, max_size=6).map("".join)
names = texts | st.sampled_from(
    [
        "url",
        "html_url",
        "href",
        "_links",
        "config",
        "files",
        "tags",
        "payload",
        "curl",
        "x_url",
        "_url",
    ]
)
values = texts | st.sampled_from([URL + "/x", UPLOADS + "/x", URL, "url", "_links", "x_url"])
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | values,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(names, children, max_size=4),
    max_leaves=12,
)


def rewritten(text: str) -> str:
    """Return the rewritten URL, by a simpler implementation."""
    for url, base in ((URL, API), (UPLOADS, BASE.uploads.decode())):
        if text.startswith(url) and text[len(url) :][:1] in {"", "/", "?", "#", "{"}:
            return base + text[len(url) :]
    return text


OBJECTS = {"files", "custom_properties", "tags"}


def mapped(document: Any, path: str = "", name: str = "", *, links: bool = False) -> Any:
    """Return a document with its URLs rewritten, found by another way than in the code."""
    opaque = {"config", *OBJECTS} | ({"payload"} if path == DEPLOYMENTS else set())
    if isinstance(document, (dict, list)):
        is_opaque = name in opaque and not (name in OBJECTS and isinstance(document, list))
        if is_opaque and not links:
            return document
        links = links or name == "_links"
        if isinstance(document, dict):
            return {
                each: mapped(value, path, each, links=links) for each, value in document.items()
            }
        return [mapped(value, path, links=links) for value in document]
    is_url = links or name in {"url", "href"} or name.endswith("_url")
    return rewritten(document) if isinstance(document, str) and is_url else document


def content(body: str, path: str = "") -> str:
    return REWRITER.content(body.encode(), BASE, path.encode()).decode()


def streamed(body: bytes, cuts: list[int]) -> bytes:
    """Return what a stream makes of *body* in pieces that end at *cuts*."""
    stream = REWRITER.stream(BASE)
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    fed = [stream.feed(body[a:b]) for a, b in pairwise(edges)]
    return b"".join(fed) + stream.close()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"url":"https://api.github.com/x"}', '{"url":"http://mirror:8080/api/v3/x"}'),
        ('{ "url" : "https://api.github.com" }', '{ "url" : "http://mirror:8080/api/v3" }'),
        ('{"a_url":"https://api.github.com{/x}"}', '{"a_url":"http://mirror:8080/api/v3{/x}"}'),
        ('{"href":"https://api.github.com?x"}', '{"href":"http://mirror:8080/api/v3?x"}'),
        ('{"_url":"https://api.github.com#x"}', '{"_url":"http://mirror:8080/api/v3#x"}'),
        (r'{"url":"https:\/\/api.github.com\/x"}', r'{"url":"http://mirror:8080/api/v3\/x"}'),
        (
            r'{"url":"https:\u002f\u002Fapi.github.com\u002fx"}',
            r'{"url":"http://mirror:8080/api/v3\u002fx"}',
        ),
        (
            r'{"a":"\\","url":"https://api.github.com"}',
            r'{"a":"\\","url":"http://mirror:8080/api/v3"}',
        ),
        (
            '{"_links":{"self":"https://api.github.com/x","n":1}}',
            '{"_links":{"self":"http://mirror:8080/api/v3/x","n":1}}',
        ),
        (
            '{"_links":[{"n":["https://api.github.com/x", {"y":"https://api.github.com/z"}]}]}',
            '{"_links":[{"n":["http://mirror:8080/api/v3/x", {"y":"http://mirror:8080/api/v3/z"}]}]}',
        ),
        (
            '{"upload_url":"https://uploads.github.com/x{?name}"}',
            '{"upload_url":"http://mirror:8080/api/uploads/x{?name}"}',
        ),
        (
            '{"config":{"url":"https://api.github.com/"},"url":"https://api.github.com/"}',
            '{"config":{"url":"https://api.github.com/"},"url":"http://mirror:8080/api/v3/"}',
        ),
        (
            '{"config":"x","_links":1,"url":"https://api.github.com/"}',
            '{"config":"x","_links":1,"url":"http://mirror:8080/api/v3/"}',
        ),
        (
            '{"data":{"node":{"url":"https://api.github.com/x","body":"https://api.github.com"}}}',
            '{"data":{"node":{"url":"http://mirror:8080/api/v3/x","body":"https://api.github.com"}}}',
        ),
    ],
)
def test_members_that_are_urls_by_name(before: str, after: str) -> None:
    """They are rewritten at any place, with slashes escaped or not."""
    assert content(before) == after


@pytest.mark.parametrize(
    "body",
    [
        '{"body":"https://api.github.com/x"}',
        '{"title":"https://api.github.com/x"}',
        '["https://api.github.com/x"]',
        '{"url":["https://api.github.com/x"]}',
        '"https://api.github.com/x"',
        '{"curl":"https://api.github.com/x"}',
        '{"xhref":"https://api.github.com/x"}',
        r'{"a\"url":"https://api.github.com/x"}',
        r'{"body":"{\"url\":\"https://api.github.com/x\"}"}',
        '{"body":"_links","x":{"self":"https://api.github.com/x"}}',
        '{"https://api.github.com/x":1}',
        '{"_links":{"https://api.github.com/x" : "y", "https://api.github.com/z":{}}}',
        '{"url":"see https://api.github.com/x"}',
        r'{"url":"say \"https://api.github.com/x\""}',
        '{"url":"https://api.github.com.evil.com/x"}',
        '{"url":"https://api.github.community"}',
        '{"url":"https://api.github.com:8443/x"}',
        '{"url":"https://api.github.com@evil.com/x"}',
        '{"url":"https://apixgithub.com/x"}',
        '{"url":"http://api.github.com/x"}',
        '{"url":"https://github.com/x"}',
        '{"config":{"x":[{"url":"https://api.github.com/x"}],"b":"}","a_url":"https://api.github.com"}}',
        '{"files":{"url":{"content":"https://api.github.com/x","href":"https://api.github.com"}}}',
        '{"custom_properties":{"docs_url":"https://api.github.com/x","url":[{"url":"https://api.github.com"}]}}',
        '{"tags":{"url":"https://api.github.com/x"}}',
        '{"files":{"_links":{"content":"https://api.github.com/x"}}}',
        '{"_links":{"a":1',
        '{"config":{"a":1',
        '{"config":{"a":"https://api.github.com/x',
        "https://api.github.com/x",
        "",
    ],
)
def test_members_that_are_not_rewritten(body: str) -> None:
    """Other members, names, text that mentions the URL, other hosts, what a user wrote."""
    assert content(body) == body


@pytest.mark.parametrize(
    ("path", "changes"),
    [
        (DELIVERY, False),
        ("/repos/o/r/hooks/1/deliveries", False),
        ("/orgs/o/hooks/1/deliveries/2/attempts", False),
        ("/app/hook/deliveries", False),
        ("/app/hook/config", False),
        ("/repos/o/r/hooks/1/config", False),
        ("/repos/o/r/hooks/1", True),
        ("/repos/o/deliveries", True),
        ("/repos/o/hooks", True),
    ],
)
def test_recorded_deliveries(path: str, changes: bool) -> None:
    """A payload that GitHub signed is not rewritten."""
    body = '{"url":"https://api.github.com/x"}'
    assert (content(body, path) != body) is changes


@pytest.mark.parametrize("path", [DEPLOYMENTS, DEPLOYMENTS + "/1", "/repos/o/r/events"])
def test_payloads(path: str) -> None:
    """The payload of a deployment is its author's; that of an event is GitHub's."""
    body = '{"payload":{"url":"https://api.github.com/x"}}'
    assert (content(body, path) == body) is path.startswith(DEPLOYMENTS)


def test_github_enterprise_server() -> None:
    """A URL with a path and a port is rewritten as a whole, or not at all."""
    rewriter = Rewriter(b"https://ghe.example:8443/api/v3")
    before = (
        b'{"url":"https://ghe.example:8443/api/v3/x","a_url":"https://ghe.example:8443/api/v30"}'
    )
    after = b'{"url":"http://mirror/x","a_url":"https://ghe.example:8443/api/v30"}'
    assert rewriter.content(before, BaseUrls(b"http://mirror", b"")) == after


def test_the_same_base_changes_nothing() -> None:
    """Where the mirror has GitHub's own URL, all content is unchanged, even escaped slashes."""
    body, url = rb'{"url":"https:\/\/api.github.com\/x"}', URL.encode()
    base = BaseUrls(url, UPLOADS.encode())
    fields = Fields(((b"Location", url),))
    assert REWRITER.content(body, base) == body
    assert REWRITER.fields(fields, base) == fields
    stream = REWRITER.stream(base)
    assert stream.feed(body) + stream.close() == body


@given(
    documents,
    st.sampled_from([None, 2]),
    st.booleans(),
    st.sampled_from(["", DEPLOYMENTS]),
)
def test_json_is_mapped_member_by_member(
    document: Any, indent: int | None, ascii_only: bool, path: str
) -> None:
    """Parsed, a rewritten document is the original with its URLs rewritten."""
    body = json.dumps(document, indent=indent, ensure_ascii=ascii_only)
    for text in (body, body.replace("/", "\\/"), body.replace("/", "\\u002f")):
        assert json.loads(content(text, path)) == mapped(json.loads(text), path)


@given(documents, st.lists(st.integers(0, 10_000), max_size=8))
def test_pieces_make_no_difference(document: Any, cuts: list[int]) -> None:
    """However a document is cut, the output is the same."""
    body = json.dumps(document).encode()
    assert streamed(body, cuts) == REWRITER.content(body, BASE)


@given(st.lists(pieces, max_size=12).map("".join), st.lists(st.integers(0, 200), max_size=8))
def test_pieces_make_no_difference_to_what_is_no_json(body: str, cuts: list[int]) -> None:
    """The same holds for anything else, byte by byte too."""
    raw = body.encode()
    whole = REWRITER.content(raw, BASE)
    assert streamed(raw, cuts) == whole
    assert streamed(raw, list(range(len(raw)))) == whole


@pytest.mark.parametrize(
    "text",
    [
        "{" + f'"url":"{URL}/long/{"x" * 100_000}","b":"{URL}/b",' * 2 + '"":1}',
        "{" + f'"a":"{URL}/value","a_url":"{URL}/value",' * 3000 + '"":0}',
        "{" + f'"_links":{{"{URL}/name": "{URL}/value"}},' * 3000 + '"":0}',
        f'["{"url" * 100_000}", {{"url":"{URL}"}}]',
    ],
)
def test_large_content_in_any_pieces(text: str) -> None:
    """Content with strings beyond every limit is the same in any pieces."""
    body = text.encode()
    whole = REWRITER.content(body, BASE)
    assert streamed(body, list(range(0, len(body), 16_381))) == whole
    assert json.loads(whole) == mapped(json.loads(text))


@pytest.mark.parametrize("length", [128, 129])
def test_the_longest_name(length: int) -> None:
    """A name is one of interest up to a length, quotation marks and all, in any pieces."""
    name = '_url"'.rjust(length - 1, "x")
    body = f'{{"{name}:"{URL}"}}'.encode()
    whole = REWRITER.content(body, BASE)
    assert (whole == body) is (length == 129)
    assert streamed(body, list(range(len(body)))) == whole


def test_the_depth_is_bounded() -> None:
    """Below `_links` deeper content than GitHub's stays as it is, and so does all behind it."""
    deep = f'{{"_links":{"[" * 101}"{URL}"{"]" * 101},"url":"{URL}"}}'
    assert content(deep) == f'{{"_links":{"[" * 101}"{URL}"{"]" * 101},"url":"{API}"}}'


@pytest.mark.parametrize("unit", ['"', "\\", '"\\', "{", "[", '"url":', '"url" ', '"_links":{'])
def test_little_is_held_back(unit: str) -> None:
    """The scanner holds back less than a kilobyte, for any content."""
    stream = REWRITER.stream(BASE)
    fed = passed = 0
    for _ in range(100):
        fed += len(unit) * 100
        passed += len(stream.feed(unit.encode() * 100))
        assert fed - passed < 1000


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            b'<https://api.github.com/x?page=2>; rel="next", <https://api.github.com?page=9>',
            b'<http://mirror:8080/api/v3/x?page=2>; rel="next", <http://mirror:8080/api/v3?page=9>',
        ),
        (b"<https://api.github.com>", b"<http://mirror:8080/api/v3>"),
        (
            b'<https://api.github.com.evil/>; title="<https://api.github.com/>"',
            b'<https://api.github.com.evil/>; title="<https://api.github.com/>"',
        ),
        (
            b'<https://docs.github.com/x>; rel="deprecation"',
            b'<https://docs.github.com/x>; rel="deprecation"',
        ),
        (b"nonsense https://api.github.com/", b"nonsense https://api.github.com/"),
    ],
)
def test_targets_of_links(before: bytes, after: bytes) -> None:
    """In `Link`, targets are rewritten, and neither parameters nor other hosts."""
    fields = REWRITER.fields(Fields(((b"Link", before), (b"Link", before))), BASE)
    assert fields.get_all(b"link") == [after, after]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"https://api.github.com/repositories/1", b"http://mirror:8080/api/v3/repositories/1"),
        (b"https://api.github.com", b"http://mirror:8080/api/v3"),
        (b"https://uploads.github.com/x", b"http://mirror:8080/api/uploads/x"),
        (b"https://api.github.com.evil/", b"https://api.github.com.evil/"),
        (b"https://codeload.github.com/x", b"https://codeload.github.com/x"),
        (b"https://x/?to=https://api.github.com/", b"https://x/?to=https://api.github.com/"),
        (b"/x", b"/x"),
    ],
)
def test_locations(before: bytes, after: bytes) -> None:
    """`Location` leads to the mirror where it led to the API, and nowhere else."""
    assert REWRITER.fields(Fields(((b"Location", before),)), BASE).get(b"location") == after


def test_other_fields_stay() -> None:
    """No other field is changed, and the order is preserved."""
    fields = Fields(((b"X-Url", URL.encode()), (b"Location", b"/a"), (b"ETag", b'"x"')))
    assert REWRITER.fields(fields, BASE) == fields


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (b"application/json", True),
        (b"application/json; charset=utf-8", True),
        (b"Application/JSON ;charset=utf-8", True),
        (b"application/vnd.github.v3+json", True),
        (b"application/vnd.github.machine-man-preview+json", True),
        (b"application/vnd.github.v3.star+json", True),
        (b"application/vnd.github.v3.full+json", True),
        (b"application/scim+json", True),
        (b"application/raw+json", True),
        (b"application/vnd.github.raw+json", False),
        (b"application/vnd.github.raw+json; charset=utf-8", False),
        (b"application/vnd.github.v3.raw+json", False),
        (b"application/vnd.github.v3.html+json", False),
        (b"application/vnd.github.v3.base64+json", False),
        (b"application/vnd.github.VERSION.diff", False),
        (b"application/vnd.github.v3.patch", False),
        (b"application/vnd.github.sha", False),
        (b"application/json-seq", False),
        (b"application/jsonx", False),
        (b"text/plain; charset=json", False),
        (b"application/octet-stream", False),
        (b"json", False),
        (b"", False),
        (None, False),
    ],
)
def test_media_types(content_type: bytes | None, expected: bool) -> None:
    """JSON is known by subtype or suffix, unless the content is a user's file."""
    assert is_json(content_type) is expected


def test_content_that_breaks_off_below_links() -> None:
    """Nothing is held back where the content ends between two tokens below `_links`."""
    stream = Rewriter(b"https://api.github.com").stream(BaseUrls(b"http://mirror", b""))
    begun = b'{"_links":{"a":"https://api.github.com/x"'
    made = stream.feed(begun) + stream.feed(b" \n") + stream.close()
    assert made == b'{"_links":{"a":"http://mirror/x" \n'
