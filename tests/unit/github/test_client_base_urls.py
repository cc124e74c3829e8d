"""The URLs in responses lead to the host of the request, or to GitHub."""

import pytest

from ghmirror_tw.github.client_base_urls import BaseUrlSelector
from ghmirror_tw.github.url_rewriting import BaseUrls
from ghmirror_tw.http.fields import Fields
from ghmirror_tw.http.request import BadRequestError

API = b"https://api.github.com"
UPLOADS = b"https://uploads.github.com"
PUBLIC = b"https://m.example:8443/x"
GITHUB = BaseUrls(API, UPLOADS)


def base(
    host: str,
    *,
    proto: str | None = None,
    forwarded: str | None = None,
    secure: bool = False,
    trusted: bool = False,
    addressing: BaseUrlSelector = BaseUrlSelector(API, UPLOADS),  # noqa: B008 - a value
) -> BaseUrls:
    fields = [
        (name, value.encode())
        for name, value in ((b"X-Forwarded-Proto", proto), (b"X-Forwarded-Host", forwarded))
        if value is not None
    ]
    given = Fields(tuple(fields))
    return addressing.base(host.encode(), given, b"/api/v3", secure=secure, trusted=trusted)


def at(root: str) -> BaseUrls:
    return BaseUrls(f"{root}/api/v3".encode(), f"{root}/api/uploads".encode())


@pytest.mark.parametrize(
    ("host", "proto", "secure", "trusted", "root"),
    [
        ("m.test:8080", None, False, False, "http://m.test:8080"),
        ("m.test", None, True, False, "https://m.test"),
        ("m.test", "https", False, False, "https://m.test"),
        ("m.test", "HTTPS, http", False, False, "https://m.test"),
        ("m.test", "http", True, False, "https://m.test"),
        ("m.test", "ftp", False, False, "http://m.test"),
        ("m.test", "http", True, True, "http://m.test"),
        ("m.test", "https", False, True, "https://m.test"),
        ("m.test", "ftp", True, True, "https://m.test"),
        ("[::1]:80", None, False, False, "http://[::1]:80"),
        ("[::1]", None, False, False, "http://[::1]"),
    ],
)
def test_schemes(host: str, proto: str | None, secure: bool, trusted: bool, root: str) -> None:
    """`https` is believed of every client, `http` of a trusted proxy."""
    assert base(host, proto=proto, secure=secure, trusted=trusted) == at(root)


def test_hosts() -> None:
    """The host of a trusted proxy is believed, and no other."""
    assert base("a", forwarded="b, c") == at("http://a")
    assert base("a", forwarded="b, c", trusted=True) == at("http://b")
    with pytest.raises(BadRequestError):
        base("a", forwarded="b/c", trusted=True)


@pytest.mark.parametrize(
    ("api", "host", "same"),
    [
        ("https://api.github.com", "api.github.com", True),
        ("https://api.github.com", "API.GitHub.com:443", True),
        ("https://api.github.com", "api.github.com:8080", False),
        ("https://api.github.com", "m.test", False),
        ("https://ghe.test:8443/api/v3", "ghe.test:8443", True),
        ("https://ghe.test:8443/api/v3", "ghe.test", False),
        ("http://[::1]:3000", "[::1]:3000", True),
        ("http://[::1]", "[::1]", True),
    ],
)
def test_the_host_of_github(api: str, host: str, same: bool) -> None:
    """A client that used it, through a transparent proxy, gets GitHub's URLs as they are."""
    addressing = BaseUrlSelector(api.encode(), UPLOADS, PUBLIC)
    expected = BaseUrls(api.encode(), UPLOADS)
    assert (base(host, addressing=addressing) == expected) is same
    assert (base(host, addressing=addressing, trusted=True) == expected) is same


def test_without_uploads() -> None:
    """GitHub may have no URL for uploads."""
    addressing = BaseUrlSelector(API, None)
    assert base("api.github.com", addressing=addressing) == BaseUrls(API, b"")


@pytest.mark.parametrize(
    ("host", "trusted", "public"),
    [
        ("m.example:8443", False, True),
        ("M.example", False, True),
        ("m.example:443", False, False),
        ("inside:8080", False, False),
        ("inside:8080", True, True),
    ],
)
def test_public_url(host: str, trusted: bool, public: bool) -> None:
    """It counts for requests with its host and through trusted proxies."""
    addressing = BaseUrlSelector(API, UPLOADS, PUBLIC)
    expected = at(PUBLIC.decode() if public else f"http://{host}")
    assert base(host, addressing=addressing, trusted=trusted) == expected


@pytest.mark.parametrize(
    ("proto", "trusted", "public", "ignored"),
    [
        ("https", False, b"", True),
        ("https", True, b"", False),
        ("https", False, PUBLIC, False),
        (None, False, b"", False),
    ],
)
def test_ignored_fields(proto: str | None, trusted: bool, public: bytes, ignored: bool) -> None:
    """They show a proxy for which the mirror is not configured."""
    fields = Fields(() if proto is None else ((b"X-Forwarded-Proto", proto.encode()),))
    assert BaseUrlSelector(API, UPLOADS, public).ignores(fields, trusted=trusted) is ignored
