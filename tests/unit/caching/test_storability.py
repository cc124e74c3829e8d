"""Storable responses, and the reasons against others."""

from __future__ import annotations

import pytest

from ghmirror_tw.caching import storability
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.request import Request


def lines(*pairs: tuple[bytes, bytes]) -> Fields:
    return Fields(pairs)


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
def test_storable_responses(
    status: int, pairs: list[tuple[bytes, bytes]], reason: str | None
) -> None:
    """A complete 200 with a validator, with any `Vary`."""
    request = Request(b"GET", b"/x", lines())
    assert storability.reason_in_head(request, status, lines(JSON, *pairs), API) == reason


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
def test_responses_of_other_media_types_are_not_stored(
    accept: bytes | None, content_type: bytes | None, fits: bool
) -> None:
    """A page in HTML is a load balancer's, unless one of GitHub's own media types was requested."""
    fields = () if accept is None else ((b"accept", accept),)
    pairs = (ETAG,) if content_type is None else (ETAG, (b"content-type", content_type))
    request = Request(b"GET", b"/x", lines(*fields))
    reason = storability.reason_in_head(request, 200, lines(*pairs), API)
    assert reason == (None if fits else "not-json")


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
def test_short_lived_urls(content: bytes, holds: bool) -> None:
    """By their parameters, where a string is such a URL; not in text that quotes one."""
    assert storability.has_short_lived_urls(content) is holds


@pytest.mark.parametrize(
    ("content", "is_delimited", "reason"),
    [(b"", True, None), (b"", False, "uncertain-end"), (None, True, "too-large")],
)
def test_content_without_a_certain_end_is_not_stored(
    content: bytes | None, is_delimited: bool, reason: str | None
) -> None:
    """Nor is content that is too large to be held."""
    assert storability.reason_in_length(content, is_delimited=is_delimited) == reason


def test_short_lived_urls_are_a_reason_in_json_whose_tag_does_not_cover_them() -> None:
    """An entity-tag that is a hash of the content changes with each URL."""
    content, text = b'{"u":"https://x.test/a?jwt=AB"}', lines((b"content-type", b"text/plain"))
    reason = storability.reason_in_content(lines(JSON), content, covered=False)
    assert reason == "short-lived-urls"
    assert storability.reason_in_content(lines(JSON), content, covered=True) is None
    assert storability.reason_in_content(lines(JSON), b"{}", covered=False) is None
    assert storability.reason_in_content(text, content, covered=False) is None


@pytest.mark.parametrize("piece", [b'"', b'"http://', b"?token=", b'"https://?token ', b"\\", b"&"])
def test_urls_are_found_in_one_pass(piece: bytes) -> None:
    """The time of the search is linear."""
    assert not storability.has_short_lived_urls(piece * (1_000_000 // len(piece)))
