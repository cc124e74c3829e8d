"""GitHub's URLs become the mirror's where they are URLs, and nothing else changes."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghmirror_tw.policy.fields import Fields
from ghmirror_tw.policy.rewriting import LOOK_AHEAD_BYTES, Rewriter, is_json

URL = "https://api.github.com"
BASE = "http://mirror:8080/api/v3"
REWRITER = Rewriter(URL.encode())

#: Pieces that lie near the border of what is rewritten.
pieces = st.sampled_from(
    [
        *(URL, "https:", "//api.github.com", "https://api.github.co", "m", "/", "{/x}", "?a", "#"),
        *(".evil.com", "@evil", '"', "\\", "\\/", "https:\\/\\/api.github.com\\/", " ", "\n"),
        *(":", ",", "{", "}", "[", "]", '"https://api.github.com/', '":"', "x", "é", "\0", "@", ""),
    ]
)
texts = st.lists(pieces, max_size=6).map("".join)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(texts, children, max_size=4),
    max_leaves=12,
)


def rewritten(text: str) -> str:
    """Return what becomes of a string value, said another way than in the code."""
    if text.startswith(URL) and text[len(URL) :][:1] in {"", "/", "?", "#", "{"}:
        return BASE + text[len(URL) :]
    return text


def mapped(document: Any) -> Any:
    """Return a document with all its string values rewritten, and no names."""
    if isinstance(document, dict):
        return {name: mapped(value) for name, value in document.items()}
    if isinstance(document, list):
        return [mapped(value) for value in document]
    return rewritten(document) if isinstance(document, str) else document


def content(body: str) -> str:
    return REWRITER.content(body.encode(), BASE.encode()).decode()


def streamed(body: bytes, cuts: list[int]) -> bytes:
    """Return what a stream makes of *body* in pieces that end at *cuts*."""
    stream = REWRITER.stream(BASE.encode())
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    fed = [stream.feed(body[a:b]) for a, b in pairwise(edges)]
    return b"".join(fed) + stream.finish()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"url":"https://api.github.com/x"}', '{"url":"http://mirror:8080/api/v3/x"}'),
        ('{ "url" : "https://api.github.com" }', '{ "url" : "http://mirror:8080/api/v3" }'),
        ('["https://api.github.com{/x}"]', '["http://mirror:8080/api/v3{/x}"]'),
        ('["https://api.github.com?x"]', '["http://mirror:8080/api/v3?x"]'),
        ('"https://api.github.com#x"', '"http://mirror:8080/api/v3#x"'),
        (r'["https:\/\/api.github.com\/x"]', r'["http://mirror:8080/api/v3\/x"]'),
        (r'["\\","https://api.github.com"]', r'["\\","http://mirror:8080/api/v3"]'),
    ],
)
def test_values_that_start_with_the_url(before: str, after: str) -> None:
    """Values are rewritten wherever they stand, with slashes escaped or not."""
    assert content(before) == after


@pytest.mark.parametrize(
    "body",
    [
        '{"https://api.github.com/x":1}',
        '{"a":1,"https://api.github.com/x" : "y"}',
        '["see https://api.github.com/x"]',
        r'["say \"https://api.github.com/x\""]',
        r'["\\\"https://api.github.com/x"]',
        '["https://api.github.com.evil.com/x"]',
        '["https://api.github.community"]',
        '["https://api.github.com:8443/x"]',
        '["https://api.github.com@evil.com/x"]',
        '["https://apixgithub.com/x"]',
        '["http://api.github.com/x"]',
        '["https://github.com/x"]',
        "https://api.github.com/x",
        "",
    ],
)
def test_what_is_not_rewritten(body: str) -> None:
    """Names, text that mentions the URL, quotations, other hosts, and what is no string."""
    assert content(body) == body


def test_github_enterprise_server() -> None:
    """A URL with a path and a port is rewritten as a whole, or not at all."""
    rewriter = Rewriter(b"https://ghe.example:8443/api/v3")
    before = b'["https://ghe.example:8443/api/v3/x","https://ghe.example:8443/api/v30"]'
    after = b'["http://mirror/x","https://ghe.example:8443/api/v30"]'
    assert rewriter.content(before, b"http://mirror") == after


def test_the_same_base_changes_nothing() -> None:
    """Where the mirror goes by GitHub's own URL, everything stays, even escaped slashes."""
    body, url = rb'["https:\/\/api.github.com\/x"]', URL.encode()
    fields = Fields(((b"Location", url),))
    assert REWRITER.content(body, url) == body
    assert REWRITER.fields(fields, url) == fields
    stream = REWRITER.stream(url)
    assert stream.feed(body) + stream.finish() == body


@given(documents, st.sampled_from([None, 2]), st.booleans())
def test_json_is_mapped_value_by_value(document: Any, indent: int | None, ascii_only: bool) -> None:
    """Parsed, a rewritten document is the original with its string values rewritten."""
    body = json.dumps(document, indent=indent, ensure_ascii=ascii_only)
    for text in (body, body.replace("/", "\\/")):
        assert json.loads(content(text)) == mapped(json.loads(text))


@given(documents, st.lists(st.integers(0, 10_000), max_size=8))
def test_chunks_make_no_difference(document: Any, cuts: list[int]) -> None:
    """However a document is cut, what comes out is the same."""
    body = json.dumps(document).encode()
    assert streamed(body, cuts) == REWRITER.content(body, BASE.encode())


@given(st.lists(pieces, max_size=12).map("".join), st.lists(st.integers(0, 200), max_size=8))
def test_chunks_make_no_difference_to_what_is_no_json(body: str, cuts: list[int]) -> None:
    """The same holds for anything else, byte by byte too."""
    raw = body.encode()
    whole = REWRITER.content(raw, BASE.encode())
    assert streamed(raw, cuts) == whole
    assert streamed(raw, list(range(len(raw)))) == whole


@pytest.mark.parametrize(
    "text",
    [
        "[" + f'"{URL}/long/{"x" * LOOK_AHEAD_BYTES}", "{URL}/b",' * 2 + "1]",
        "{" + f'"{URL}/name": "{URL}/value",' * 3000 + '"":0}',
        f'["{URL}/{"x" * 2 * LOOK_AHEAD_BYTES}',
        "[" + f'"{URL}/{{x}}",\n' * 5000 + "1]",
    ],
)
def test_large_bodies_in_any_pieces(text: str) -> None:
    """Bodies beyond the look-ahead, with strings beyond it too, are the same in any pieces."""
    body = text.encode()
    whole = REWRITER.content(body, BASE.encode())
    assert streamed(body, list(range(0, len(body), 16_381))) == whole
    assert whole.count(b"mirror") == text.count(URL) - text.count("name")


@pytest.mark.parametrize("length", [LOOK_AHEAD_BYTES - 2, LOOK_AHEAD_BYTES - 1])
def test_how_long_a_name_may_be(length: int) -> None:
    """A name is told from a value up to the look-ahead, colon and all, in any pieces."""
    name = f'"{URL}/'.ljust(length, "x").encode()
    body = b"{" + name + b'":0}'
    is_name = length == LOOK_AHEAD_BYTES - 2
    assert (REWRITER.content(body, BASE.encode()) == body) is is_name
    assert (streamed(body, list(range(0, len(body), 16_381))) == body) is is_name


def test_little_is_held_back() -> None:
    """A string that never ends is passed on in the end, as a value."""
    stream = REWRITER.stream(BASE.encode())
    opening = f'["{URL}/'.encode()
    assert stream.feed(opening) == b"["
    assert stream.feed(b"x" * (LOOK_AHEAD_BYTES - len(opening))) == b""
    assert stream.feed(b"x").startswith(f'"{BASE}/xx'.encode())
    assert stream.feed(b"xyz") == b"xyz"
    assert stream.finish() == b""


def test_nothing_is_held_back_without_need() -> None:
    """Only a possible beginning of the URL, or of a name, waits for more."""
    stream = REWRITER.stream(BASE.encode())
    assert stream.feed(b'{"a": "htt') == b'{"a": '
    assert stream.feed(b"ps-x") == b'"https-x'
    assert stream.feed(b'","u":"https:\\/') == b'","u":'
    assert stream.feed(b"\\/api.github.com\\") == b""
    assert stream.feed(b"/x") == f'"{BASE}\\/x'.encode()
    assert stream.feed(b'\\"') == b'\\"'
    assert stream.feed(f'{URL}/"'.encode()) == f"{URL}/".encode()
    assert stream.finish() == b'"'


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
    fields = REWRITER.fields(Fields(((b"Link", before), (b"Link", before))), BASE.encode())
    assert fields.get_all(b"link") == [after, after]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"https://api.github.com/repositories/1", b"http://mirror:8080/api/v3/repositories/1"),
        (b"https://api.github.com", b"http://mirror:8080/api/v3"),
        (b"https://api.github.com.evil/", b"https://api.github.com.evil/"),
        (b"https://codeload.github.com/x", b"https://codeload.github.com/x"),
        (b"https://x/?to=https://api.github.com/", b"https://x/?to=https://api.github.com/"),
        (b"/x", b"/x"),
    ],
)
def test_locations(before: bytes, after: bytes) -> None:
    """`Location` leads to the mirror where it led to the API, and nowhere else."""
    assert (
        REWRITER.fields(Fields(((b"Location", before),)), BASE.encode()).get(b"location") == after
    )


def test_other_fields_stay() -> None:
    """No other field is touched, and the order is kept."""
    fields = Fields(((b"X-Url", URL.encode()), (b"Location", b"/a"), (b"ETag", b'"x"')))
    assert REWRITER.fields(fields, BASE.encode()) == fields


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
    """JSON is told by subtype or suffix, unless GitHub sends a file under it."""
    assert is_json(content_type) is expected
