"""What may be stored, what passes by, what refuses."""

from __future__ import annotations

import pytest

from ghmirror_tw.caching import storability
from ghmirror_tw.github import graphql
from ghmirror_tw.github.user_agents import respelled
from ghmirror_tw.http.accept_encoding import accepts_gzip
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.messages import Request


def lines(*pairs: tuple[bytes, bytes]) -> Fields:
    return Fields(pairs)


def why(method: bytes = b"GET", target: bytes = b"/x", *pairs: tuple[bytes, bytes]) -> str | None:
    return storability.why_not_storable(Request(method, target, lines(*pairs)))


def test_reads_are_storable_and_nothing_else_is() -> None:
    """Other methods pass by as such."""
    assert why() is None
    assert why(b"HEAD") is None
    assert why(b"POST") == "method"


@pytest.mark.parametrize(
    "line",
    [
        (b"range", b"bytes=0-"),
        (b"x-github-otp", b"1"),
        (b"cache-control", b"max-age=0, No-Store"),
        (b"if-match", b'"a"'),
    ],
)
def test_what_asks_for_something_of_its_own_passes_by(line: tuple[bytes, bytes]) -> None:
    """Each of these fields is reason enough."""
    assert why(b"GET", b"/x", line) == "bypass"


def test_what_has_no_one_meaning_passes_by() -> None:
    """Repeated fields, the rate limit, secrets in the query, and content with a GET."""
    repeated = ((b"accept", b"a"), (b"accept", b"b"))
    assert why(b"GET", b"/x", *repeated) == "bypass"
    other = ((b"x-github-next-global-id", b"1"), (b"x-github-next-global-id", b"0"))
    assert why(b"GET", b"/x", *other) == "bypass"
    assert why(b"GET", b"/x", other[0]) is None
    assert why(b"GET", b"/rate_limit") == "bypass"
    assert why(b"GET", b"/x?access_token=secret") == "bypass"
    request = Request(b"GET", b"/x", lines())
    assert storability.why_not_storable(request, has_content=True) == "bypass"


def test_no_cache_forbids_guessing() -> None:
    """`Pragma` says the same where there is no `Cache-Control`."""
    assert storability.forbids_guessing(lines((b"cache-control", b"no-cache")))
    assert storability.forbids_guessing(lines((b"pragma", b"no-cache")))
    assert not storability.forbids_guessing(
        lines((b"pragma", b"no-cache"), (b"cache-control", b""))
    )
    assert not storability.forbids_guessing(lines())


API = b"https://api.github.com"
ETAG = (b"etag", b'"a"')


JSON = (b"content-type", b"application/json; charset=utf-8")


@pytest.mark.parametrize(
    ("status", "pairs", "reason"),
    [
        (200, [ETAG], None),
        (200, [(b"last-modified", b"then")], None),
        (200, [ETAG, (b"vary", b"Accept, Authorization, X-Requested-With")], None),
        (200, [ETAG, (b"vary", b"*")], None),
        (200, [ETAG, (b"vary", b"Accept, X-Unheard-Of, Origin")], None),
        (200, [ETAG, (b"cache-control", b"no-store")], "no-store"),
        (200, [ETAG, (b"link", b'<https://api.github.com/x?page=2>; rel="next"')], None),
        (200, [ETAG, (b"link", b"<https://evil/x>; rel=next")], "foreign-link"),
        (
            200,
            [ETAG, (b"link", b"</x>; rel=first"), (b"link", b"<https://evil/x>; rel=next")],
            "foreign-link",
        ),
        (200, [ETAG, (b"content-range", b"bytes 0-1/2")], "partial"),
        (200, [], "no-validator"),
        (201, [ETAG], "status"),
        (304, [ETAG], "status"),
    ],
)
def test_what_may_be_stored(
    status: int, pairs: list[tuple[bytes, bytes]], reason: str | None
) -> None:
    """A whole 200 with a validator, whatever `Vary` names."""
    request = Request(b"GET", b"/x", lines())
    assert storability.why_unstorable(request, status, lines(JSON, *pairs), API) == reason


@pytest.mark.parametrize(
    ("accept", "content_type", "fits"),
    [
        (None, b"application/json; charset=utf-8", True),
        (None, b"application/problem+json", True),
        (None, b"text/html", False),
        (None, b"text/plain", True),
        (None, None, True),
        (b"application/json", b"text/plain", False),
        (b"application/json, application/vnd.github+json;q=0.9", None, False),
        (b"*/*", b"TEXT/HTML; charset=utf-8", False),
        (b"application/vnd.github+json", b"application/xhtml+xml", False),
        (b"application/vnd.github.raw+json", b"text/plain", True),
        (b"application/vnd.github.raw", b"text/html", False),
        (b"application/vnd.github.diff", b"text/x-diff", True),
        (b"application/vnd.github.html+json", b"text/html", True),
        (b"application/vnd.github.v3.html", b"text/html; charset=utf-8", True),
        (b"text/html,application/xhtml+xml,*/*;q=0.8", b"text/html", False),
        (b"text/html,application/xhtml+xml,*/*;q=0.8", b"application/json", True),
    ],
)
def test_what_is_no_answer_of_githubs(
    accept: bytes | None, content_type: bytes | None, fits: bool
) -> None:
    """A page in HTML is a balancer's, unless one of GitHub's own media types asks for it."""
    fields = () if accept is None else ((b"accept", accept),)
    pairs = (ETAG,) if content_type is None else (ETAG, (b"content-type", content_type))
    request = Request(b"GET", b"/x", lines(*fields))
    reason = storability.why_unstorable(request, 200, lines(*pairs), API)
    assert reason == (None if fits else "not-json")


@pytest.mark.parametrize(
    ("status", "refused"),
    [
        *((401, "credential"), (403, "key"), (404, "key"), (410, "key"), (451, "key")),
        *((200, None), (304, None), (429, None), (500, None)),
    ],
)
def test_what_refuses(status: int, refused: str | None) -> None:
    """GitHub's word that a credential may see nothing, or may not see this."""
    assert storability.refuses(status) == refused


def test_what_writes() -> None:
    """Unsafe methods do; GraphQL is told by its path and its content."""
    assert storability.is_write(Request(b"DELETE", b"/x", lines()))
    assert not storability.is_write(Request(b"OPTIONS", b"/x", lines()))
    assert graphql.is_graphql(Request(b"POST", b"/graphql?x", lines()))
    assert not graphql.is_graphql(Request(b"POST", b"/graphqlx", lines()))
    assert graphql.is_mutation(b'{"query":"mutation {x}"}')
    assert not graphql.is_mutation(b'{"query":"{x}"}')


@pytest.mark.parametrize(
    ("content", "mutates"),
    [
        (b'{"query":"\\u006dutation {x}"}', True),
        (b'{"query":"mut\\u0061tion {x}"}', True),
        ('{"query":"mutation {x}"}'.encode("utf-16"), True),
        ('{"query":"mutation {x}"}'.encode("utf-16-le"), True),
        ('{"query":"mutation {x}"}'.encode("utf-32-be"), True),
        (b'+AHsAIgBxAHUAZQByAHkAIg-:"x"}', True),
        (b"query=%6dutation+%7Bx%7D", True),
        (b"\x1f\x8b\x08\x00\x00", True),
        (b'\xff{"query":"{x}"}', True),
        (b'{"query":"{x(y: \\"\xfc\\")}"}', True),
        (b"", True),
        (b"{x}\0", True),
        ('{"query":"query { search(query: \\"\u00fc\\") {x}\\n}"}'.encode(), False),
        (b' \r\n\t{"query":"{x}"}', False),
        (b'[{"query":"{x}"}]', False),
    ],
)
def test_only_plain_text_is_a_query(content: bytes, mutates: bool) -> None:
    """What could spell the word in another way counts as a write."""
    assert graphql.is_mutation(content) is mutates


def test_what_passes_on_is_not_what_delimits() -> None:
    """Framing and hop-by-hop fields are each connection's own."""
    sent = lines((b"content-length", b"1"), (b"connection", b"x-hop"), (b"x-hop", b"1"), ETAG)
    assert storability.of_this_answer(sent) == lines(ETAG)


def test_vary_names_accept_encoding_once() -> None:
    """It is added where neither it nor `*` is there."""
    assert storability.adds_accept_encoding(None) == b"Accept-Encoding"
    assert storability.adds_accept_encoding(b"*") == b"*"
    assert storability.adds_accept_encoding(b"Accept") == b"Accept, Accept-Encoding"
    assert storability.adds_accept_encoding(b"accept-encoding") == b"accept-encoding"


@pytest.mark.parametrize(
    ("value", "takes"),
    [
        (None, False),
        (b"", False),
        (b"gzip", True),
        (b"br;q=1, x-gzip;q=0.5", True),
        (b"*", True),
        (b"gzip;q=0", False),
        (b"gzip;q=0.1, identity;q=0.5", False),
        (b"gzip;q=often", False),
        (b"gzip;level=1", True),
        (b"deflate", False),
    ],
)
def test_who_takes_gzip(value: bytes | None, takes: bool) -> None:
    """It must be acceptable, and no less welcome than no coding."""
    fields = lines() if value is None else lines((b"accept-encoding", value))
    assert accepts_gzip(fields) is takes


def test_agents_are_respelled() -> None:
    """None of the names is left for which content is pretty-printed."""
    spelled = respelled(b"curl/8 Wget/1 Safari/5 Firefox/9 gh/2")
    assert spelled == b"c_url/8 W_get/1 S_afari/5 F_irefox/9 gh/2"


@pytest.mark.parametrize(
    ("content", "holds"),
    [
        (b'{"download_url":"https://raw.test/a?token=AB"}', True),
        (b'{"download_url": "https://raw.test/a?b=1&TOKEN=AB"}', True),
        (b'{"u":"https://x.test/a?jwt=AB","v":1}', True),
        (b'{"u":"https://x.test/a?X-Amz-Date=1&X-Amz-Signature=AB"}', True),
        (b'{"download_url":"https://raw.test/a"}', False),
        (b'{"download_url":null,"u":"https://raw.test/a?tokens=1"}', False),
        (b'{"body":"say https://raw.test/a?token=AB"}', False),
        (b'{"body":"\\"https://raw.test/a?token=AB\\""}', False),
        (b'{"body":"?token=AB","u":"https://raw.test/a"}', False),
        (b"", False),
    ],
)
def test_urls_that_are_good_for_minutes(content: bytes, holds: bool) -> None:
    """By their parameters, where a string is such a URL; not in text that quotes one."""
    assert storability.has_short_lived_urls(content) is holds


@pytest.mark.parametrize("piece", [b'"', b'"http://', b"?token=", b'"https://?token ', b"\\", b"&"])
def test_urls_are_found_in_one_pass(piece: bytes) -> None:
    """No text that comes again and again makes it slow."""
    assert not storability.has_short_lived_urls(piece * (1_000_000 // len(piece)))


def test_a_cookie_is_not_passed_on() -> None:
    """Nor is what belongs to one connection; all else is."""
    fields = Fields(((b"Set-Cookie", b"a=b"), (b"Content-Length", b"1"), (b"X-Own", b"1")))
    assert storability.of_this_answer(fields).lines == ((b"x-own", b"1"),)
